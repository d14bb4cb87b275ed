"""A world whose provider and nodes do what the test says, and whose nodes call the app."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from shared.auth import Purpose
from shared.backends.base import Backend
from shared.domain.instance import Failure, InstanceRecord
from shared.domain.node import Assignment, NodeStatus
from shared.domain.provider import (
    AttemptRef,
    Availability,
    Cluster,
    LaunchSpec,
    NodeState,
    NodeTarget,
    NodeUnreachableError,
    NodeView,
    Probe,
)
from tests.functional.world import World, settings
from tests.twins.factories import DEPLOYMENT


@dataclass
class Scripted:
    submitted: list[LaunchSpec] = field(default_factory=list[LaunchSpec])
    view: NodeView = field(default_factory=lambda: NodeView(state=NodeState.PENDING))
    alive: bool = False
    running: int = 0
    """Requests that each node works on."""
    tokens: float | None = None
    """vLLM's count of tokens."""
    released: int = 0
    account: NodeStatus | None = None
    """What the agent says when it is asked."""
    asked: int = 0
    listed: list[Cluster] = field(default_factory=list[Cluster])
    looks: int = 0
    """How often the provider was asked for an attempt's node."""
    spot_failure: Failure | None = None
    """What every spot offer fails with."""

    def availability(self, provider: str, elapsed_seconds: float) -> Availability:
        return Availability(enabled=True, reason=f"{provider} is enabled")

    def submit(self, launch_spec: LaunchSpec) -> str | None:
        self.submitted.append(launch_spec)
        return f"request-{len(self.submitted)}"

    def describe(self, attempt_ref: AttemptRef) -> NodeView:
        self.looks += 1
        if attempt_ref.offer.use_spot and self.spot_failure is not None:
            return NodeView(state=NodeState.ABSENT, failure=self.spot_failure)
        return self.view

    def release(self, attempt_ref: AttemptRef) -> bool:
        self.released += 1
        return True

    def delete(self, cluster_name: str) -> bool:
        return True

    def clusters(self) -> Sequence[Cluster]:
        return self.listed

    def lost(self, cluster_names: Sequence[str]) -> Mapping[str, str]:
        return {}

    def log_tail(self, attempt_ref: AttemptRef, lines: int) -> list[str]:
        return []

    def status(self, target: NodeTarget) -> NodeStatus:
        if self.account is None:
            raise NodeUnreachableError("nobody asks a node that calls by itself")
        return self.account

    def statuses(self, targets: Sequence[NodeTarget]) -> dict[str, NodeStatus]:
        self.asked += len(targets)
        return {target.cluster_name: self.account for target in targets if self.account is not None}

    def probe(self, targets: Sequence[NodeTarget]) -> dict[str, Probe]:
        return {
            target.cluster_name: Probe(
                alive=self.alive, running_requests=self.running, waiting_requests=0, tokens=self.tokens
            )
            for target in targets
        }


class Assigning:
    def make(self, record: InstanceRecord, attempt: int) -> Assignment:
        return Assignment(
            instance_id=record.instance_id,
            attempt=attempt,
            model_name=record.request.model_name,
            files=[],
            hub_model=record.request.model_name,
            vllm_args=[],
            api_key="gl-" + "k" * 43,
            port=8000,
            deadline_at=record.deadline_at,
            lease_seconds=900,
        )


class NodeWorld(World):
    def __init__(self, public_url: str = "https://app.example.com", deployment: str = DEPLOYMENT) -> None:
        self.scripted = Scripted()
        backend = Backend(self.scripted, self.scripted)
        given = settings(GPULAUNCH_ORCHESTRATOR="skypilot", GPULAUNCH_PUBLIC_URL=public_url or None)
        super().__init__(given=given, backend=lambda _: backend, assignments=Assigning(), deployment=deployment)

    def token(self, instance_id: str, attempt: int = 1) -> str:
        return self.adapters.deriver.derive(instance_id, attempt, Purpose.NODE)

    def node(self, instance_id: str, call: str, body: object = None, *, token: str | None = None) -> Any:
        bearer = self.token(instance_id) if token is None else token
        method = "GET" if call == "assignment" else "POST"
        headers = {"Authorization": f"Bearer {bearer}"}
        return self.call(method, f"/api/nodes/{instance_id}/{call}", body, token=None, headers=headers)

    def running(self) -> int:
        return len(self.scripted.submitted) - self.scripted.released

    def to_ready(self, **changes: Any) -> str:
        """A launch whose node came up by its own word."""
        instance_id = self.launch(**changes)
        self.run(5)
        self.scripted.view = NodeView(state=NodeState.UP, address="203.0.113.7")
        for phase in ("installing", "loading_model", "starting_server"):
            assert self.node(instance_id, "progress", {"phase": phase}).json["renewed"]
        self.scripted.alive = True
        assert self.node(instance_id, "register", {"port": 8000}).json["renewed"]
        self.run(2)
        assert self.show(instance_id)["phase"] == "ready"
        self.beating[instance_id] = 1
        return instance_id
