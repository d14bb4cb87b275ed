"""Rows that cannot be read: alert once for each, and go on with those that a user has terminated."""

import logging
from datetime import datetime

from shared.control.sweep.base import TaskRun, Walk
from shared.control.unreadable import UnreadableTermination
from shared.storage.base import InstanceStore, Marker, Unreadable

log = logging.getLogger("gpulaunch.sweep")

UNREADABLE = "unreadable"
"""Markers of the rows that an alert was raised for; the key is the instance's id."""


class UnreadableRows:
    """Takes care of unreadable rows; one read where there are any."""

    name = "unreadable_rows"

    def __init__(self, store: InstanceStore, termination: UnreadableTermination) -> None:
        self._store = store
        self._termination = termination

    def begin(self, now: datetime) -> TaskRun:
        """Start a run."""
        return _Run(self, now)

    def settle(self, rows: list[Unreadable], now: datetime) -> int:
        """Alert, and terminate what is to be terminated; how many rows were closed."""
        known = {marker.key for marker in self._store.markers(UNREADABLE)}
        requested = self._termination.requested()
        closed = 0
        for row in rows:
            if row.instance_id not in known:
                log.error(
                    "%s cannot be read: %s. Its node is kept; DELETE terminates it.",
                    row.instance_id,
                    row.why,
                    extra={"event": "unreadable", "instance_id": row.instance_id},
                )
                self._store.put_marker(Marker(kind=UNREADABLE, key=row.instance_id, at=now, text=row.why[:200]))
            if row.instance_id in requested and self._termination.advance(row):
                closed += 1
        return closed


class _Run(TaskRun):
    def __init__(self, task: UnreadableRows, now: datetime) -> None:
        self._task = task
        self._now = now
        self._rows: list[Unreadable] = []

    def see_unreadable(self, row: Unreadable) -> None:
        self._rows.append(row)

    def finish(self, walk: Walk) -> int:  # noqa: ARG002 - the next sweep sees the others
        return self._task.settle(self._rows, self._now) if self._rows else 0
