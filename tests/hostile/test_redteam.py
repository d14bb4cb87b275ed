"""What a red team did to the program once, each against the program as it is now."""

import logging
from collections.abc import Iterator

import pytest
from pydantic import ValidationError

from shared import app as runtime
from shared.domain.node import NodePhase, NodeRegistration, NodeStatus
from shared.domain.provider import NodeState, NodeView
from tests.functional.scripted import NodeWorld
from tests.functional.world import SEED


@pytest.fixture
def push() -> Iterator[NodeWorld]:
    yield NodeWorld()
    runtime.use(None)


def fill(push: NodeWorld, instance_id: str) -> None:
    """Make the record as large as it gets by log lines of control characters: each is six units of the row."""

    def post(count: int) -> bool:
        full, rest = divmod(count, 2000)
        body = {"phase": "serving", "log_tail": ["\x01" * 2000] * full + ["\x01" * rest]}
        return bool(push.node(instance_id, "progress", body).status == 200)

    low, high = 0, 86_000
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if post(middle) else (low, middle)
    post(low)


def test_whatever_a_node_says_its_instance_should_end_when_asked(push: NodeWorld) -> None:
    instance_id = push.to_ready()
    fill(push, instance_id)
    assert push.delete(instance_id).status == 202
    push.scripted.view = NodeView(state=NodeState.ABSENT)
    push.run(60)
    assert push.show(instance_id)["phase"] == "terminated"


def test_whatever_a_node_says_its_deadline_should_end_it_and_no_sweep_should_fail(push: NodeWorld) -> None:
    instance_id = push.to_ready()
    fill(push, instance_id)
    push.run(13 * 3600)
    assert push.show(instance_id)["phase"] == "terminated"
    assert push.errors == []
    assert push.call("GET", "/api/health").json["status"] == "ok"


def test_a_node_that_is_asked_should_not_keep_others_from_being_judged() -> None:
    world = NodeWorld(public_url="")
    world.scripted.view, world.scripted.alive = NodeView(state=NodeState.UP, address="203.0.113.7"), True
    world.scripted.account = NodeStatus(phase=NodePhase.SERVING, port=8000)
    first, second = world.launch(), world.launch()
    world.run(60)
    world.scripted.account = NodeStatus(phase=NodePhase.SERVING, log_tail=["\x01" * 2000] * 80)
    world.run(60)
    world.scripted.alive = False
    world.run(31)
    assert [world.show(one)["health"]["failures"] for one in (first, second)] == [1, 1]
    assert world.errors == []
    runtime.use(None)


@pytest.mark.parametrize("field", ["fetched_bytes", "total_bytes"])
def test_a_nodes_numbers_should_be_ones_that_a_page_can_show(field: str) -> None:
    with pytest.raises(ValidationError):
        NodeStatus.model_validate_json(f'{{"phase": "loading_model", "{field}": 1{"0" * 400}}}')


def test_a_nodes_words_should_hold_no_line_ends_and_no_escapes(
    push: NodeWorld, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    instance_id = push.launch()
    push.run(5)
    forged = "x\n2026-11-26 09:00:00 INFO gpulaunch.auth: admin signed in \x1b[2J"
    push.node(instance_id, "progress", {"phase": "failed", "failure": "server_failed", "detail": forged})
    assert all("\n" not in line.getMessage() and "\x1b" not in line.getMessage() for line in caplog.records)


@pytest.mark.parametrize(
    "arguments",
    [["-H", "Authorization: Bearer sk-abcdefgh1"], ["--password", "sk-abcdefgh1"]],
)
def test_credentials_in_a_launchs_arguments_should_be_refused_and_shown_to_no_one(
    push: NodeWorld, arguments: list[str]
) -> None:
    launch = {**SEED, "job": {"command": ["curl", *arguments]}}
    answer = push.call("POST", "/api/instances/launch", launch)
    assert (answer.status, answer.json["errors"][0]["field"]) == (422, "job.command.2")
    assert b"sk-abcdefgh1" not in answer.body
    assert b"sk-abcdefgh1" not in push.call("GET", "/api/instances").body


@pytest.mark.parametrize("header", ["X-Admin-Token", "Authorization"])
def test_a_header_of_any_bytes_should_be_a_wrong_token(push: NodeWorld, header: str) -> None:
    value = "\udcff" if header == "X-Admin-Token" else "Bearer \udcff"
    assert push.call("GET", "/api/instances", token=None, headers={header: value}).status == 401
    instance_id = push.launch()
    assert push.node(instance_id, "heartbeat", {}, token="\udcff").status == 401


def test_a_registration_has_no_address() -> None:
    assert "address" not in NodeRegistration.model_fields
