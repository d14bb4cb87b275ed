"""What a provider of GPU nodes, and the nodes themselves, are asked and answer.

ProviderError
├── LaunchRefusedError        this offer cannot be had; carries a Failure (capacity, quota, permission, …)
├── ProviderUnavailableError  no answer, or not now; try again later, nothing is known
│   └── RecordsLostError      it has lost its records of a node, so what it says of it means nothing
└── ProviderNotEnabledError   credentials or set-up missing; says what to do
NodeError
└── NodeUnreachableError      the node did not answer
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from gpulaunch.errors import GpulaunchError
from gpulaunch.models.offers import Offer
from shared.domain.instance import Failure


class ProviderError(GpulaunchError):
    pass


class LaunchRefusedError(ProviderError):
    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


class ProviderUnavailableError(ProviderError):
    pass


class RecordsLostError(ProviderUnavailableError):
    """The provider had a node in its records and now denies it ever did, so whether the node exists is not known."""


class ProviderNotEnabledError(ProviderError):
    pass


class NodeError(GpulaunchError):
    pass


class NodeUnreachableError(NodeError):
    pass


@dataclass(frozen=True)
class Availability:
    """Whether launches on a provider can work."""

    enabled: bool
    reason: str
    """For people: why not and what to do, or what is used."""
    wait_seconds: float = 0.0
    """If positive, the check is still running: ask again after this time."""


@dataclass(frozen=True, kw_only=True)
class LaunchSpec:
    """What to launch: an attempt and everything that the provider passes to its node."""

    cluster_name: str
    instance_id: str
    attempt: int
    offer: Offer
    labels: Mapping[str, str]
    """The user's labels."""
    environment: Mapping[str, str]
    """Environment of the node's agent, without secrets."""
    secrets: Mapping[str, str]
    """Environment that is never logged: the attempt's token or, in pull mode, its assignment."""
    started_at: datetime
    submit_until: datetime | None = None
    """When its submission has to be over, since another step may submit or give up the attempt then; None: no limit."""
    deployment: str
    """The deployment's identity, for the node's labels."""
    disk_gib: int | None = None
    """Size of the machine's disk; None: the provider's default."""


@dataclass(frozen=True, kw_only=True)
class AttemptRef:
    """Identifies an attempt at its provider, to describe and release it."""

    cluster_name: str
    instance_id: str
    attempt: int
    offer: Offer
    request_id: str | None
    labels: Mapping[str, str]
    started_at: datetime
    listed: bool
    """The provider's records have shown its node: if they know nothing of it, they were lost."""


class NodeState(StrEnum):
    """The provider's view of an attempt's node."""

    ABSENT = "absent"
    """No request in progress and no node: it never existed, or it was deleted."""
    PENDING = "pending"
    """A request is in progress; a node may exist."""
    UP = "up"
    """The node is running."""
    STOPPED = "stopped"
    """The machine exists but is stopped, as after a spot eviction on Azure."""


@dataclass(frozen=True, kw_only=True)
class NodeView:
    """An attempt as its provider describes it."""

    state: NodeState
    detail: str = ""
    address: str | None = None
    """Host name or IP address of the node, once known."""
    request_id: str | None = None
    failure: Failure | None = None
    """The launch or the node's job failed; the node may still exist and must be released."""
    created_at: datetime | None = None
    """When the machine was created, or a moment before; None: unknown."""
    listed: bool = False
    """It stands in the provider's records, which keep a history of it."""
    look_again_seconds: float | None = None
    """When a change is expected; None for the usual interval."""


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """A node in the provider's listing."""

    cluster_name: str
    state: NodeState
    created_at: datetime | None
    gc_protected: bool = False
    """Has the label that exempts it from garbage collection."""
    deployment: str | None = None
    """Identity of the deployment that launched it, from its labels; None: the listing does not show it."""
    provider: str | None = None
    region: str | None = None
    machine: str = ""
    """The machine type, alone or among other words; "": the listing does not show it."""
    use_spot: bool = False


@dataclass(frozen=True, kw_only=True)
class NodeTarget:
    """A node's address, ports and token."""

    instance_id: str
    cluster_name: str
    attempt: int
    address: str
    port: int | None
    """vLLM's port, once known."""
    agent_port: int
    """The agent's port."""
    agent_token: str = field(repr=False)
    """What the agent and the control plane prove themselves with; derived."""
    api_key: str = field(repr=False)
    """The attempt's key, without which its endpoint answers nothing, not even its health; derived."""
    proves: bool = False
    """The agent answers a challenge; one of an earlier version has to be sent its token."""
    server_name: str | None = None
    """The name in the certificate with which vLLM answers; None: by plain HTTP."""
    authority: str = ""
    """What vouches for the certificate, PEM."""


@dataclass(frozen=True, kw_only=True)
class Probe:
    """The result of probing a ready node."""

    alive: bool
    message: str = ""
    running_requests: float | None = None
    waiting_requests: float | None = None
    finished_requests: float | None = None
    """vLLM's count of finished requests since its start; reveals that a node was busy between two probes."""
    tokens: float | None = None
    """vLLM's counts of tokens read and written since its start; a busy node whose counts stand still is stuck."""


class CleanupStatus(StrEnum):
    """What is left of a cluster in the cloud."""

    NOTHING = "nothing"
    FREE_LEFTOVERS = "traces"
    """No machine, disk or address: the rest costs nothing, and its deletion was requested."""
    MACHINE = "machine"
    """A machine, disk or address that costs money; its deletion was requested."""
