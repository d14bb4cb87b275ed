"""What the garbage collection found and did not delete, stored so that every process can show and confirm it."""

import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from pydantic import ValidationError

from gpulaunch.models.base import Stored, UtcTime
from gpulaunch.models.garbage import ForeignNode, GarbageAnswer, LostNode, WaitingNode
from gpulaunch.models.problems import FieldError
from shared.clock import Clock
from shared.domain.errors import InvalidFieldsError
from shared.lifecycle.garbage import UNRECORDED
from shared.storage.base import UNRECORDED_CALLER, InstanceStore, Marker

log = logging.getLogger("gpulaunch.garbage")

GARBAGE = "garbage"
"""Kind of the markers: one with the report, and one for each cluster whose deletion was confirmed."""
DELETED = "deleted"
"""Kind of the markers of clusters that a person has found to be deleted."""
CONFIRMED_FOR = timedelta(hours=1)
"""How long a confirmation holds: many passes, but not until the same name means something else."""
_REPORT = "report"


class ForeignCluster(Stored):
    cluster_name: str
    deployment: str | None = None
    since: UtcTime
    alerted: bool = False
    """Somebody knows: an alert was sent, or the node is exempt."""


class WaitingCluster(Stored):
    cluster_name: str
    since: UtcTime
    why: str


class LostCluster(Stored):
    cluster_name: str
    since: UtcTime
    why: str
    alerted_at: UtcTime | None = None


class GarbageReport(Stored):
    """What the last pass left alone, by name."""

    alerted_at: UtcTime | None = None
    """When the last alert about the waiting ones was sent."""
    foreign: tuple[ForeignCluster, ...] = ()
    waiting: tuple[WaitingCluster, ...] = ()
    lost: tuple[LostCluster, ...] = ()
    """Nodes of live records that SkyPilot has lost its records of."""


@dataclass(frozen=True)
class GarbageState:
    report: GarbageReport
    confirmed: Mapping[str, datetime]
    """Until when each confirmation holds; some may have expired."""

    def is_confirmed(self, name: str, now: datetime) -> bool:
        return name in self.confirmed and now < self.confirmed[name]


@dataclass(frozen=True)
class GarbageReports:
    """Every method may raise StoreUnavailableError."""

    store: InstanceStore
    clock: Clock
    deployment: str
    orphans: set[str] = field(default_factory=set[str], init=False, compare=False)
    """What this process's last collection found without a record that needs it; its users read the records again."""

    def read(self) -> GarbageState:
        """The last report and all confirmations; one read."""
        report = GarbageReport()
        confirmed: dict[str, datetime] = {}
        for marker in self.store.markers(GARBAGE):
            if marker.key != _REPORT:
                confirmed[marker.key] = marker.until or marker.at
                continue
            try:
                report = GarbageReport.model_validate_json(marker.text)
            except ValidationError:
                log.warning("the stored report of garbage cannot be read; the next collection replaces it")
        return GarbageState(report, confirmed)

    def write(self, before: GarbageReport, report: GarbageReport, now: datetime) -> None:
        """Store a report that says something new."""
        if report != before:
            text = report.model_dump_json(exclude_defaults=True)
            self.store.put_marker(Marker(kind=GARBAGE, key=_REPORT, at=now, text=text))

    def forget(self, names: Collection[str]) -> None:
        """Drop confirmations that have served."""
        for name in sorted(names):
            self.store.drop_marker(GARBAGE, name)

    def answer(self) -> GarbageAnswer:
        state, now = self.read(), self.clock.now()
        callers = self.store.markers(UNRECORDED_CALLER) if state.report.waiting else []
        heard = {marker.key: marker.at for marker in callers}
        return GarbageAnswer(
            deployment=self.deployment,
            waiting=[
                WaitingNode(
                    cluster_name=one.cluster_name,
                    since=one.since,
                    why=one.why,
                    confirmed_until=state.confirmed[one.cluster_name]
                    if state.is_confirmed(one.cluster_name, now)
                    else None,
                    heard_at=heard.get(one.cluster_name),
                    adoptable=one.why == UNRECORDED,
                )
                for one in state.report.waiting
            ],
            foreign=[
                ForeignNode(cluster_name=one.cluster_name, deployment=one.deployment, since=one.since)
                for one in state.report.foreign
            ],
            lost=[LostNode(cluster_name=one.cluster_name, since=one.since, why=one.why) for one in state.report.lost],
        )

    def is_deleted(self, name: str) -> bool:
        """Whether a person has found that a node no longer exists."""
        now = self.clock.now()
        return any(one.key == name and now < (one.until or one.at) for one in self.store.markers(DELETED))

    def confirm_deleted(self, names: Collection[str]) -> GarbageAnswer:
        """Believe a person that these nodes no longer exist, where the provider cannot say; for an hour.

        Raises:
            InvalidFieldsError: The provider can say it of one of them, or it is not known.
        """
        wrong = sorted(set(names) - {one.cluster_name for one in self.read().report.lost})
        if wrong:
            message = f"{', '.join(wrong[:5])}: SkyPilot has not lost its records of it; see `gpulaunch gc`."
            raise InvalidFieldsError([FieldError(field="clusters", message=message)])
        now = self.clock.now()
        for name in sorted(names):
            self.store.put_marker(Marker(kind=DELETED, key=name, at=now, until=now + CONFIRMED_FOR))
        log.warning("confirmed as deleted: %s", ", ".join(sorted(names)), extra={"event": "deleted_confirmed"})
        return self.answer()

    def confirm(self, names: Collection[str]) -> GarbageAnswer:
        """Let the next pass delete exactly these nodes, if they are garbage then; repeating it is harmless.

        Raises:
            InvalidFieldsError: One of them does not wait for a confirmation.
        """
        state, now = self.read(), self.clock.now()
        waiting = {one.cluster_name for one in state.report.waiting}
        wrong = [name for name in names if name not in waiting and not state.is_confirmed(name, now)]
        if wrong:
            message = f"{', '.join(wrong[:5])}: does not wait for a confirmation; see `gpulaunch gc`."
            raise InvalidFieldsError([FieldError(field="clusters", message=message)])
        for name in sorted(waiting.intersection(names)):
            self.store.put_marker(Marker(kind=GARBAGE, key=name, at=now, until=now + CONFIRMED_FOR))
        log.warning("confirmed as garbage: %s", ", ".join(sorted(names)), extra={"event": "garbage_confirmed"})
        return self.answer()
