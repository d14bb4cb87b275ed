"""The clusters that exist, whatever the records say: in all modes in use, and in the cloud itself."""

import logging
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from gpulaunch.models.instances import Mode
from gpulaunch.models.requests import ProviderName
from shared.backends.base import Backends
from shared.clouds.base import CloudCompute
from shared.domain.provider import CleanupStatus, Cluster, ProviderUnavailableError
from shared.storage.base import ORPHAN, InstanceFilter, InstanceStore

log = logging.getLogger("gpulaunch.garbage")

SKYPILOT_EVERY = 6
"""Hours between two listings of SkyPilot's clusters while nothing lives: at a GPU's list price an orphan of a cloud
that is not asked itself costs less than keeping the server awake for a month."""
_AWAKE_MINUTES = 10
"""What such a listing may take: up to two minutes until the server is awake, then two passes with their grace."""

Source = Mode | ProviderName
"""Who is asked to delete a node: the backend of a mode, or a cloud itself where SkyPilot has lost it."""
MODES_IN_USE: Mapping[str, tuple[Mode, ...]] = {
    "simulation": ("simulation",),
    "skypilot": ("real",),
    "auto": ("real", "simulation"),
}
"""Modes that a deployment may have nodes in, by its orchestrator."""


@dataclass(frozen=True)
class RunningClusters:
    """What the providers run, as far as they could be asked."""

    clusters: Mapping[str, tuple[Source, Cluster]]
    complete: bool
    """False: a provider did not answer; nothing is concluded from what is missing."""
    listed: frozenset[str] | None = None
    """Names in the listings of the backends alone; None: one of them did not answer or was not asked."""


class ClusterListing:
    def __init__(
        self,
        store: InstanceStore,
        backends: Backends,
        clouds: Mapping[ProviderName, CloudCompute],
        modes: Iterable[Mode],
    ) -> None:
        self._store = store
        self._backends = backends
        self._clouds = clouds
        self.modes = tuple(modes)

    def should_list_skypilot(self, now: datetime) -> bool:
        """Whether to list SkyPilot's clusters in this sweep; asking wakes an API server that may be scaled to zero.

        Where nothing lives, no orphan is marked and the cloud itself is listed, there can be nothing that costs money.
        It is asked anyway for ten minutes now and then, since the first question only wakes the server.
        """
        if not self._clouds or (now.hour % SKYPILOT_EVERY == 0 and now.minute < _AWAKE_MINUTES):
            return True
        # A page of one, where the walk would begin with a thousand records.
        return bool(self._store.page(InstanceFilter(live=True), 1, None).records) or bool(self._store.markers(ORPHAN))

    def read(self, *, skypilot: bool = True) -> RunningClusters:
        """Ask for everything that runs; without `skypilot` only the cloud and the simulation."""
        found: dict[str, tuple[Source, Cluster]] = {}
        complete = True
        by_backends: set[str] | None = set()
        for mode in self.modes:
            if mode == "real" and not skypilot:
                complete, by_backends = False, None
                continue
            try:
                clusters = self._backends(mode).provider.clusters()
            except ProviderUnavailableError as error:
                log.warning("no garbage is collected in mode %s, its provider did not answer: %s", mode, error)
                complete, by_backends = False, None
                continue
            for cluster in clusters:
                found[cluster.cluster_name] = (mode, cluster)
        if by_backends is not None:
            by_backends.update(found)
        for provider, cloud in self._clouds.items() if "real" in self.modes else ():
            try:
                for cluster in cloud.clusters():
                    source, listed = found.get(cluster.cluster_name, (provider, cluster))
                    # Whose node it is, the cloud's own labels say best.
                    owner, exempt = cluster.deployment or listed.deployment, cluster.gc_protected or listed.gc_protected
                    told = cluster if cluster.machine else listed
                    found[cluster.cluster_name] = (
                        source,
                        replace(told, state=listed.state, deployment=owner, gc_protected=exempt),
                    )
            except ProviderUnavailableError as error:
                log.warning("no garbage is collected on %s itself: %s", provider, error)
                complete = False
        return RunningClusters(found, complete, None if by_backends is None else frozenset(by_backends))

    def lost(self, names: Collection[str]) -> Mapping[str, str]:
        """Those nodes of which SkyPilot has lost its records, and how; they may be running.

        Raises:
            ProviderUnavailableError: It did not answer.
        """
        return self._backends("real").provider.lost(sorted(names)) if names else {}

    def delete(self, source: Source, name: str) -> bool:
        """Delete an orphaned cluster; True once nothing is left. Keep its marker until it is no longer listed."""
        try:
            match source:
                case "real" | "simulation":
                    deleted = self._backends(source).provider.delete(name)
                case _:
                    deleted = self._clouds[source].delete(name) is CleanupStatus.NOTHING
        except ProviderUnavailableError as error:
            log.error("%s is an orphan, may be billing, and could not be deleted: %s", name, error)  # noqa: TRY400
            return False
        log.error("%s was an orphan and %s", name, "is deleted" if deleted else "is being deleted")
        return deleted
