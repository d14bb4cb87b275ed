"""What a cloud itself says and does, past SkyPilot: for nodes that are silent, for garbage, for teardown, for quota.

Optional: without it the program trusts SkyPilot's books alone.
"""

from collections.abc import Sequence
from typing import Protocol

from gpulaunch.models.requests import ProviderName
from shared.domain.provider import CleanupStatus, Cluster, NodeView
from shared.domain.quota import RegionUsage


class Cloud(Protocol):
    """One subscription of one cloud. Every method may raise ProviderUnavailableError, throttling included."""

    @property
    def provider(self) -> ProviderName:
        """Whose word this is."""
        ...

    def look(self, cluster_name: str) -> NodeView | None:
        """What the cloud says of a cluster's machine; None when it has never heard of that cluster.

        Answered from one listing of all machines, at most some seconds old: it costs the same for any number of nodes.
        """
        ...

    def clusters(self) -> Sequence[Cluster]:
        """Every cluster of ours of which anything is left in the cloud: a machine, a disk, an address, a group."""
        ...

    def remove(self, cluster_name: str, region: str | None = None) -> CleanupStatus:
        """Take away all that is left of a cluster; never waits: call again until nothing is left.

        `region` saves a listing where it is known.
        """
        ...

    def usage(self, region: str) -> RegionUsage:
        """The region's quota, at most ten minutes old."""
        ...
