"""A provider and a cloud that answer what the test says, and write down in which order they were asked."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

from gpulaunch.models.instances import Mode
from gpulaunch.models.offers import Offer
from gpulaunch.models.requests import ProviderName
from shared.backends.base import Backend, Backends
from shared.domain.node import NodeStatus
from shared.domain.provider import (
    AttemptRef,
    Availability,
    CleanupStatus,
    Cluster,
    LaunchSpec,
    NodeState,
    NodeTarget,
    NodeUnreachableError,
    NodeView,
    Probe,
)
from shared.domain.quota import QuotaNeed, RegionUsage
from tests.twins.clock import START

T = TypeVar("T")
NAME = "gl-01k0000000000000000000000a-01"
OTHER = "gl-01k0000000000000000000000b-01"

ENABLED = Availability(enabled=True, reason="it is enabled")
UP = NodeView(state=NodeState.UP, address="10.0.0.1")


def answer(given: T | Exception) -> T:
    if isinstance(given, Exception):
        raise given
    return given


def make_cluster(name: str = NAME, **given: object) -> Cluster:
    return replace(Cluster(cluster_name=name, state=NodeState.UP, created_at=START), **given)  # pyright: ignore[reportArgumentType]


@dataclass
class ProviderDouble:
    """A backend's provider and its nodes; an exception in place of an answer is raised."""

    acts: list[str] = field(default_factory=list[str])
    available: Availability | Exception = ENABLED
    request_id: str | Exception | None = "request-1"
    view: NodeView | Exception = UP
    released: bool | Exception = True
    listing: Sequence[Cluster] | Exception = ()
    node: NodeStatus | None = None
    """What the node reports; None: it does not answer."""
    alive: bool = True
    submitted: list[LaunchSpec] = field(default_factory=list[LaunchSpec])

    def availability(self, provider: ProviderName, elapsed_seconds: float) -> Availability:
        self.acts.append(f"availability {provider} {elapsed_seconds:g}")
        return answer(self.available)

    def submit(self, launch_spec: LaunchSpec) -> str | None:
        self.acts.append("submit")
        self.submitted.append(launch_spec)
        return answer(self.request_id)

    def describe(self, attempt_ref: AttemptRef) -> NodeView:
        self.acts.append("describe")
        return answer(self.view)

    def release(self, attempt_ref: AttemptRef) -> bool:
        self.acts.append("release")
        return answer(self.released)

    def delete(self, cluster_name: str) -> bool:
        self.acts.append(f"delete {cluster_name}")
        return answer(self.released)

    def clusters(self) -> Sequence[Cluster]:
        self.acts.append("list")
        return answer(self.listing)

    def lost(self, cluster_names: Sequence[str]) -> Mapping[str, str]:
        return {}

    def log_tail(self, attempt_ref: AttemptRef, lines: int) -> list[str]:
        return []

    def status(self, target: NodeTarget) -> NodeStatus:
        self.acts.append("status")
        if self.node is None:
            raise NodeUnreachableError("no answer")
        return self.node

    def statuses(self, targets: Sequence[NodeTarget]) -> dict[str, NodeStatus]:
        self.acts.append(f"statuses {len(targets)}")
        return {} if self.node is None else {target.cluster_name: self.node for target in targets}

    def probe(self, targets: Sequence[NodeTarget]) -> dict[str, Probe]:
        self.acts.append(f"probe {targets[0].port}")
        return {target.cluster_name: Probe(alive=self.alive) for target in targets}

    def backends(self) -> Backends:
        def of(_: Mode) -> Backend:
            return Backend(self, self)

        return of


@dataclass
class CloudDouble:
    acts: list[str] = field(default_factory=list[str])
    view: NodeView | Exception | None = None
    listing: Sequence[Cluster] | Exception = ()
    left: CleanupStatus | Exception = CleanupStatus.NOTHING
    provider: ProviderName = "azure"
    described: list[str] = field(default_factory=list[str])

    def describe(self, cluster_name: str) -> NodeView | None:
        self.acts.append("cloud describe")
        self.described.append(cluster_name)
        return answer(self.view)

    def clusters(self) -> Sequence[Cluster]:
        self.acts.append("cloud list")
        return answer(self.listing)

    def delete(self, cluster_name: str, region: str | None = None) -> CleanupStatus:
        self.acts.append(f"cloud delete {cluster_name}" if region is None else f"cloud delete in {region}")
        return answer(self.left)

    def usage(self, region: str) -> RegionUsage:
        raise AssertionError("it is not asked for its quota here")

    def quota_needs(self, offer: Offer) -> Sequence[QuotaNeed]:
        return ()
