"""What makes a cloud: a `CloudPlugin` that its folder exports, and what can be asked of it beside the backend.

`CloudCompute` is optional: without it the program relies on SkyPilot's cluster records alone.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from gpulaunch.models.offers import Offer
from gpulaunch.models.requests import ProviderName
from shared.clock import Clock
from shared.domain.cloud import CatalogCorrections, CloudTraits
from shared.domain.provider import CleanupStatus, Cluster, NodeView
from shared.domain.quota import QuotaNeed, RegionUsage
from shared.settings import Settings


class CloudCompute(Protocol):
    """One account of one cloud. Every method but `quota_needs` may raise ProviderUnavailableError (throttling too)."""

    @property
    def provider(self) -> ProviderName:
        """The cloud that this is."""
        ...

    def describe(self, cluster_name: str) -> NodeView | None:
        """The cloud's view of a cluster's machine; None when it does not know the cluster.

        Answered from one listing of all machines, at most some seconds old: it costs the same for any number of nodes.
        """
        ...

    def clusters(self) -> Sequence[Cluster]:
        """Every cluster of ours that has anything left in the cloud: a machine, a disk, an address, a group."""
        ...

    def delete(self, cluster_name: str, region: str | None = None) -> CleanupStatus:
        """Begin to delete all that is left of a cluster. Never waits: call again until nothing is left.

        `region` saves a listing where it is known.
        """
        ...

    def usage(self, region: str) -> RegionUsage:
        """The region's quota that matters to GPU machines, at most ten minutes old."""
        ...

    def quota_needs(self, offer: Offer) -> Sequence[QuotaNeed]:
        """What one machine of an offer takes of its region's quota, as far as that is known. Pure."""
        ...


@dataclass(frozen=True, kw_only=True)
class CloudCredentials:
    """Where SkyPilot finds a cloud's credentials, and what to do where there are none."""

    files: tuple[tuple[str, ...], ...]
    """Paths below the home folder; one group is enough, and all files of a group are needed."""
    variables: tuple[str, ...] = ()
    """Environment variables, one of which stands for a file."""
    advice: str
    """The command or the change that makes them: `` `az login` ``."""

    def found(self, home: Path, environ: Mapping[str, str]) -> bool:
        """Whether there are any, judged by their files and variables alone; whether they work is SkyPilot's check."""
        in_files = any(all((home / path).is_file() for path in group) for group in self.files)
        return in_files or any(environ.get(name) for name in self.variables)


@dataclass(frozen=True)
class LabelRules:
    """How a cloud wants labels: each function makes a text acceptable. An empty key means that it can't be."""

    key: Callable[[str], str]
    value: Callable[[str], str]


@dataclass(frozen=True, kw_only=True)
class CloudPlugin:
    """All that the program knows of one cloud; importing it imports none of the cloud's libraries."""

    name: ProviderName
    traits: CloudTraits
    credentials: CloudCredentials
    labels: LabelRules
    skypilot_autodown: bool = False
    """SkyPilot's autodown works without credentials on the node, since each node has an identity of its own."""
    corrections: CatalogCorrections = field(default_factory=CatalogCorrections)
    node_address: Callable[[Path, str, str | None], str | None] | None = None
    """Host of a node where SkyPilot gives none, from the home folder, the region and SkyPilot's node names."""
    connect: Callable[[Settings, Clock], CloudCompute | None] | None = None
    """The cloud itself, if the settings name an account of it; asks and imports nothing heavy yet."""
