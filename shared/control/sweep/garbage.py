"""Garbage collection: delete nodes that the provider runs and no live record knows, in two passes.

One pass marks an orphan, a later one deletes it if it is still an orphan, so that no single wrong answer costs a node.
"""

import logging
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from shared.control.clusters import ClusterListing, RunningClusters
from shared.control.sweep.base import TaskRun, Walk, is_time
from shared.domain.instance import AttemptState
from shared.domain.provider import Cluster
from shared.storage.base import ORPHAN, InstanceStore, Marker, Versioned

log = logging.getLogger("gpulaunch.garbage")

COLLECT_EVERY = timedelta(minutes=2)
"""Between two collections: each costs one listing of the cloud, and an orphan gets five minutes' grace anyway."""
GRACE = timedelta(minutes=5)
"""From the first sight of an orphan to its deletion, and from a node's creation to its first mark: an interrupted step
and the message that comes again take less."""


@dataclass(frozen=True)
class GarbageCollection:
    name = "collected"

    store: InstanceStore
    listing: ClusterListing
    workspace: str

    def begin(self, now: datetime) -> TaskRun | None:
        """Start a run.

        The cloud is listed before the records: what is launched in between is in neither list, or in the records'
        alone.
        """
        return _Run(self, self._read(now), now) if is_time(now, COLLECT_EVERY) else None

    def _read(self, now: datetime) -> RunningClusters:
        return self.listing.read(skypilot=self.listing.should_list_skypilot(now))

    def collect(self, running: RunningClusters, known: set[str], now: datetime) -> int:
        """Mark the orphans seen for the first time, delete those marked long enough; how many were deleted.

        `known` are the clusters of all attempts that live records don't call deleted, read after `running`.
        """
        orphans = {
            name for name, (_, cluster) in running.clusters.items() if name not in known and self._is_ours(cluster, now)
        }
        markers = {marker.key: marker for marker in self.store.markers(ORPHAN)}
        deleted = 0
        for name in sorted(orphans):
            source = running.clusters[name][0]
            if name not in markers:
                log.warning("%s is known to no live record; it is deleted unless one claims it soon", name)
                self.store.put_marker(Marker(kind=ORPHAN, key=name, at=now, text=source))
            elif now - markers[name].at >= GRACE:
                deleted += self.listing.delete(source, name)
        if running.complete:
            for name in sorted(markers.keys() - orphans):
                self.store.drop_marker(ORPHAN, name)
        return deleted

    def _is_ours(self, cluster: Cluster, now: datetime) -> bool:
        if cluster.gc_protected or cluster.workspace not in (None, self.workspace):
            return False
        return cluster.created_at is None or now - cluster.created_at >= GRACE


@dataclass
class _Run(TaskRun):
    task: GarbageCollection
    running: RunningClusters
    now: datetime
    _known: set[str] = field(default_factory=set[str], init=False)

    def see(self, found: Versioned) -> None:
        attempts = found.record.attempts
        self._known.update(one.cluster_name for one in attempts if one.state is not AttemptState.GONE)

    def finish(self, walk: Walk) -> int:
        if not walk.complete:
            # A record that was not seen would make its node an orphan.
            return 0
        for row in walk.unreadable:
            # Its node may be in use; whatever has the instance's name is not garbage.
            self._known.update(name for name in self.running.clusters if row.owns(name))
        return self.task.collect(self.running, self._known, self.now)
