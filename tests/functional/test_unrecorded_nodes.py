"""Nodes whose record the table has lost, or holds unreadably: what proves itself by its token keeps its lease.

Such a node may be in use. It ends at its own deadline at the latest, and waits for a person in the reports of garbage.
"""

from datetime import timedelta
from typing import Any

import pytest

from shared.control.sweep.expiry import EVERY
from shared.storage.base import UNRECORDED_CALLER, Unreadable
from tests.functional.scripted import NodeWorld
from tests.functional.test_bad_rows import UNREADABLE
from tests.twins.store import MemoryInstanceStore

LOAD = {"running_requests": 1}


def heartbeat(world: NodeWorld, instance_id: str, attempt: int = 1) -> Any:
    return world.node(instance_id, "heartbeat", LOAD, token=world.token(instance_id, attempt))


def lose_table(world: NodeWorld, store: MemoryInstanceStore | None = None) -> None:
    world.beating.clear()
    world.store = store or MemoryInstanceStore()
    world.rebuild(store=world.store)


def test_a_node_without_a_record_should_keep_its_lease(push: NodeWorld) -> None:
    instance_id = push.to_ready()
    lose_table(push)
    answer = heartbeat(push, instance_id)
    assert (answer.status, answer.json) == (200, {"renewed": True, "lease_seconds": 900})


@pytest.mark.parametrize(("token", "counted"), [(None, 0), ("wrong", 10)])
def test_its_calls_should_not_count_as_wrong_tokens(
    push: NodeWorld, caplog: pytest.LogCaptureFixture, token: str | None, counted: int
) -> None:
    instance_id = push.to_ready()
    lose_table(push)
    for _ in range(20):
        push.node(instance_id, "heartbeat", LOAD, token=token)
    assert sum(vars(line).get("event") == "access_failed" for line in caplog.records) == counted


@pytest.mark.parametrize("call", ["progress", "register", "notice", "complete"])
def test_no_report_should_be_refused_to_it(push: NodeWorld, call: str) -> None:
    instance_id = push.to_ready()
    lose_table(push)
    body = {"progress": {"phase": "serving"}, "register": {"port": 1}, "notice": {"notice": "eviction"}}
    assert push.node(instance_id, call, body.get(call, {"exit_code": 0})).json["renewed"]
    assert push.call("GET", f"/api/instances/{instance_id}").status == 404


def test_it_should_get_no_assignment(push: NodeWorld) -> None:
    instance_id = push.to_ready()
    lose_table(push)
    assert push.node(instance_id, "assignment").status == 401


def test_a_caller_without_the_node_s_token_should_be_refused(push: NodeWorld) -> None:
    one, other = push.to_ready(), push.to_ready()
    lose_table(push)
    for token in (push.token(other), "x" * 43, push.token(one, 1000)):
        assert push.node(one, "heartbeat", LOAD, token=token).status == 401
    assert push.store.markers(UNRECORDED_CALLER) == []


def test_an_attempt_that_an_older_table_does_not_have_should_keep_its_lease(push: NodeWorld) -> None:
    instance_id = push.to_ready()
    assert heartbeat(push, instance_id, 2).json["renewed"]


def test_an_attempt_beyond_those_of_an_ended_record_should_be_refused(push: NodeWorld) -> None:
    instance_id = push.to_ready()
    push.delete(instance_id)
    push.run(60)
    assert push.show(instance_id)["phase"] == "terminated"
    assert heartbeat(push, instance_id, 2).status == 401
    assert not heartbeat(push, instance_id).json["renewed"]


@pytest.mark.parametrize("name", UNREADABLE)
def test_a_node_whose_row_cannot_be_read_should_keep_its_lease(push: NodeWorld, name: str) -> None:
    """All its processes may be of an older version for a while, after a roll-back."""
    instance_id = push.to_ready()
    UNREADABLE[name](push, instance_id)
    assert heartbeat(push, instance_id).json["renewed"]
    assert push.node(instance_id, "heartbeat", LOAD, token="x" * 43).status == 401


@pytest.mark.parametrize("name", UNREADABLE)
def test_a_node_of_an_ended_row_that_cannot_be_read_should_be_no_waiting_caller(push: NodeWorld, name: str) -> None:
    instance_id = push.to_ready()
    UNREADABLE[name](push, instance_id)
    (unreadable,) = push.store.live()
    assert isinstance(unreadable, Unreadable)
    push.store.close_unreadable(unreadable)
    heartbeat(push, instance_id)
    assert push.store.markers(UNRECORDED_CALLER) == []


def test_a_caller_should_be_noted_for_an_hour(push: NodeWorld) -> None:
    instance_id = push.to_ready()
    lose_table(push)
    heartbeat(push, instance_id)
    (marker,) = push.store.markers(UNRECORDED_CALLER)
    assert (marker.at, marker.until) == (push.clock.now(), push.clock.now() + timedelta(hours=1))


def test_a_caller_should_be_forgotten_an_hour_after_its_last_call(push: NodeWorld) -> None:
    instance_id = push.to_ready()
    lose_table(push)
    heartbeat(push, instance_id)
    push.run(EVERY.total_seconds() / 2)
    assert [marker.key[:-3] for marker in push.store.markers(UNRECORDED_CALLER)] == [f"gl-{instance_id[5:].lower()}"]
    push.run(2 * EVERY.total_seconds())
    assert push.store.markers(UNRECORDED_CALLER) == []
