"""What a provider of GPU nodes, and the nodes themselves, are asked and answer.

ProviderError
├── LaunchRefusedError        this offer cannot be had; carries a Failure (capacity, quota, permission, …)
├── ProviderUnavailableError  no answer, or not now; try again later, nothing is known
└── ProviderNotEnabledError   credentials or set-up missing; says what to do
NodeError
└── NodeUnreachableError      the node did not answer
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from gpulaunch.errors import GpulaunchError
from gpulaunch.models.offers import Offer
from shared.domain.instance import Failure


class ProviderError(GpulaunchError):
    """Base of what a provider can say no with."""


class LaunchRefusedError(ProviderError):
    """The offer can't be had; another one may."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


class ProviderUnavailableError(ProviderError):
    """The provider did not answer, or can't now. Nothing is known about what it did."""


class ProviderNotEnabledError(ProviderError):
    """The provider can't be used as things are set up; the message says what to do."""


class NodeError(GpulaunchError):
    """Base of what can go wrong in talking to a node."""


class NodeUnreachableError(NodeError):
    """The node did not give an answer that could be understood."""


@dataclass(frozen=True)
class Availability:
    """Whether launches on one provider can work."""

    enabled: bool
    reason: str
    """For people: why not and what to do, or what is used."""
    wait_seconds: float = 0.0
    """More than 0: the check is still going on, ask again after this."""


@dataclass(frozen=True)
class LaunchSpec:
    """What to launch: one attempt, with everything that the provider hands to the node."""

    cluster_name: str
    instance_id: str
    attempt: int
    offer: Offer
    labels: Mapping[str, str]
    """The user's labels."""
    environment: Mapping[str, str]
    """Plain environment of the node's agent; no secret."""
    secrets: Mapping[str, str]
    """Environment that is never logged: the node's token, good for this attempt only (or, locally, its assignment)."""
    started_at: datetime


@dataclass(frozen=True)
class AttemptRef:
    """Where one attempt is to be found; enough to ask for it and to take it away."""

    cluster_name: str
    instance_id: str
    attempt: int
    offer: Offer
    request_id: str | None
    labels: Mapping[str, str]
    started_at: datetime


class NodeState(StrEnum):
    """What the provider knows of an attempt's node."""

    ABSENT = "absent"
    """No request under way and no node: it never came, or it is gone."""
    PENDING = "pending"
    """A request is under way; a node may exist."""
    UP = "up"
    """The node runs."""
    STOPPED = "stopped"
    """The machine is there but does not run (a spot eviction on Azure looks so)."""


@dataclass(frozen=True)
class NodeView:
    """One look at one attempt through the provider."""

    state: NodeState
    detail: str = ""
    address: str | None = None
    """Host name or IP address at which the node can be reached, once known."""
    request_id: str | None = None
    failure: Failure | None = None
    """The launch or the node's job failed; the node may exist all the same and has to be taken away."""
    look_again_seconds: float | None = None
    """When something is expected to change; None: after the usual interval."""


@dataclass(frozen=True)
class Cluster:
    """One node that the provider runs, as found in its own listing."""

    cluster_name: str
    state: NodeState
    created_at: datetime | None
    gc_protected: bool = False
    """Carries the label that exempts it from garbage collection."""
    workspace: str | None = None
    """The workspace that launched it, where the provider keeps labels; None: not known."""


@dataclass(frozen=True)
class NodeTarget:
    """A node to be asked, and how."""

    instance_id: str
    cluster_name: str
    attempt: int
    address: str
    port: int | None
    """vLLM's port; None while unknown."""
    agent_port: int
    """The port on which the agent answers."""
    agent_token: str
    """Bearer token with which the agent is asked; derived."""


@dataclass(frozen=True)
class Probe:
    """What one probe of a ready node found."""

    alive: bool
    message: str = ""
    running_requests: float | None = None
    waiting_requests: float | None = None
    finished_requests: float | None = None
    """vLLM's count of finished requests since its start: tells that a node was busy between two probes."""


class CleanupStatus(StrEnum):
    """What is left of a cluster in the cloud."""

    NOTHING = "nothing"
    FREE_LEFTOVERS = "traces"
    """No machine, disk or address any more; what is left costs nothing, and its deletion was asked for."""
    MACHINE = "machine"
    """A machine, disk or address, which costs money; its deletion was asked for."""
