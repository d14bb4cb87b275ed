"""Nodes that call us: their tokens, their lease, and what their word changes. The provider is a scripted one."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from shared import app as runtime
from shared.auth import Purpose
from shared.control.parts import Backend
from shared.domain.instance import Failure, InstanceRecord
from shared.domain.node import Assignment, JobResult, NodeNotice, NodePhase, NodeStatus
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


@dataclass
class Scripted:
    """A provider and its nodes, doing what the test says."""

    submitted: list[LaunchSpec] = field(default_factory=list[LaunchSpec])
    view: NodeView = field(default_factory=lambda: NodeView(NodeState.PENDING))
    alive: bool = False
    released: int = 0
    account: NodeStatus | None = None
    """What the agent says when it is asked."""
    asked: int = 0
    looks: int = 0
    """How often the provider was asked for an attempt's node."""
    spot_failure: Failure | None = None
    """What every spot offer fails with."""

    def availability(self, provider: str, elapsed_seconds: float) -> Availability:
        return Availability(enabled=True, reason=f"{provider} is enabled")

    def submit(self, launch_spec: LaunchSpec) -> str | None:
        self.submitted.append(launch_spec)
        return f"request-{len(self.submitted)}"

    def look(self, attempt_ref: AttemptRef) -> NodeView:
        self.looks += 1
        if attempt_ref.offer.use_spot and self.spot_failure is not None:
            return NodeView(NodeState.ABSENT, failure=self.spot_failure)
        return self.view

    def release(self, attempt_ref: AttemptRef) -> bool:
        self.released += 1
        return True

    def discard(self, cluster_name: str) -> bool:
        return True

    def clusters(self) -> Sequence[Cluster]:
        return []

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
            target.cluster_name: Probe(alive=self.alive, running_requests=0, waiting_requests=0) for target in targets
        }


class Assigning:
    """Makes an assignment without a model store."""

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


class Push(World):
    """A world with real nodes that reach us."""

    def __init__(self, public_url: str = "https://app.example.com") -> None:
        self.cloud_ = Scripted()
        backend = Backend(self.cloud_, self.cloud_)
        given = settings(GPULAUNCH_ORCHESTRATOR="skypilot", GPULAUNCH_PUBLIC_URL=public_url or None)
        super().__init__(given=given, backend=lambda _: backend, assignments=Assigning())

    def token(self, instance_id: str, attempt: int = 1) -> str:
        return self.parts.deriver.derive(instance_id, attempt, Purpose.NODE)

    def node(self, instance_id: str, call: str, body: object = None, *, token: str | None = None) -> Any:
        bearer = self.token(instance_id) if token is None else token
        method = "GET" if call == "assignment" else "POST"
        headers = {"Authorization": f"Bearer {bearer}"}
        return self.call(method, f"/api/nodes/{instance_id}/{call}", body, token=None, headers=headers)

    def to_ready(self) -> str:
        """A launch whose node came up by its own word."""
        instance_id = self.launch()
        self.run(5)
        self.cloud_.view = NodeView(NodeState.UP, address="203.0.113.7")
        for phase in ("installing", "loading_model", "starting_server"):
            assert self.node(instance_id, "progress", {"phase": phase}).json["renewed"]
        self.cloud_.alive = True
        assert self.node(instance_id, "register", {"port": 8000}).json["renewed"]
        self.run(2)
        assert self.show(instance_id)["phase"] == "ready"
        return instance_id


@pytest.fixture
def push() -> Iterator[Push]:
    made = Push()
    yield made
    runtime.use(None)
    assert made.errors == []


def test_a_node_that_registers_should_make_its_instance_ready(push: Push) -> None:
    instance_id = push.to_ready()
    shown = push.show(instance_id)
    assert shown["endpoint"] == "http://203.0.113.7:8000/v1"
    phases = [phase for phase, _ in push.phases(instance_id)]
    assert phases == [
        "validating",
        "provisioning",
        "installing",
        "loading_model",
        "starting_server",
        "registering",
        "ready",
    ]


def test_a_node_that_reports_should_seldom_be_looked_at(push: Push) -> None:
    instance_id = push.launch()
    push.run(5)
    push.cloud_.view = NodeView(NodeState.UP, address="203.0.113.7")
    push.node(instance_id, "progress", {"phase": "installing"})
    push.cloud_.looks = 0
    push.run(300)
    assert 8 <= push.cloud_.looks <= 10


def test_a_node_that_reported_and_is_gone_should_be_missed_within_a_sweep(push: Push) -> None:
    instance_id = push.launch()
    push.run(5)
    push.cloud_.view = NodeView(NodeState.UP, address="203.0.113.7")
    push.node(instance_id, "progress", {"phase": "installing"})
    push.run(40)
    push.cloud_.view = NodeView(NodeState.ABSENT)
    push.run(31)
    assert push.show(instance_id)["attempts"][0]["failure"]["reason"] == "node_lost"


def test_a_node_whose_address_does_not_answer_should_not_become_ready(push: Push) -> None:
    instance_id = push.launch()
    push.run(5)
    push.cloud_.view = NodeView(NodeState.UP, address="203.0.113.7")
    push.node(instance_id, "register", {"port": 8000})
    push.run(200)
    assert push.show(instance_id)["phase"] == "registering"
    push.run(150)
    assert push.show(instance_id)["attempts"][0]["failure"]["reason"] == "registration_timeout"


def test_what_goes_to_the_provider_should_hold_the_nodes_token_and_no_other_secret(push: Push) -> None:
    instance_id = push.launch()
    push.run(5)
    (launch_spec,) = push.cloud_.submitted
    assert dict(launch_spec.secrets) == {"GPULAUNCH_NODE_TOKEN": push.token(instance_id)}
    assert launch_spec.environment["GPULAUNCH_URL"] == "https://app.example.com"
    assert push.parts.deriver.endpoint_key(instance_id, 1) not in str(launch_spec)


@pytest.mark.parametrize("call", ["assignment", "progress", "register", "heartbeat", "notice", "complete"])
def test_only_the_attempts_own_token_should_open(push: Push, call: str) -> None:
    instance_id, other = push.launch(), push.launch()
    push.run(5)
    wrong = [
        push.token(other),
        push.token(instance_id, 2),
        push.parts.deriver.derive(instance_id, 1, Purpose.AGENT),
        "admin-token-of-the-tests",
        "x",
    ]
    for token in wrong:
        answer = push.node(instance_id, call, {"phase": "installing"}, token=token)
        assert (answer.status, answer.json["code"]) == (401, "unauthorized")
    bare = push.call("POST" if call != "assignment" else "GET", f"/api/nodes/{instance_id}/{call}", token=None)
    assert bare.status == 401


def test_a_node_should_get_its_assignment_while_its_attempt_lasts_and_not_after(push: Push) -> None:
    instance_id = push.launch()
    push.run(5)
    answer = push.node(instance_id, "assignment")
    assert (answer.status, answer.headers["Cache-Control"]) == (200, "no-store")
    push.delete(instance_id)
    assert push.node(instance_id, "assignment").status == 410


def test_a_heartbeat_should_renew_the_lease_with_one_read_and_no_write(push: Push) -> None:
    instance_id = push.to_ready()
    push.store.calls.seen.clear()
    answer = push.node(instance_id, "heartbeat", {"running_requests": 1, "waiting_requests": 0})
    assert answer.json == {"renewed": True, "lease_seconds": 900}
    assert push.store.calls.seen == ["load"]


def test_a_node_of_an_ended_instance_should_be_told_to_go(push: Push) -> None:
    instance_id = push.to_ready()
    push.delete(instance_id)
    assert push.node(instance_id, "heartbeat", {}).json["renewed"] is False
    push.run(5)
    assert push.node(instance_id, "heartbeat", {}).json["renewed"] is False


def test_an_eviction_notice_should_begin_the_recovery_at_once(push: Push) -> None:
    instance_id = push.to_ready()
    push.cloud_.view = NodeView(NodeState.PENDING)
    answer = push.node(instance_id, "notice", {"notice": "eviction", "seconds_left": 30})
    assert answer.json["renewed"] is False
    assert push.show(instance_id)["phase"] == "recovering"
    push.run(5)
    shown = push.show(instance_id)
    assert shown["phase"] == "provisioning"
    assert [attempt["failure"] and attempt["failure"]["reason"] for attempt in shown["attempts"]] == ["evicted", None]
    assert push.node(instance_id, "heartbeat", {}).json["renewed"] is False


def test_the_end_of_the_job_should_end_the_instance(push: Push) -> None:
    instance_id = push.to_ready()
    assert push.node(instance_id, "complete", {"exit_code": 0}).status == 200
    push.run(5)
    shown = push.show(instance_id)
    assert (shown["phase"], shown["ending"]["reason"]) == ("terminated", "job_completed")


def test_a_model_that_cannot_be_fetched_should_fail_the_launch_at_once(push: Push) -> None:
    instance_id = push.launch()
    push.run(5)
    report = {"phase": "failed", "failure": "model_fetch_failed", "detail": "404 for model.safetensors"}
    push.node(instance_id, "progress", report)
    push.run(10)
    shown = push.show(instance_id)
    assert (shown["phase"], shown["ending"]["reason"]) == ("failed", "model_fetch_failed")
    assert len(shown["attempts"]) == 1
    assert push.cloud_.released >= 1


def test_secrets_in_a_nodes_words_should_be_redacted(push: Push) -> None:
    instance_id = push.launch()
    push.run(5)
    line = f"Authorization: Bearer {push.token(instance_id)}"
    push.node(instance_id, "progress", {"phase": "installing", "detail": line, "log_tail": [line]})
    for tail in ("", "/logs", "/events"):
        text = push.call("GET", f"/api/instances/{instance_id}{tail}").body.decode()
        assert push.token(instance_id) not in text


@pytest.mark.parametrize(
    ("call", "body"),
    [
        ("progress", {"phase": "dancing"}),
        ("progress", {"phase": "installing", "surprise": 1}),
        ("register", {"port": 0}),
        ("register", {"port": 8000, "address": "a b"}),
        ("notice", {"notice": "boredom"}),
        ("complete", {}),
    ],
)
def test_a_nodes_wrong_word_should_be_refused_and_change_nothing(push: Push, call: str, body: object) -> None:
    instance_id = push.launch()
    push.run(5)
    before = push.show(instance_id)
    assert push.node(instance_id, call, body).status == 422
    assert push.show(instance_id) == before


def test_a_late_report_of_an_earlier_phase_should_not_go_back(push: Push) -> None:
    instance_id = push.launch()
    push.run(5)
    push.node(instance_id, "progress", {"phase": "starting_server"})
    push.node(instance_id, "progress", {"phase": "installing"})
    assert push.show(instance_id)["phase"] == "starting_server"


class TestNodesThatCannotCall:
    """Without a public address the nodes are asked."""

    @pytest.fixture
    def pull(self) -> Iterator[Push]:
        made = Push(public_url="")
        yield made
        runtime.use(None)
        assert made.errors == []

    def to_ready(self, pull: Push) -> str:
        instance_id = pull.launch()
        pull.cloud_.view = NodeView(NodeState.UP, address="203.0.113.7")
        pull.cloud_.account = NodeStatus(phase=NodePhase.SERVING, port=8000)
        pull.cloud_.alive = True
        pull.run(20)
        assert pull.show(instance_id)["phase"] == "ready"
        return instance_id

    def on_its_way(self, pull: Push) -> str:
        instance_id = pull.launch()
        pull.cloud_.view = NodeView(NodeState.UP, address="203.0.113.7")
        pull.cloud_.account = NodeStatus(phase=NodePhase.INSTALLING)
        pull.run(20)
        assert pull.show(instance_id)["phase"] == "installing"
        pull.cloud_.looks = 0
        return instance_id

    def test_a_node_that_answers_should_spare_its_provider_the_question(self, pull: Push) -> None:
        instance_id = self.on_its_way(pull)
        pull.cloud_.account = NodeStatus(phase=NodePhase.STARTING_SERVER)
        pull.run(60)
        pull.cloud_.account = NodeStatus(phase=NodePhase.SERVING, port=8000)
        pull.cloud_.alive = True
        pull.run(20)
        assert pull.show(instance_id)["phase"] == "ready"
        assert pull.cloud_.looks == 0

    def test_a_node_that_falls_silent_on_its_way_should_not(self, pull: Push) -> None:
        instance_id = self.on_its_way(pull)
        pull.cloud_.account = None
        pull.run(20)
        assert (pull.show(instance_id)["phase"], pull.cloud_.looks > 0) == ("installing", True)
        pull.cloud_.view = NodeView(NodeState.ABSENT)
        pull.run(20)
        assert pull.show(instance_id)["attempts"][0]["failure"]["reason"] == "node_lost"

    def test_a_ready_node_should_be_asked_at_every_sweep_which_renews_its_lease(self, pull: Push) -> None:
        self.to_ready(pull)
        pull.cloud_.asked = 0
        pull.run(300)
        assert pull.cloud_.asked == 10

    def test_a_node_that_calls_by_itself_should_not_be_asked(self, push: Push) -> None:
        push.to_ready()
        push.run(300)
        assert push.cloud_.asked == 0

    def test_the_end_of_its_job_should_be_seen(self, pull: Push) -> None:
        instance_id = self.to_ready(pull)
        pull.cloud_.account = NodeStatus(phase=NodePhase.SERVING, port=8000, job=JobResult(exit_code=0))
        pull.run(60)
        assert pull.show(instance_id)["ending"]["reason"] == "job_completed"

    def test_its_notice_should_be_seen(self, pull: Push) -> None:
        instance_id = self.to_ready(pull)
        pull.cloud_.account = NodeStatus(phase=NodePhase.SERVING, port=8000, notice=NodeNotice.EVICTION)
        pull.run(31)
        assert pull.show(instance_id)["attempts"][0]["failure"]["reason"] == "evicted"

    def test_a_silent_agent_alone_should_not_end_a_node_that_serves(self, pull: Push) -> None:
        instance_id = self.to_ready(pull)
        pull.cloud_.account = None
        pull.run(600)
        assert pull.show(instance_id)["phase"] == "ready"

    def test_its_assignment_should_travel_in_the_tasks_secrets(self, pull: Push) -> None:
        self.to_ready(pull)
        (launch_spec,) = pull.cloud_.submitted
        assert set(launch_spec.secrets) == {"GPULAUNCH_ASSIGNMENT", "GPULAUNCH_AGENT_TOKEN"}
        assert "GPULAUNCH_URL" not in launch_spec.environment
