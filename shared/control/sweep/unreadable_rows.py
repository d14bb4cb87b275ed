"""Rows that cannot be read: alert once for each, and go on with those that a user has terminated."""

import logging
from dataclasses import dataclass, field
from datetime import datetime

from shared.control.sweep.base import TaskRun, Walk
from shared.control.termination import UnreadableTermination
from shared.storage.base import InstanceStore, Marker, Unreadable

log = logging.getLogger("gpulaunch.sweep")

UNREADABLE = "unreadable"
"""Markers of the rows that an alert was raised for; the key is the instance's id."""


@dataclass(frozen=True)
class UnreadableRows:
    """Takes care of unreadable rows; one read where there are any."""

    name = "unreadable_rows"

    store: InstanceStore
    termination: UnreadableTermination

    def begin(self, now: datetime) -> TaskRun:
        return _Run(self, now)

    def settle(self, rows: list[Unreadable], now: datetime) -> int:
        """Alert, and terminate what is to be terminated; how many rows were closed."""
        known = {marker.key for marker in self.store.markers(UNREADABLE)}
        requested = self.termination.requested()
        closed = 0
        for row in rows:
            if row.instance_id not in known:
                log.error(
                    "%s cannot be read: %s. Its node is kept; DELETE terminates it.",
                    row.instance_id,
                    row.why,
                    extra={"event": "unreadable", "instance_id": row.instance_id},
                )
                self.store.put_marker(Marker(kind=UNREADABLE, key=row.instance_id, at=now, text=row.why[:200]))
            if row.instance_id in requested and self.termination.advance(row):
                closed += 1
        return closed


@dataclass
class _Run(TaskRun):
    task: UnreadableRows
    now: datetime
    _rows: list[Unreadable] = field(default_factory=list[Unreadable], init=False)

    def see_unreadable(self, row: Unreadable) -> None:
        self._rows.append(row)

    def finish(self, walk: Walk) -> int:  # noqa: ARG002 - the next sweep sees the others
        return self.task.settle(self._rows, self.now) if self._rows else 0
