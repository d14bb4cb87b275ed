"""No rule ends or gives up a node on what was observed before: it is observed again first."""

from collections.abc import Iterator

import pytest

from shared.domain.node import NodePhase, NodeStatus
from shared.domain.provider import NodeState, NodeView
from shared.errors import StaleRecordError
from tests.functional.scripted import NodeWorld


@pytest.fixture
def pull() -> Iterator[NodeWorld]:
    made = NodeWorld(public_url="")
    yield made
    assert made.errors == []


def test_a_sweep_after_a_long_pause_should_look_before_it_ends_an_idle_node(push: NodeWorld) -> None:
    instance_id = push.to_ready(idle_minutes=10)
    push.run(60)
    push.clock.advance(3600)  # no sweep came, and meanwhile the node got work
    push.scripted.running = 2
    push.run(120)
    assert push.show(instance_id)["phase"] == "ready"
    push.scripted.running = 0
    push.run(11 * 60)
    assert push.show(instance_id)["ending"]["reason"] == "idle"


def test_a_node_should_not_be_idle_while_its_job_runs(push: NodeWorld) -> None:
    instance_id = push.to_ready(idle_minutes=10, job={"command": ["python", "batch.py"]})
    push.run(3600)
    assert push.show(instance_id)["phase"] == "ready"
    push.node(instance_id, "complete", {"exit_code": 0})
    assert push.show(instance_id)["ending"]["reason"] == "job_completed"


def test_a_node_that_went_on_unseen_should_not_be_given_up_for_taking_too_long(pull: NodeWorld) -> None:
    instance_id = pull.launch()
    pull.scripted.view = NodeView(state=NodeState.UP, address="203.0.113.7")
    pull.scripted.account = NodeStatus(phase=NodePhase.INSTALLING)
    pull.run(60)
    assert pull.show(instance_id)["phase"] == "installing"
    pull.clock.advance(2 * 3600)  # longer than an installation may take
    pull.scripted.account = NodeStatus(phase=NodePhase.SERVING, port=8000)
    pull.scripted.alive = True
    pull.run(60)
    assert pull.show(instance_id)["phase"] == "ready"


def starting(push: NodeWorld) -> str:
    """An instance whose node reports that it installs, before the app is away for a while."""
    instance_id = push.launch()
    push.scripted.view = NodeView(state=NodeState.UP, address="203.0.113.7")
    push.run(60)
    push.node(instance_id, "progress", {"phase": "installing"})
    push.run(1500)
    push.node(instance_id, "progress", {"phase": "installing"})
    push.clock.advance(600)
    return instance_id


def test_a_node_should_have_the_time_to_say_how_far_it_is_after_an_outage_of_the_app(push: NodeWorld) -> None:
    instance_id = starting(push)
    push.run(35)
    assert push.node(instance_id, "progress", {"phase": "loading_model"}).json["renewed"] is True
    push.run(300)
    shown = push.show(instance_id)
    assert (shown["phase"], len(shown["attempts"])) == ("loading_model", 1)


def test_a_node_that_says_nothing_after_an_outage_of_the_app_should_be_given_up(push: NodeWorld) -> None:
    instance_id = starting(push)
    push.run(240)
    assert push.show(instance_id)["attempts"][0]["failure"]["reason"] == "install_timeout"


def test_a_node_that_did_not_go_on_should_be_given_up(pull: NodeWorld) -> None:
    instance_id = pull.launch()
    pull.scripted.view = NodeView(state=NodeState.UP, address="203.0.113.7")
    pull.scripted.account = NodeStatus(phase=NodePhase.INSTALLING)
    pull.run(60)
    pull.clock.advance(2 * 3600)
    pull.run(60)
    assert pull.show(instance_id)["attempts"][0]["failure"]["reason"] == "install_timeout"


def test_a_record_that_changed_while_its_node_was_probed_should_be_left_to_the_next_sweep(
    push: NodeWorld, caplog: pytest.LogCaptureFixture
) -> None:
    instance_id = push.to_ready()
    push.run(60)
    push.scripted.alive = False
    push.store.calls.fail_next("commit", StaleRecordError("another was first"))
    push.sweep()
    assert [record for record in caplog.records if record.exc_info] == []
    assert push.show(instance_id)["health"]["state"] == "healthy"
    push.run(60)
    assert push.show(instance_id)["health"]["state"] != "healthy"


def test_a_ready_node_whose_address_is_lost_should_be_no_healthy_one(push: NodeWorld) -> None:
    ids = [push.to_ready() for _ in range(2)]
    push.run(60)
    found = push.store.load(ids[0])
    assert found is not None
    attempt = found.record.attempts[-1].model_copy(update={"address": None})
    push.store.commit(found, found.record.model_copy(update={"attempts": [attempt]}), [])
    push.sweep()
    assert [push.show(one)["health"]["state"] for one in ids] == ["unhealthy", "healthy"]
    assert push.show(ids[0])["health"]["message"] == "The node has no known address."
