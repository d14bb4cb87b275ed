"""Alerts that money may be burning: releases that take too long and orphans that stay, repeated while it is so.

The sweep alone sends them, and notes that it did only afterwards: a process that dies in between sends an alert twice,
with the same id, and never loses one.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from shared.control.garbage_report import GarbageReports
from shared.control.records import Records
from shared.control.sweep.base import Cadence, TaskRun, Walk
from shared.domain.instance import InstanceRecord
from shared.domain.messages import GarbageNotice
from shared.errors import StaleRecordError
from shared.lifecycle.observations import StillReleasing
from shared.lifecycle.termination import is_alert_due
from shared.storage.base import ORPHAN, InstanceStore, Marker, Versioned

log = logging.getLogger("gpulaunch.sweep")

RELEASE_ALERTED = "release-alerted"
"""Markers of the clusters that an alert was sent for; the text is the number of its event."""
ORPHAN_ALERTED = "orphan-alerted"
"""Markers of the orphans that an alert was sent for, and when."""
EVERY = timedelta(minutes=10)
_NAMED = 10
"""Nodes named in an alert, at most."""
ORPHAN_LATE = timedelta(minutes=15)
"""From the first sight of an orphan: it is deleted after five minutes, and a deletion takes up to five more."""


@dataclass(frozen=True)
class LateReleases:
    """Sends the alerts of releases that take too long, and raises them where no step gets as far."""

    store: InstanceStore
    records: Records
    send: Callable[[InstanceRecord, int], None]
    """Sends an event of a record to the webhooks. Raises StoreUnavailableError."""
    tidying: Cadence = field(default_factory=lambda: Cadence(EVERY))
    name = "late_releases"

    def begin(self, now: datetime) -> TaskRun:
        return _Late(self, now)

    def alert(self, record: InstanceRecord, sent: dict[str, str]) -> int:
        """Send the latest alert of a record's release unless that was done; how many were sent."""
        attempt = record.attempts[-1]
        number = attempt.alert_event
        if number is None or sent.get(attempt.cluster_name) == str(number):
            return 0
        self.send(record, number)
        at = attempt.alerted_at or record.updated_at
        self.store.put_marker(Marker(kind=RELEASE_ALERTED, key=attempt.cluster_name, at=at, text=str(number)))
        return 1


@dataclass
class _Late(TaskRun):
    task: LateReleases
    now: datetime
    _found: list[InstanceRecord] = field(default_factory=list[InstanceRecord], init=False)

    def see(self, found: Versioned) -> None:
        record, attempt = found.record, found.record.attempt
        if attempt is None or attempt.release_since is None or attempt.gone_at is not None:
            return
        if is_alert_due(attempt, self.now, self.task.records.lifecycle.timeouts):
            try:
                changed = self.task.records.change(record.instance_id, StillReleasing(), found)
            except StaleRecordError:
                return  # the next sweep finds it again, unless its release has ended
            record = changed or record
        if record.attempts[-1].alert_event is not None:
            self._found.append(record)

    def finish(self, walk: Walk) -> int:
        tidy = walk.complete and self.task.tidying.take(self.now)
        if not self._found and not tidy:
            return 0
        sent = {marker.key: marker.text for marker in self.task.store.markers(RELEASE_ALERTED)}
        if tidy:
            for name in sent.keys() - {record.attempts[-1].cluster_name for record in self._found}:
                self.task.store.drop_marker(RELEASE_ALERTED, name)
        return sum(self.task.alert(record, sent) for record in self._found)


@dataclass(frozen=True)
class StayingOrphans:
    """Sends alerts of orphans that are still there although the garbage collection deletes them."""

    store: InstanceStore
    reports: GarbageReports
    send: Callable[[GarbageNotice], None]
    """Sends a notice to the webhooks. Raises StoreUnavailableError."""
    again: timedelta
    cadence: Cadence = field(default_factory=lambda: Cadence(EVERY))
    name = "staying_orphans"

    def begin(self, now: datetime) -> TaskRun | None:
        return _Orphans(self, now) if self.cadence.take(now) else None

    def alert(self, now: datetime) -> int:
        orphans = [marker for marker in self.store.markers(ORPHAN) if now - marker.at >= ORPHAN_LATE]
        last = {marker.key: marker.at for marker in self.store.markers(ORPHAN_ALERTED)}
        for name in last.keys() - {marker.key for marker in orphans}:
            self.store.drop_marker(ORPHAN_ALERTED, name)
        due = [one for one in orphans if one.key not in last or now - last[one.key] >= self.again]
        if not due:
            return 0
        waiting = {one.cluster_name for one in self.reports.read().report.waiting}  # they have an alert of their own
        due = [one for one in due if one.key not in waiting]
        if not due:
            return 0
        names = ", ".join(orphan.key for orphan in due[:_NAMED])
        text = f"Nodes that belong to no instance are still there after their deletion and may cost money: {names}."
        log.error("%s", text, extra={"event": "alert"})
        self.send(GarbageNotice(at=now, reason="staying", count=len(due), message=text))
        for orphan in due:
            self.store.put_marker(Marker(kind=ORPHAN_ALERTED, key=orphan.key, at=now))
        return len(due)


@dataclass(frozen=True)
class _Orphans(TaskRun):
    task: StayingOrphans
    now: datetime

    def finish(self, walk: Walk) -> int:  # noqa: ARG002
        return self.task.alert(self.now)
