"""Garbage collection: delete nodes of this deployment that the provider runs and no live record knows, in two passes.

One pass marks an orphan, a later one deletes it if it is still an orphan, so that no single wrong answer costs a node.
Whatever carries another identity, or none, is reported and never touched. A pass that would delete much, or what no
record accounts for, waits for a confirmation: see `shared.lifecycle.garbage` for the rules.
"""

import logging
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Literal

from shared.control.clusters import ClusterListing, RunningClusters
from shared.control.garbage_report import ForeignCluster, GarbageReport, GarbageReports, LostCluster, WaitingCluster
from shared.control.launch_spec import attempt_ref
from shared.control.sweep.base import ALERT_EVERY, Cadence, TaskRun, Walk, each, named
from shared.control.sweep.lost_records import LostRecords
from shared.domain.instance import AttemptState, InstanceRecord, instance_of
from shared.domain.messages import GarbageNotice
from shared.domain.provider import Cluster, NodeState
from shared.lifecycle.garbage import GRACE, UNRECORDED, Strays, may_be_ours, strays, why_wait
from shared.storage.base import (
    ORPHAN,
    UNRECORDED_CALLER,
    InstanceStore,
    Marker,
    UnreadableRecordError,
    Versioned,
)

log = logging.getLogger("gpulaunch.garbage")

COLLECT_EVERY = timedelta(minutes=2)
"""Between two collections: each costs one listing of the cloud, and an orphan gets five minutes' grace anyway."""
UNLABELLED_AFTER = timedelta(minutes=30)
"""How long a node may be without a label before it is worth an alert: Azure makes the group, which has none, first."""
_SILENT = "not touched, since the label gpulaunch-deployment is missing"
_CALLS_US = (
    "not touched, but they call this app and may be billing: another table launched them. Set GPULAUNCH_DEPLOYMENT to "
    "their identity before the first start on a new table, or delete them in the cloud"
)


@dataclass(frozen=True)
class GarbageCollection:
    name = "collected"

    store: InstanceStore
    listing: ClusterListing
    deployment: str
    """This deployment's identity."""
    reports: GarbageReports
    losses: LostRecords
    alert: Callable[[GarbageNotice], bool]
    """Sends to the webhooks; False: storage refused it, so that it is to be sent again."""
    cadence: Cadence = field(default_factory=lambda: Cadence(COLLECT_EVERY))

    def begin(self, now: datetime) -> TaskRun | None:
        """Start a run.

        The cloud is listed before the records: what is launched in between is in neither list, or in the records'
        alone.
        """
        return _Run(self, self._read(now), now) if self.cadence.take(now) else None

    def _read(self, now: datetime) -> RunningClusters:
        return self.listing.read(skypilot=self.listing.should_list_skypilot(now))

    def collect(self, running: RunningClusters, known: set[str], listed: set[str], now: datetime) -> int:
        """Mark the orphans seen for the first time, delete those marked long enough; how many were deleted.

        `known` are the clusters of all attempts that live records don't call deleted, read after `running`; `listed`
        are those of them that SkyPilot's records have shown.
        """
        state = self.reports.read()
        markers = {marker.key: marker for marker in self.store.markers(ORPHAN)}
        lost = self.losses.find(running, listed | self._unlisted(running, markers), state.report.lost, now)
        if lost:
            # What SkyPilot does not list may still be there.
            running = replace(running, complete=False)
        clusters = {name: cluster for name, (_, cluster) in running.clusters.items()}
        recorded, needed = self._looked_up(clusters.values(), known)
        known = known | needed
        found = strays(clusters.values(), known, recorded, self.deployment, now)
        orphans = found.garbage | found.unrecorded
        self.reports.orphans.clear()
        self.reports.orphans.update(orphans)
        due: set[str] = set()
        for name in sorted(orphans):
            if name not in markers:
                log.warning("%s is known to no live record; unless one claims it soon, it is garbage", name)
                source = running.clusters[name][0]
                self.store.put_marker(Marker(kind=ORPHAN, key=name, at=now, text=source))
            elif now - markers[name].at >= GRACE:
                due.add(name)
        held = self._held(running, found, due, known)
        # A node that once waited needs a confirmation even after the others are deleted and it is the only one left.
        held |= {one.cluster_name: one.why for one in state.report.waiting if one.cluster_name in due - held.keys()}
        waiting = {name: why for name, why in held.items() if not state.is_confirmed(name, now)}
        self._report(state.report, running, found, waiting, lost, now)
        if running.complete:
            for name in sorted(markers.keys() - orphans):
                self.store.drop_marker(ORPHAN, name)
            self.reports.forget(state.confirmed.keys() - orphans)

        def delete(name: str) -> bool:
            return self.listing.delete(running.clusters[name][0], name)

        return each(sorted(due - waiting.keys()), delete, str)

    def _unlisted(self, running: RunningClusters, markers: dict[str, Marker]) -> set[str]:
        """The orphans that SkyPilot has listed, and that nothing lists now: deleted, or in records that it has lost.

        Those of which a person has found that they no longer exist are dropped from `markers`.
        """
        if running.listed is None:
            return set()
        unlisted = {name for name, marker in markers.items() if marker.text == "real"} - running.clusters.keys()
        for name in sorted(unlisted):
            if self.reports.is_deleted(name):
                self.store.drop_marker(ORPHAN, name)
                del markers[name]
        return unlisted & markers.keys()

    def _looked_up(self, clusters: Iterable[Cluster], known: Collection[str]) -> tuple[set[str], set[str]]:
        """Those of which a record has that attempt, and those that it needs, although this pass did not see it.

        A read for each that can be ours, of which few are unknown. A task that fails at a record has not seen it.
        """
        recorded: set[str] = set()
        needed: set[str] = set()
        for cluster in clusters:
            name = cluster.cluster_name
            if name in known or not may_be_ours(cluster, self.deployment):
                continue
            try:
                found = self.store.load(instance_of(name))
            except UnreadableRecordError as error:
                # Some version of ours wrote it, for an instance of this id.
                (recorded if error.unreadable.ended else needed).add(name)
            else:
                attempts = [] if found is None else found.record.attempts
                if any(attempt.cluster_name == name for attempt in attempts):
                    recorded.add(name)
                if found is not None and name in _needed(found.record):
                    needed.add(name)
        return recorded, needed

    def _held(self, running: RunningClusters, found: Strays, due: set[str], known: set[str]) -> dict[str, str]:
        """The due orphans that nothing but a confirmation deletes, and why."""
        held = dict.fromkeys(due & found.unrecorded, UNRECORDED)
        nodes = {name for name, (_, cluster) in running.clusters.items() if cluster.state is not NodeState.ABSENT}
        ours = {name for name in nodes if running.clusters[name][1].deployment == self.deployment}
        # Nothing runs on remains: no number of them is a sign that something in use is taken for garbage.
        lost = (found.garbage | found.unrecorded | found.young) & nodes
        why = why_wait(len(lost), len(ours | (nodes & known)))
        return held if why is None else dict.fromkeys(due & found.garbage & nodes, why) | held

    def _report(
        self,
        before: GarbageReport,
        running: RunningClusters,
        found: Strays,
        waiting: dict[str, str],
        lost: tuple[LostCluster, ...],
        now: datetime,
    ) -> None:
        """Store what was left alone, and alert about it when that is due."""
        unseen = () if running.complete else (*before.foreign, *before.waiting)
        kept = {one.cluster_name: one for one in unseen if one.cluster_name not in running.clusters}
        foreign = self._foreign(before, found.foreign, now)
        since = {one.cluster_name: one.since for one in before.waiting}
        held = [WaitingCluster(cluster_name=name, since=since.get(name, now), why=why) for name, why in waiting.items()]
        foreign += [one for one in kept.values() if isinstance(one, ForeignCluster)]
        held += [one for one in kept.values() if isinstance(one, WaitingCluster)]
        alerted_at = before.alerted_at if held else None
        if held and (alerted_at is None or now - alerted_at >= ALERT_EVERY or not waiting.keys() <= since.keys()):
            why = "; ".join(sorted({one.why for one in held}))
            names = sorted(one.cluster_name for one in held)
            # Sent before it is noted: a crash in between repeats the alert rather than losing it.
            text = f"waiting for `gpulaunch gc --confirm`, and maybe billing: {why}"
            alerted_at = now if self._alert(now, "waiting", names, text) else None
        report = GarbageReport(
            alerted_at=alerted_at,
            foreign=tuple(sorted(foreign, key=lambda one: one.cluster_name)),
            waiting=tuple(sorted(held, key=lambda one: one.cluster_name)),
            lost=lost,
        )
        self.reports.write(before, report, now)

    def _foreign(self, before: GarbageReport, found: Mapping[str, Cluster], now: datetime) -> list[ForeignCluster]:
        """What is not ours, each logged at its first sight; an alert, once, where it may be ours nevertheless."""
        earlier = {one.cluster_name: one for one in before.foreign}
        foreign: list[ForeignCluster] = []
        for name, cluster in sorted(found.items()):
            seen = earlier.get(name)
            if seen is None:
                seen = ForeignCluster(cluster_name=name, since=now, alerted=cluster.gc_protected)
                log.warning("%s is not touched: its deployment is %s", name, cluster.deployment or "not known")
            foreign.append(seen.model_copy(update={"deployment": cluster.deployment}))
        new = [one for one in foreign if not one.alerted]
        callers = {marker.key for marker in self.store.markers(UNRECORDED_CALLER)} if new else set[str]()
        ours = [one.cluster_name for one in new if one.cluster_name in callers]
        silent = [
            one.cluster_name
            for one in new
            if one.deployment is None and one.cluster_name not in ours and now - one.since >= UNLABELLED_AFTER
        ]
        told: set[str] = set()
        for names, why in ((ours, _CALLS_US), (silent, _SILENT)):
            if names and self._alert(now, "unlabelled", names, why):
                told.update(names)
        return [one.model_copy(update={"alerted": True}) if one.cluster_name in told else one for one in foreign]

    def _alert(self, now: datetime, reason: Literal["waiting", "unlabelled"], names: list[str], text: str) -> bool:
        shown = named(names)
        log.error("%s: %s", shown, text, extra={"event": f"garbage_{reason}"})
        return self.alert(GarbageNotice(at=now, reason=reason, count=len(names), message=f"{shown}: {text}"))


def _needed(record: InstanceRecord) -> set[str]:
    """The clusters of a record's attempts that it does not call deleted."""
    if record.ended:
        return set()
    return {one.cluster_name for one in record.attempts if one.state is not AttemptState.GONE}


@dataclass
class _Run(TaskRun):
    task: GarbageCollection
    running: RunningClusters
    now: datetime
    _known: set[str] = field(default_factory=set[str], init=False)
    _listed: set[str] = field(default_factory=set[str], init=False)

    def see(self, found: Versioned) -> None:
        attempts = found.record.attempts
        if found.record.mode == "real" and attempts and attempt_ref(found.record).listed:
            self._listed.add(attempts[-1].cluster_name)
        self._known |= _needed(found.record)

    def finish(self, walk: Walk) -> int:
        if not walk.complete:
            # A record that was not seen would make its node an orphan.
            return 0
        for row in walk.unreadable:
            # Its node may be in use; whatever has the instance's name is not garbage.
            self._known.update(name for name in self.running.clusters if row.owns(name))
        return self.task.collect(self.running, self._known, self._listed & self._known, self.now)
