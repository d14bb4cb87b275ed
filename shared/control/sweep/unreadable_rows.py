"""Rows that cannot be read: alert every four hours, and go on with those that a user has terminated."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from shared.control.sweep.base import ALERT_EVERY, TaskRun, Walk, each
from shared.control.termination import UnreadableTermination
from shared.domain.messages import UnreadableNotice
from shared.storage.base import InstanceStore, Marker

log = logging.getLogger("gpulaunch.sweep")

UNREADABLE = "unreadable"
"""Markers of the last alerts about such rows; the key is the instance's id."""


@dataclass(frozen=True)
class UnreadableRows:
    """Takes care of unreadable rows; two reads where there are any."""

    store: InstanceStore
    termination: UnreadableTermination
    alert: Callable[[UnreadableNotice], None]
    """Sends to the webhooks. Raises StoreUnavailableError."""
    name = "unreadable_rows"

    def begin(self, now: datetime) -> TaskRun:
        return _Run(self, now)


@dataclass(frozen=True)
class _Run(TaskRun):
    task: UnreadableRows
    now: datetime

    def finish(self, walk: Walk) -> int:
        if not walk.unreadable:
            return 0
        task = self.task
        alerted_at = {marker.key: marker.at for marker in task.store.markers(UNREADABLE)}
        requested = task.termination.requested()
        for row in walk.unreadable:
            last = alerted_at.get(row.instance_id)
            if last is None or self.now - last >= ALERT_EVERY:
                text = f"{row.instance_id} cannot be read: {row.why}. Its node is kept; DELETE terminates it."
                log.error("%s", text, extra={"event": "unreadable", "instance_id": row.instance_id})
                # If the marker is not written, the alert is repeated with the same id.
                task.alert(UnreadableNotice(at=self.now, instance_id=row.instance_id, message=text))
                marker = Marker(kind=UNREADABLE, key=row.instance_id, at=self.now, text=row.why[:200])
                task.store.put_marker(marker)
        wanted = [row for row in walk.unreadable if row.instance_id in requested]
        return each(wanted, task.termination.advance, lambda row: row.instance_id)
