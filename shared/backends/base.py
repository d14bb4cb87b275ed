"""Protocols of the backends: what provisions and asks nodes, makes their assignments, inspects models."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from gpulaunch.models.instances import Mode, Phase
from gpulaunch.models.problems import FieldError
from gpulaunch.models.requests import LaunchRequest, ProviderName
from shared.domain.errors import InvalidFieldsError
from shared.domain.instance import InstanceRecord
from shared.domain.model import ModelFacts
from shared.domain.node import Assignment, NodeStatus
from shared.domain.provider import AttemptRef, Availability, Cluster, LaunchSpec, NodeTarget, NodeView, Probe


class Provider(Protocol):
    """A way to get GPU nodes. Calls may block for some seconds; all are safe to repeat.

    Every method may raise ProviderUnavailableError when the provider does not answer.
    """

    def availability(self, provider: ProviderName, elapsed_seconds: float) -> Availability:
        """Whether launches on `provider` can work; `elapsed_seconds` since the launch was accepted."""
        ...

    def submit(self, launch_spec: LaunchSpec) -> str | None:
        """Start a node, or adopt the live request or node of that cluster name; return the request's id, if any.

        Returns once the provider has accepted it, not when the node is up.

        Raises:
            LaunchRefusedError: The offer is not available.
            ProviderUnavailableError: No answer; the provider may have accepted it anyway.
            ProviderNotEnabledError: The provider cannot be used.
        """
        ...

    def describe(self, attempt_ref: AttemptRef) -> NodeView:
        """What has become of an attempt, and when that changes next, if that is known.

        Raises:
            RecordsLostError: It had a node of that name in its records, and has lost them.
        """
        ...

    def release(self, attempt_ref: AttemptRef) -> bool:
        """Delete the attempt's node and cancel its request; return True once nothing is left.

        Never waits: False means "call again". An attempt that never had anything is True.

        Raises:
            RecordsLostError: It had a node of that name in its records, and has lost them.
        """
        ...

    def delete(self, cluster_name: str) -> bool:
        """Delete a node by name, as found by `clusters`; otherwise like `release`."""
        ...

    def clusters(self) -> Sequence[Cluster]:
        """All nodes of ours that the provider runs, known to the records or not."""
        ...

    def lost(self, cluster_names: Sequence[str]) -> Mapping[str, str]:
        """Those nodes that it once listed, does not list now, and does not call deleted: why, by name."""
        ...

    def log_tail(self, attempt_ref: AttemptRef, lines: int) -> list[str]:
        """The last lines of the launch's log; empty when there is none."""
        ...


class Nodes(Protocol):
    def status(self, target: NodeTarget) -> NodeStatus:
        """The agent's report. Raises NodeUnreachableError."""
        ...

    def statuses(self, targets: Sequence[NodeTarget]) -> dict[str, NodeStatus]:
        """The reports of many agents, asked in parallel; by cluster name, without those that did not answer.

        Being asked renews an agent's lease: nodes that can't call us live by it.
        """
        ...

    def probe(self, targets: Sequence[NodeTarget]) -> dict[str, Probe]:
        """Ask vLLM's /health and /metrics on each node in parallel; by cluster name, one entry for every target."""
        ...


class Assignments(Protocol):
    """Makes assignments: model files with signed URLs, key, deadline."""

    def make(self, record: InstanceRecord, attempt: int) -> Assignment:
        """The assignment of one attempt of a record.

        Raises LaunchRefusedError (the model's source can't be read) and ProviderUnavailableError (no answer now).
        """
        ...


class ModelInspector(Protocol):
    """Inspects models before a node is paid for."""

    def inspect(self, request: LaunchRequest) -> ModelFacts:
        """What there is to know about a request's model.

        Raises LaunchRefusedError (a node could not serve it) and ProviderUnavailableError (no answer now).
        """
        ...


FAULT_PREFIX = "simulate."
"""Labels that begin so ask the simulation for faults."""


def refuse_fault_labels(labels: Mapping[str, str]) -> None:
    """Refuse labels that ask for simulated faults.

    Raises:
        InvalidFieldsError: There is such a label.
    """
    asked = next((key for key in labels if key.startswith(FAULT_PREFIX)), None)
    if asked is not None:
        message = "Labels that begin with `simulate.` ask for faults of a simulation; this launch is a real one."
        raise InvalidFieldsError([FieldError(field=f"labels.{asked}", message=message)])


@dataclass(frozen=True)
class Backend:
    """What provisions the nodes of one mode, and what asks those nodes."""

    provider: Provider
    nodes: Nodes
    check_labels: Callable[[Mapping[str, str]], None] = refuse_fault_labels
    """Refuses labels that the backend cannot act on. Raises InvalidFieldsError."""
    expected_seconds: Mapping[Phase, float] = field(default_factory=dict[Phase, float])
    """How long each phase takes, where that is known beforehand; empty: it depends on the cloud."""


Backends = Callable[[Mode], Backend]
"""The backend of a mode, built on first use: the real one costs imports that a simulation never needs."""
