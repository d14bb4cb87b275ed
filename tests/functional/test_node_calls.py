"""Nodes that call us: their tokens, their lease, and what their word changes. The provider is a scripted one."""

from collections import Counter
from collections.abc import Iterator
from datetime import timedelta

import pytest

from shared.domain.node import JobResult, NodeNotice, NodePhase, NodeStatus
from shared.domain.provider import (
    NodeState,
    NodeView,
)
from shared.errors import StoreUnavailableError
from tests.functional.scripted import NodeWorld


def test_a_node_that_registers_should_make_its_instance_ready(push: NodeWorld) -> None:
    instance_id = push.to_ready()
    shown = push.show(instance_id)
    assert shown["endpoint"] == "https://203.0.113.7:8000/v1"
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


def test_a_node_that_reports_should_seldom_be_looked_at(push: NodeWorld) -> None:
    instance_id = push.launch()
    push.run(5)
    push.scripted.view = NodeView(state=NodeState.UP, address="203.0.113.7")
    push.node(instance_id, "progress", {"phase": "installing"})
    push.scripted.looks = 0
    push.run(300)
    assert 8 <= push.scripted.looks <= 10


def test_a_node_that_reported_and_is_gone_should_be_missed_within_a_sweep(push: NodeWorld) -> None:
    instance_id = push.launch()
    push.run(5)
    push.scripted.view = NodeView(state=NodeState.UP, address="203.0.113.7")
    push.node(instance_id, "progress", {"phase": "installing"})
    push.run(40)
    push.scripted.view = NodeView(state=NodeState.ABSENT)
    push.run(31)
    assert push.show(instance_id)["attempts"][0]["failure"]["reason"] == "node_lost"


def test_a_node_whose_address_does_not_answer_should_not_become_ready(push: NodeWorld) -> None:
    instance_id = push.launch()
    push.run(5)
    push.scripted.view = NodeView(state=NodeState.UP, address="203.0.113.7")
    push.node(instance_id, "register", {"port": 8000})
    push.run(200)
    assert push.show(instance_id)["phase"] == "registering"
    push.run(150)
    assert push.show(instance_id)["attempts"][0]["failure"]["reason"] == "registration_timeout"


def test_what_goes_to_the_provider_should_hold_the_nodes_token_and_no_other_secret(push: NodeWorld) -> None:
    instance_id = push.launch()
    push.run(5)
    (launch_spec,) = push.scripted.submitted
    assert dict(launch_spec.secrets) == {"GPULAUNCH_NODE_TOKEN": push.token(instance_id)}
    assert launch_spec.environment["GPULAUNCH_URL"] == "https://app.example.com"
    assert push.adapters.deriver.endpoint_key(instance_id, 1) not in str(launch_spec)


def test_a_node_should_get_its_assignment_while_its_attempt_lasts_and_not_after(push: NodeWorld) -> None:
    instance_id = push.launch()
    push.run(5)
    answer = push.node(instance_id, "assignment")
    assert (answer.status, answer.headers["Cache-Control"]) == (200, "no-store")
    push.delete(instance_id)
    assert push.node(instance_id, "assignment").status == 410


@pytest.mark.parametrize(
    "address", ["localhost", "127.0.0.1", "169.254.169.254", "168.63.129.16", "::1", "0x7f.1", "a b", 7, None, {"a": 1}]
)
def test_a_node_should_not_choose_whom_the_control_plane_calls(push: NodeWorld, address: object) -> None:
    instance_id = push.launch()
    push.run(5)
    push.scripted.view, push.scripted.alive = NodeView(state=NodeState.UP, address="203.0.113.7"), True
    assert push.node(instance_id, "register", {"port": 8000, "address": address}).json["renewed"]
    push.run(5)
    shown = push.show(instance_id)
    assert (shown["phase"], shown["endpoint"]) == ("ready", "https://203.0.113.7:8000/v1")


def test_a_node_whose_address_the_provider_does_not_know_should_not_be_ready_by_its_own(push: NodeWorld) -> None:
    instance_id = push.launch()
    push.run(5)
    push.scripted.view, push.scripted.alive = NodeView(state=NodeState.UP), True
    push.node(instance_id, "register", {"port": 8000, "address": "node.example"})
    push.run(60)
    assert push.show(instance_id)["phase"] == "registering"


def test_a_heartbeat_should_renew_the_lease_with_one_read_and_no_write(push: NodeWorld) -> None:
    instance_id = push.to_ready()
    push.store.calls.seen.clear()
    answer = push.node(instance_id, "heartbeat", {"running_requests": 1, "waiting_requests": 0})
    assert answer.json == {"renewed": True, "lease_seconds": 900}
    assert push.store.calls.seen == ["load"]


def test_heartbeats_should_be_written_down_every_few_minutes_only(push: NodeWorld) -> None:
    instance_id = push.to_ready()
    push.store.calls.seen.clear()
    for _ in range(20):
        push.clock.advance(60)
        assert push.node(instance_id, "heartbeat", {}).json["renewed"]
    assert Counter(push.store.calls.seen) == {"load": 20, "commit": 6}


def test_a_heartbeat_that_cannot_be_written_down_should_renew_the_lease(
    push: NodeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    instance_id = push.to_ready()
    push.clock.advance(600)

    def busy(*_: object) -> str:
        raise StoreUnavailableError("Storage is busy")

    monkeypatch.setattr(push.store, "commit", busy)
    assert push.node(instance_id, "heartbeat", {}).json["renewed"] is True


def test_a_node_of_an_ended_instance_should_be_told_to_go(push: NodeWorld) -> None:
    instance_id = push.to_ready()
    push.delete(instance_id)
    assert push.node(instance_id, "heartbeat", {}).json["renewed"] is False
    push.run(5)
    assert push.node(instance_id, "heartbeat", {}).json["renewed"] is False


def test_an_eviction_notice_should_begin_the_recovery_at_once(push: NodeWorld) -> None:
    instance_id = push.to_ready()
    push.scripted.view = NodeView(state=NodeState.PENDING)
    answer = push.node(instance_id, "notice", {"notice": "eviction", "seconds_left": 30})
    assert answer.json == {"renewed": True, "lease_seconds": 25}, "what it works on may end"
    assert push.show(instance_id)["phase"] == "recovering"
    (notice,) = [event for event in push.events(instance_id) if event["type"] == "node_notice"]
    leaves = push.clock.now() + timedelta(seconds=30)
    assert notice["message"] == f"The machine is about to be shut down at {leaves:%H:%M:%S} UTC: eviction."
    push.run(20)
    assert push.show(instance_id)["attempts"][0]["state"] == "releasing"
    assert push.node(instance_id, "heartbeat", {}).json == {"renewed": True, "lease_seconds": 5}
    assert not push.scripted.released
    push.run(10)
    shown = push.show(instance_id)
    assert shown["phase"] == "provisioning"
    assert [attempt["failure"] and attempt["failure"]["reason"] for attempt in shown["attempts"]] == ["evicted", None]
    assert push.node(instance_id, "heartbeat", {}).json["renewed"] is False


def test_what_a_job_said_should_be_in_the_log_of_its_instance(push: NodeWorld) -> None:
    instance_id = push.to_ready(job={"command": ["evaluate"]})
    report = {"phase": "serving", "job": {"exit_code": 3}, "log_tail": ["no such file: data.jsonl"]}
    assert push.node(instance_id, "progress", report).json["renewed"] is False
    push.run(60)
    assert push.show(instance_id)["ending"]["message"] == "The job exited with code 3."
    assert push.call("GET", f"/api/instances/{instance_id}/logs").json["lines"] == ["no such file: data.jsonl"]


def test_the_end_of_the_job_should_end_the_instance(push: NodeWorld) -> None:
    instance_id = push.to_ready()
    assert push.node(instance_id, "complete", {"exit_code": 0}).status == 200
    push.run(5)
    shown = push.show(instance_id)
    assert (shown["phase"], shown["ending"]["reason"]) == ("terminated", "job_completed")


def test_a_model_that_cannot_be_fetched_should_fail_the_launch_at_once(push: NodeWorld) -> None:
    instance_id = push.launch()
    push.run(5)
    report = {"phase": "failed", "failure": "model_fetch_failed", "detail": "404 for model.safetensors"}
    push.node(instance_id, "progress", report)
    push.run(10)
    shown = push.show(instance_id)
    assert (shown["phase"], shown["ending"]["reason"]) == ("failed", "model_fetch_failed")
    assert len(shown["attempts"]) == 1
    assert push.scripted.released >= 1


@pytest.mark.parametrize(
    ("call", "body"),
    [
        ("progress", {"phase": "dancing"}),
        ("progress", {"phase": "installing", "surprise": 1}),
        ("register", {"port": 0}),
        ("register", {"port": 8000, "host": "a"}),
        ("notice", {"notice": "boredom"}),
        ("complete", {}),
    ],
)
def test_a_nodes_wrong_word_should_be_refused_and_change_nothing(push: NodeWorld, call: str, body: object) -> None:
    instance_id = push.launch()
    push.run(5)
    before = push.show(instance_id)
    assert push.node(instance_id, call, body).status == 422
    assert push.show(instance_id) == before


def test_a_late_report_of_an_earlier_phase_should_not_go_back(push: NodeWorld) -> None:
    instance_id = push.launch()
    push.run(5)
    push.node(instance_id, "progress", {"phase": "starting_server"})
    push.node(instance_id, "progress", {"phase": "installing"})
    assert push.show(instance_id)["phase"] == "starting_server"


class TestNodesThatCannotCall:
    """Without a public address the nodes are asked."""

    @pytest.fixture
    def pull(self) -> Iterator[NodeWorld]:
        made = NodeWorld(public_url="")
        yield made
        assert made.errors == []

    def to_ready(self, pull: NodeWorld) -> str:
        instance_id = pull.launch()
        pull.scripted.view = NodeView(state=NodeState.UP, address="203.0.113.7")
        pull.scripted.account = NodeStatus(phase=NodePhase.SERVING, port=8000)
        pull.scripted.alive = True
        pull.run(20)
        assert pull.show(instance_id)["phase"] == "ready"
        return instance_id

    def on_its_way(self, pull: NodeWorld) -> str:
        instance_id = pull.launch()
        pull.scripted.view = NodeView(state=NodeState.UP, address="203.0.113.7")
        pull.scripted.account = NodeStatus(phase=NodePhase.INSTALLING)
        pull.run(20)
        assert pull.show(instance_id)["phase"] == "installing"
        pull.scripted.looks = 0
        return instance_id

    def test_a_node_that_answers_should_spare_its_provider_the_question(self, pull: NodeWorld) -> None:
        instance_id = self.on_its_way(pull)
        pull.scripted.account = NodeStatus(phase=NodePhase.STARTING_SERVER)
        pull.run(60)
        pull.scripted.account = NodeStatus(phase=NodePhase.SERVING, port=8000)
        pull.scripted.alive = True
        pull.run(20)
        assert pull.show(instance_id)["phase"] == "ready"
        assert pull.scripted.looks == 0

    def test_a_node_that_falls_silent_on_its_way_should_not(self, pull: NodeWorld) -> None:
        instance_id = self.on_its_way(pull)
        pull.scripted.account = None
        pull.run(20)
        assert (pull.show(instance_id)["phase"], pull.scripted.looks > 0) == ("installing", True)
        pull.scripted.view = NodeView(state=NodeState.ABSENT)
        pull.run(20)
        assert pull.show(instance_id)["attempts"][0]["failure"]["reason"] == "node_lost"

    def test_a_ready_node_should_be_asked_at_every_sweep_which_renews_its_lease(self, pull: NodeWorld) -> None:
        self.to_ready(pull)
        pull.scripted.asked = 0
        pull.run(300)
        assert pull.scripted.asked == 10

    def test_a_node_that_calls_by_itself_should_not_be_asked(self, push: NodeWorld) -> None:
        push.to_ready()
        push.run(300)
        assert push.scripted.asked == 0

    def test_the_end_of_its_job_should_be_seen(self, pull: NodeWorld) -> None:
        instance_id = self.to_ready(pull)
        pull.scripted.account = NodeStatus(phase=NodePhase.SERVING, port=8000, job=JobResult(exit_code=0))
        pull.run(60)
        assert pull.show(instance_id)["ending"]["reason"] == "job_completed"

    def test_its_notice_should_be_seen(self, pull: NodeWorld) -> None:
        instance_id = self.to_ready(pull)
        pull.scripted.account = NodeStatus(phase=NodePhase.SERVING, port=8000, notice=NodeNotice.EVICTION)
        pull.run(31)
        assert pull.show(instance_id)["attempts"][0]["failure"]["reason"] == "evicted"

    def test_a_silent_agent_alone_should_not_end_a_node_that_serves(self, pull: NodeWorld) -> None:
        instance_id = self.to_ready(pull)
        pull.scripted.account = None
        pull.run(600)
        assert pull.show(instance_id)["phase"] == "ready"

    def test_its_assignment_should_travel_in_the_tasks_secrets(self, pull: NodeWorld) -> None:
        self.to_ready(pull)
        (launch_spec,) = pull.scripted.submitted
        assert set(launch_spec.secrets) == {"GPULAUNCH_ASSIGNMENT", "GPULAUNCH_AGENT_TOKEN"}
        assert "GPULAUNCH_URL" not in launch_spec.environment


@pytest.mark.parametrize("ended", [True, False])
def test_the_lease_should_be_that_of_the_record_as_written_not_as_read(push: NodeWorld, *, ended: bool) -> None:
    """Between the reading of a node's token and the writing of its report, another process terminates the instance."""
    instance_id = push.to_ready()
    door, calls = push.app.node_door, push.app.node_calls
    push.clock.advance(600)  # so that a heartbeat is written down
    caller = door.caller(instance_id, push.token(instance_id))
    if ended:
        push.delete(instance_id)
    report = NodeStatus(phase=NodePhase.SERVING, detail="news")
    for answer in (calls.heartbeat(caller), calls.progress(caller, report)):
        assert answer.renewed is not ended
        assert (answer.lease_seconds > 0) is not ended
