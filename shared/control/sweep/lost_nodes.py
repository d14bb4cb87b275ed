"""Ask nodes that the table has lost, where they can't call: it renews their lease, as a call does elsewhere.

A node in use whose record is lost, or can't be read by this version, runs until a person decides or its own deadline.
Only the records' own nodes are polled otherwise, so it would end itself with its lease.
"""

import logging
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from shared.backends.base import Backends
from shared.clock import Clock
from shared.control.adoption import Adopter
from shared.control.clusters import ClusterListing
from shared.control.launch_spec import LaunchSpecs, attempt_ref
from shared.control.node_calls import CALLED_FOR
from shared.control.sweep.base import Cadence, TaskRun, Walk
from shared.domain.instance import instance_of
from shared.domain.provider import Cluster, NodeTarget, ProviderUnavailableError
from shared.storage.base import UNRECORDED_CALLER, InstanceStore, Marker, UnreadableRecordError

log = logging.getLogger("gpulaunch.garbage")

EVERY = timedelta(minutes=2)
"""Between two questions: the shortest lease is three minutes, the usual one fifteen."""
MOST = 50
"""Nodes asked in one run; each takes SkyPilot two or three calls to find its address."""


@dataclass(frozen=True)
class LostNodes:
    """Asks those that the garbage collection, which ends before it, found without a record; costs nothing else."""

    name = "lost_nodes"

    store: InstanceStore
    listing: ClusterListing
    adopter: Adopter
    specs: LaunchSpecs
    backends: Backends
    clock: Clock
    cadence: Cadence = field(default_factory=lambda: Cadence(EVERY))

    def begin(self, now: datetime) -> TaskRun | None:
        # Nodes that call keep their lease by that.
        asked = self.specs.settings.public_url is None and "real" in self.listing.modes
        return _Run(self) if self.cadence.take(now) and asked else None

    def ask(self, names: Iterable[str], clusters: dict[str, Cluster]) -> int:
        """Ask these nodes, and note those that answer; how many did."""
        found = [self._target(clusters[name]) for name in sorted(names)[:MOST]]
        answers = self.backends("real").nodes.statuses([target for target in found if target is not None])
        now = self.clock.now()
        for name in sorted(answers):
            self.store.put_marker(Marker(kind=UNRECORDED_CALLER, key=name, at=now, until=now + CALLED_FOR))
        return len(answers)

    def is_lost(self, name: str) -> bool:
        """Whether no record has that attempt; one that can't be read may."""
        try:
            found = self.store.load(instance_of(name))
        except UnreadableRecordError:
            return True
        return found is None or all(attempt.cluster_name != name for attempt in found.record.attempts)

    def _target(self, cluster: Cluster) -> NodeTarget | None:
        record = self.adopter.as_adopted(cluster)
        if record is None:
            return None
        try:
            view = self.backends("real").provider.describe(attempt_ref(record))
        except ProviderUnavailableError as error:
            log.warning("%s has no record and cannot be asked: %s", cluster.cluster_name, error)
            return None
        return self.specs.node_target(record, view.address)


@dataclass(frozen=True)
class _Run(TaskRun):
    task: LostNodes

    def finish(self, walk: Walk) -> int:
        task = self.task
        orphans = task.adopter.reports.orphans
        if not orphans and not walk.unreadable:
            return 0
        clusters = {name: cluster for name, (_, cluster) in task.listing.read().clusters.items()}
        ours = [name for name, cluster in clusters.items() if cluster.deployment == task.adopter.deployment]
        lost = [name for name in ours if name in orphans or any(row.owns(name) for row in walk.unreadable)]
        return task.ask([name for name in lost if task.is_lost(name)], clusters)
