"""Delete rows that are no longer needed: idempotency keys a week after their launch, markers that have expired."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from shared.control.sweep.base import TaskRun, Walk, is_time
from shared.storage.base import UNRECORDED_CALLER, InstanceStore

KEPT = timedelta(days=7)
"""Longer than any client repeats a request, and than a queue would keep it."""
EVERY = timedelta(hours=1)
MOST = 1000
"""Rows deleted in one run, in one query and ten transactions: those of 12,000 launches a day, and no long sweep."""


@dataclass(frozen=True)
class Expiry:
    name = "expired"

    store: InstanceStore

    def begin(self, now: datetime) -> TaskRun | None:
        return _Run(self.store, now) if is_time(now, EVERY) else None


@dataclass(frozen=True)
class _Run(TaskRun):
    store: InstanceStore
    now: datetime

    def finish(self, walk: Walk) -> int:  # noqa: ARG002
        callers = [one for one in self.store.markers(UNRECORDED_CALLER) if one.until is None or one.until <= self.now]
        for marker in callers:
            self.store.drop_marker(marker.kind, marker.key)
        return len(callers) + self.store.expire_idempotency(self.now - KEPT, MOST)
