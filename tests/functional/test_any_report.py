"""Whatever a node says, its instance ends when it is asked to, or at its deadline, and its pages can be read."""

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from shared import app as runtime
from shared.domain import instance, text
from shared.domain.instance import InstanceRecord
from shared.domain.node import NodeNotice, NodePhase, NodeStatus
from shared.domain.provider import NodeState, NodeView
from shared.lifecycle import transition
from shared.storage import rows
from tests.contract.test_unreadable_rows import rewrite
from tests.functional.scripted import NodeWorld
from tests.functional.web.visitor import Visitor
from tests.twins.clock import START

LARGEST = 2**53 - 1
pieces = st.sampled_from(["x", "\x01", '"', "\\", "\u2028", "\u202e", "🚀", "\x9b", "\x1b[2J", "\n", "\x7f", "é "])
lines = st.tuples(pieces, st.sampled_from([0, 1, 700, 2000]))
"""A piece and how often it is repeated."""
logs = st.tuples(lines, st.sampled_from([0, 1, 82, 200]))
byte_counts = st.sampled_from([None, 0, 1, LARGEST])
statuses = st.fixed_dictionaries(
    {"phase": st.sampled_from([phase.value for phase in NodePhase if phase is not NodePhase.STOPPING])},
    optional={
        "detail": lines,
        "failure": st.sampled_from(["port_taken", "server_failed", "a" * 40]),
        "fetched_bytes": byte_counts,
        "total_bytes": byte_counts,
        "port": st.sampled_from([1, 65535]),
        "log_tail": logs,
        "notice": st.sampled_from([None, None, None, *(notice.value for notice in NodeNotice)]),
        "job": st.sampled_from([None, None, {"exit_code": -255}, {"exit_code": 255}]),
    },
)
Say = tuple[str, Any]
calls: st.SearchStrategy[Say] = st.one_of(
    st.tuples(st.just("progress"), statuses),
    st.tuples(st.just("progress"), statuses),
    st.tuples(st.just("register"), st.fixed_dictionaries({"port": st.sampled_from([1, 8000, 65535])})),
    st.tuples(st.just("heartbeat"), st.fixed_dictionaries({}, optional={"running_requests": byte_counts})),
    st.tuples(st.just("notice"), st.fixed_dictionaries({"notice": st.sampled_from(list(NodeNotice))})),
    st.tuples(st.just("complete"), st.fixed_dictionaries({"exit_code": st.integers(-255, 255)})),
    st.tuples(st.just("assignment"), st.none()),
    st.tuples(st.just("wait"), st.sampled_from([1, 40, 1900])),
    st.tuples(st.just("alive"), st.booleans()),
    st.tuples(st.just("next"), st.just(1)),
)


def spelled(body: Any) -> Any:
    """A body with its lines written out."""
    if not isinstance(body, dict):
        return body
    status = cast("dict[str, Any]", body)
    made: dict[str, Any] = {}
    if "detail" in status:
        piece, count = status["detail"]
        made["detail"] = (piece * count)[:2000]
    if "log_tail" in status:
        (piece, length), count = status["log_tail"]
        made["log_tail"] = [(piece * length)[:2000]] * count
    return status | made


def play(pushes: bool, said: list[Say], by_deadline: bool) -> None:
    """Let a node say all this, and then its instance end."""
    world = NodeWorld("https://app.example.com" if pushes else "")
    try:
        instance_id = world.launch(max_lifetime_minutes=600)
        world.run(5)
        world.scripted.view = NodeView(state=NodeState.UP, address="203.0.113.7")
        attempt = 1
        for call, body in said:
            attempt = say(world, instance_id, attempt, call, body)
        ends(world, instance_id, by_deadline)
    finally:
        runtime.use(None)


def say(world: NodeWorld, instance_id: str, attempt: int, call: str, body: Any) -> int:
    body = spelled(body)
    match call:
        case "wait":
            world.run(body)
        case "alive":
            world.scripted.alive = body
        case "next":
            return len(world.show(instance_id)["attempts"]) or 1
        case "progress" if not world.given.public_url:
            world.scripted.account = NodeStatus.model_validate(body)
            world.run(31)
        case _:
            answer = world.node(instance_id, call, body, token=world.token(instance_id, attempt))
            assert answer.status in (200, 410), (call, answer.status, answer.body)
            left = (START + timedelta(minutes=600) - world.clock.now()).total_seconds()
            if call != "assignment":
                assert answer.json["lease_seconds"] <= max(0, left)
    return attempt


def ends(world: NodeWorld, instance_id: str, by_deadline: bool) -> None:
    assert Visitor(world).sign_in().get(f"/instances/{instance_id}").status == 200
    world.scripted.account = None
    if by_deadline:
        world.run(601 * 60)
    else:
        assert world.delete(instance_id).status == 202
    world.run(300)
    shown = world.show(instance_id)
    assert shown["ended_at"] is not None, shown["phase"]
    assert world.running() <= 0
    assert world.errors == []
    for path in (f"/instances/{instance_id}", "/instances"):
        assert Visitor(world).sign_in().get(path).status == 200
    answers = [world.call("GET", f"/api/instances/{instance_id}{what}").json for what in ("", "/events", "/logs")]
    assert re.search(r"[\x00-\x1f\x7f-\x9f\u2028\u202e]", "".join(texts_of(answers))) is None


def texts_of(value: Any) -> list[str]:
    if isinstance(value, dict):
        return texts_of(list(cast("dict[str, Any]", value).values()))
    if isinstance(value, list):
        return [found for one in cast("list[Any]", value) for found in texts_of(one)]
    return [value] if isinstance(value, str) else []


SUPPRESSED = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example]


@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=SUPPRESSED)
@given(pushes=st.booleans(), said=st.lists(calls, max_size=12), by_deadline=st.booleans())
def test_whatever_a_node_says_its_instance_should_end(pushes: bool, said: list[Say], by_deadline: bool) -> None:
    play(pushes, said, by_deadline)


def any_character_is_kept(patch: pytest.MonkeyPatch) -> None:
    for name in ("_ESCAPES", "_SPACES", "_DROPPED"):
        patch.setattr(text, name, re.compile("(?!)"))


def a_log_is_counted_in_lines(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(text, "LOG_UNITS", 10**9)
    any_character_is_kept(patch)

    def as_it_is(said: str, units: int) -> str:
        return said

    patch.setattr(transition, "shorten", as_it_is)


@pytest.mark.parametrize("plant", [any_character_is_kept, a_log_is_counted_in_lines])
def test_a_planted_bug_should_be_found_by_what_nodes_say(
    monkeypatch: pytest.MonkeyPatch, plant: Callable[[pytest.MonkeyPatch], None]
) -> None:
    plant(monkeypatch)

    @settings(
        max_examples=60, deadline=None, derandomize=True, suppress_health_check=SUPPRESSED, phases=[Phase.generate]
    )
    @given(pushes=st.booleans(), said=st.lists(calls, max_size=12), by_deadline=st.booleans())
    def search(pushes: bool, said: list[Say], by_deadline: bool) -> None:
        play(pushes, said, by_deadline)

    with pytest.raises(AssertionError):
        search()


def test_a_lease_should_not_be_renewed_beyond_the_deadline(push: NodeWorld) -> None:
    instance_id = push.to_ready(max_lifetime_minutes=10)
    push.scripted.alive = True
    assert push.node(instance_id, "heartbeat", {}).json["lease_seconds"] < 600
    push.clock.advance(500)
    left = push.node(instance_id, "heartbeat", {}).json["lease_seconds"]
    assert 80 <= left <= 100
    push.clock.advance(100)
    assert push.node(instance_id, "heartbeat", {}).json == {"renewed": False, "lease_seconds": 0}


def fill(world: NodeWorld, instance_id: str, units: int) -> None:
    def grow(document: dict[str, Any]) -> None:
        document["of_a_later_version"] = ""
        document["of_a_later_version"] = "x" * (units - len(InstanceRecord.model_validate(document).model_dump_json()))

    rewrite(world.store, rows.record_key(instance_id, ended=False), grow)


def test_reports_should_be_refused_well_before_a_record_is_full(push: NodeWorld) -> None:
    instance_id = push.to_ready()
    fill(push, instance_id, instance.REPORT_UNITS)
    assert push.node(instance_id, "progress", {"phase": "serving", "detail": "one more"}).status == 200
    answer = push.node(instance_id, "progress", {"phase": "serving", "detail": "and one more"})
    assert (answer.status, answer.json["code"]) == (413, "record_full")
    assert push.node(instance_id, "heartbeat", {}).json["renewed"] is True


@pytest.mark.parametrize(
    ("call", "body"),
    [
        ("progress", {"phase": "failed", "detail": "x" * 2000, "log_tail": ["x" * 2000] * 200}),
        ("progress", {"phase": "serving", "job": {"exit_code": 0}, "log_tail": ["x" * 2000] * 200}),
        ("complete", {"exit_code": 0}),
        ("notice", {"notice": "eviction", "seconds_left": 0}),
    ],
)
def test_what_leads_to_the_end_should_never_be_refused(push: NodeWorld, call: str, body: Any) -> None:
    instance_id = push.to_ready()
    push.node(instance_id, "progress", {"phase": "serving", "detail": "y" * 500, "log_tail": ["y" * 2000] * 20})
    fill(push, instance_id, rows.MAX_DOC_UNITS)
    assert push.node(instance_id, call, body).status == 200
    push.run(5)
    assert push.show(instance_id)["attempts"][0]["gone_at"] is not None
    push.delete(instance_id)
    push.run(60)
    assert push.show(instance_id)["phase"] == "terminated"


@pytest.mark.parametrize(
    ("call", "body"),
    [
        ("progress", {"phase": "loading_model", "fetched_bytes": LARGEST + 1}),
        ("progress", {"phase": "loading_model", "total_bytes": 10**308}),
        ("progress", {"phase": "serving", "port": 65536}),
        ("progress", {"phase": "serving", "job": {"exit_code": 256}}),
        ("complete", {"exit_code": -(10**300)}),
        ("register", {"port": 10**9}),
    ],
)
def test_a_number_that_nothing_counts_to_should_be_refused(push: NodeWorld, call: str, body: Any) -> None:
    instance_id = push.launch()
    push.run(5)
    assert push.node(instance_id, call, body).status == 422


def test_a_line_of_a_node_should_not_forge_a_line_of_the_log(push: NodeWorld, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    instance_id = push.launch()
    push.run(5)
    forged = "x\n2026-11-26 09:00:00 INFO gpulaunch.auth: admin signed in \x1b[2J\x1b]0;pwn\x07"
    push.node(instance_id, "progress", {"phase": "failed", "failure": "server_failed", "detail": forged})
    said = [line.getMessage() for line in caplog.records]
    assert any("admin signed in" in line for line in said)
    assert all(re.search(r"[\n\x1b\x07]", line) is None and "pwn" not in line for line in said)
