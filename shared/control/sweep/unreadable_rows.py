"""Rows that cannot be read: alert every four hours, and go on with those that a user has terminated."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from shared.control.sweep.base import ALERT_EVERY, Cadence, TaskRun, Walk, each
from shared.control.termination import Terminator
from shared.domain.messages import UnreadableNotice
from shared.storage.base import InstanceStore, Marker

log = logging.getLogger("gpulaunch.sweep")

UNREADABLE = "unreadable"
"""Markers of the last alerts about such rows; the key is the instance's id."""
EVERY = timedelta(minutes=5)
"""Between two looks for rows that a user terminated and that can be read again: one query."""
TIDY_EVERY = timedelta(hours=1)


@dataclass(frozen=True)
class UnreadableRows:
    """Takes care of unreadable rows; two reads where there are any."""

    store: InstanceStore
    terminator: Terminator
    alert: Callable[[UnreadableNotice], None]
    """Sends to the webhooks. Raises StoreUnavailableError."""
    looking: Cadence = field(default_factory=lambda: Cadence(EVERY))
    tidying: Cadence = field(default_factory=lambda: Cadence(TIDY_EVERY))
    name = "unreadable_rows"

    def begin(self, now: datetime) -> TaskRun:
        return _Run(self, now)


@dataclass(frozen=True)
class _Run(TaskRun):
    task: UnreadableRows
    now: datetime

    def finish(self, walk: Walk) -> int:
        task, unreadable = self.task, {row.instance_id for row in walk.unreadable}
        tidy = walk.complete and task.tidying.take(self.now)
        alerted = task.store.markers(UNREADABLE) if unreadable or tidy else []
        alerted_at = {marker.key: marker.at for marker in alerted}
        look = task.looking.take(self.now) or unreadable
        requested = task.terminator.unreadable.requested() if look else set[str]()
        for row in walk.unreadable:
            last = alerted_at.get(row.instance_id)
            if last is None or self.now - last >= ALERT_EVERY:
                text = f"{row.instance_id} cannot be read: {row.why}. Its node is kept; DELETE terminates it."
                log.error("%s", text, extra={"event": "unreadable", "instance_id": row.instance_id})
                # If the marker is not written, the alert is repeated with the same id.
                task.alert(UnreadableNotice(at=self.now, instance_id=row.instance_id, message=text))
                task.store.put_marker(Marker(kind=UNREADABLE, key=row.instance_id, at=self.now))
        if tidy:
            # Not at once: while two versions take turns, the other one may find it unreadable again.
            over = {key for key, at in alerted_at.items() if self.now - at >= ALERT_EVERY}
            for instance_id in sorted(over - unreadable):
                task.store.drop_marker(UNREADABLE, instance_id)
        wanted = [row for row in walk.unreadable if row.instance_id in requested]
        done = each(wanted, task.terminator.unreadable.advance, lambda row: row.instance_id)
        readable = sorted(requested - unreadable) if walk.complete else []
        return done + each(readable, task.terminator.terminate_again, str)
