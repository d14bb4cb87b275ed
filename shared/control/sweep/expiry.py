"""Delete rows that are no longer needed: idempotency keys, markers that have expired, events of ended instances."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from shared.control.garbage_report import DELETED, GARBAGE
from shared.control.sessions import ENDED
from shared.control.sweep.base import Cadence, TaskRun, Walk
from shared.storage.base import REFUSED_OFFER, UNRECORDED_CALLER, InstanceStore

KEPT = timedelta(days=7)
"""Longer than any client repeats a request, and than a queue would keep it."""
EVENTS_KEPT = timedelta(days=90)
"""After the end of their instance: a quarter, within which bills are questioned."""
LIFETIME = timedelta(days=30)
"""What a launch may ask for at most: whatever was launched that long before is over, but for a few whose lifetime was
changed. So events are looked for by the launch, by which they are sorted."""
EVERY = timedelta(hours=1)
MOST = 1000
"""Rows deleted in one run, in a few queries and ten transactions: the keys of 12,000 launches a day, the events of a
thousand, and no long sweep."""
_EXPIRING = (UNRECORDED_CALLER, REFUSED_OFFER, DELETED, GARBAGE, ENDED)
"""Kinds of markers with a time until which they are needed."""


@dataclass(frozen=True)
class Expiry:
    name = "expired"

    store: InstanceStore
    cadence: Cadence = field(default_factory=lambda: Cadence(EVERY))

    def begin(self, now: datetime) -> TaskRun | None:
        return _Run(self.store, now) if self.cadence.take(now) else None


@dataclass(frozen=True)
class _Run(TaskRun):
    store: InstanceStore
    now: datetime

    def finish(self, walk: Walk) -> int:  # noqa: ARG002
        store, over = self.store, self.now - EVENTS_KEPT
        markers = [one for kind in _EXPIRING for one in store.markers(kind) if one.until and one.until <= self.now]
        for marker in markers[:MOST]:
            store.drop_marker(marker.kind, marker.key)
        keys = store.expire_idempotency(self.now - KEPT, MOST)
        return len(markers[:MOST]) + keys + store.expire_events(over - LIFETIME, over, MOST)
