"""One bad row, node or task costs itself alone: its neighbours, the list, DELETE and health go on."""

import logging
import re
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest

from gpulaunch.models.instances import Phase
from shared.control.queries import HealthReports
from shared.control.sweep.unreadable_rows import UNREADABLE as ALERTED
from shared.control.termination import TERMINATE_UNREADABLE, UnreadableTermination
from shared.domain import text
from shared.domain.instance import InstanceRecord
from shared.errors import UnreadableRowError
from shared.storage import records, rows
from tests.contract.test_unreadable_rows import Change, later_phase, later_schema, overwrite, raw, rewrite
from tests.functional.scripted import NodeWorld
from tests.functional.world import SWEEP_SECONDS, World
from tests.simulation.mutations import always, raising

Spoil = Callable[[World, str], None]
Plant = Callable[[pytest.MonkeyPatch], None]

NOISE = "\x1b[2J\x00\u009b31m"
FEW, MANY = 5, 60
"""Minutes that the neighbours may live, and the bad one."""


def key_of(instance_id: str) -> str:
    return rows.record_key(instance_id, ended=False)


def no_json(world: World, instance_id: str) -> None:
    overwrite(world.store, {**raw(world.store, key_of(instance_id)), "doc": "{not json"})


def document_with(change: Change) -> Spoil:
    return lambda world, instance_id: rewrite(world.store, key_of(instance_id), change)


def later_reason(document: dict[str, Any]) -> None:
    failure = {"reason": "scaled_down", "message": "a reason of a later version"}
    document["attempts"][0]["failure"] = document["ending"] = failure


def without_room(field: str) -> Change:
    def fill(document: dict[str, Any]) -> None:
        document[field] = [""] if field == "log_tail" else ""
        room = rows.MAX_DOC_UNITS - len(InstanceRecord.model_validate(document).model_dump_json())
        document[field] = ["x" * room] if field == "log_tail" else "x" * room

    return fill


def noise(world: World, instance_id: str) -> None:
    assert isinstance(world, NodeWorld)
    report = {"phase": "serving", "detail": NOISE + "ok", "log_tail": [NOISE + "\x00" * 840 + "ok"] * 200}
    assert world.node(instance_id, "progress", report).status == 200
    shown = str([world.show(instance_id), world.call("GET", f"/api/instances/{instance_id}/logs").json])
    assert "ok" in shown
    assert re.search(r"\\x|\\u", shown) is None, "nothing of it is shown"


UNREADABLE: dict[str, Spoil] = {
    "no_json": no_json,
    "later_phase": document_with(later_phase),
    "later_schema": document_with(later_schema),
}
READABLE: dict[str, Spoil] = {
    "later_reason": document_with(later_reason),
    "full_log": document_with(without_room("log_tail")),
    "full_record": document_with(without_room("mode_reason")),
    "full_of_what_a_later_version_wrote": document_with(without_room("of_a_later_version")),
    "noise": noise,
}


def health(world: World) -> Any:
    answer = world.call("GET", "/api/health", token=None)
    assert answer.status == 200
    return answer.json


def neighbours_end_on_time(world: World, spoil: Spoil, *, minutes: int) -> str:
    """Spoil the second of three ready instances, and let the other two come to their deadline; the second one's id."""
    ids = [world.to_ready(max_lifetime_minutes=each) for each in (FEW, minutes, FEW)]
    spoil(world, ids[1])
    world.run(FEW * 60 + SWEEP_SECONDS)
    for one in (ids[0], ids[2]):
        shown = world.show(one)
        assert (shown["phase"], shown["ending"] and shown["ending"]["reason"]) == ("terminated", "deadline")
        late = datetime.fromisoformat(shown["ended_at"]) - datetime.fromisoformat(shown["deadline_at"])
        assert late <= timedelta(seconds=SWEEP_SECONDS + 5)
    listed = world.call("GET", "/api/instances")
    assert listed.status == 200
    unreadable = [row["instance_id"] for row in listed.json["unreadable"]]
    assert sorted([row["instance_id"] for row in listed.json["instances"]] + unreadable) == sorted(ids)
    assert unreadable == ([ids[1]] if spoil in UNREADABLE.values() else [])
    return ids[1]


def delete_ends(world: World, bad: str) -> None:
    assert world.delete(bad).status == 202
    world.run(120)
    assert world.running() == 0
    assert health(world)["status"] == "ok"


def readable_is_as_any_other(world: World, name: str) -> None:
    bad = neighbours_end_on_time(world, READABLE[name], minutes=MANY)
    assert world.show(bad)["phase"] == "ready"
    delete_ends(world, bad)
    shown = world.show(bad)
    assert (shown["phase"], shown["ending"]["reason"]) == ("terminated", "user_request")


def unreadable_costs_itself_alone(world: World, name: str) -> None:
    bad = neighbours_end_on_time(world, UNREADABLE[name], minutes=FEW)
    assert world.running() == 1, "its node is kept"
    shown = world.call("GET", f"/api/instances/{bad}")
    assert (shown.status, shown.json["code"]) == (500, "unreadable_record")
    assert world.call("GET", "/api/costs").status == 200
    found = health(world)
    assert (found["status"], found["unreadable"]) == ("degraded", 1)
    assert found["problems"] == ["1 record cannot be read: marked in GET /api/instances, terminated by DELETE."]
    delete_ends(world, bad)


@pytest.mark.parametrize("name", UNREADABLE)
def test_an_unreadable_row_should_cost_itself_alone(world: World, caplog: pytest.LogCaptureFixture, name: str) -> None:
    with caplog.at_level(logging.ERROR, "gpulaunch.sweep"):
        unreadable_costs_itself_alone(world, name)
    alerts = [
        one.message for one in caplog.records if one.name == "gpulaunch.sweep" and "cannot be read" in one.message
    ]
    assert len(alerts) == 1, "one alert, not one a sweep"


@pytest.mark.parametrize("name", READABLE)
def test_an_odd_instance_should_live_and_end_by_delete_as_any_other(push: NodeWorld, name: str) -> None:
    readable_is_as_any_other(push, name)


@pytest.mark.parametrize("name", READABLE)
def test_an_odd_instance_should_end_at_its_deadline_as_any_other(push: NodeWorld, name: str) -> None:
    odd = neighbours_end_on_time(push, READABLE[name], minutes=FEW)
    assert push.show(odd)["ending"]["reason"] == "deadline"
    assert push.running() == 0


def test_a_record_without_room_should_not_end_the_probes_of_its_neighbours(push: NodeWorld) -> None:
    ids = [push.to_ready() for _ in range(3)]
    READABLE["full_of_what_a_later_version_wrote"](push, ids[1])
    push.scripted.alive = False
    push.run(SWEEP_SECONDS + 5)
    assert [push.show(one)["health"]["state"] for one in ids] == ["unhealthy", "healthy", "unhealthy"]
    assert any("task probes failed" in problem for problem in health(push)["problems"])
    assert push.delete(ids[1]).json["phase"] == "terminating"


@pytest.mark.parametrize("deleted", [True, False])
def test_a_delete_should_end_an_instance_whose_row_can_be_read_again(
    world: World, monkeypatch: pytest.MonkeyPatch, deleted: bool
) -> None:
    bad, other = world.to_ready(), world.to_ready()
    before = raw(world.store, key_of(bad))
    no_json(world, bad)
    with monkeypatch.context() as patch:
        # Nothing is deleted before a later version has rolled out again.
        patch.setattr(world.simulation.provider, "delete", always(value=False))
        if deleted:
            assert world.delete(bad).status == 202
        world.run(60)
    overwrite(world.store, before)
    world.run(330)
    assert world.show(bad)["phase"] == ("terminated" if deleted else "ready")
    assert world.show(other)["phase"] == "ready"
    assert world.store.markers(TERMINATE_UNREADABLE) == []
    assert [marker.key for marker in world.store.markers(ALERTED)] == [bad]
    world.run(5 * 3600)
    assert world.store.markers(ALERTED) == []


def reasons_of_later_versions_are_errors(patch: pytest.MonkeyPatch) -> None:
    def strict(record: InstanceRecord, *_: object) -> str | None:
        return None if record.ending is None or record.ending.reason.known else "ending.reason: Input should be known"

    patch.setattr(records, "_misplaced", strict)


def a_bad_row_ends_the_walk(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(records, "_rescued", raising(UnreadableRowError("a row cannot be read")))


def delete_needs_a_readable_row(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(UnreadableTermination, "advance", always(value=False))


def health_knows_no_bad_rows(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(HealthReports, "_problems", always([]))


def an_end_has_no_room_of_its_own(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(rows, "ENDING_UNITS", 0)


def a_node_may_say_anything(patch: pytest.MonkeyPatch) -> None:
    for name in ("_ESCAPES", "_SPACES", "_DROPPED"):
        patch.setattr(text, name, re.compile("(?!)"))


@pytest.mark.parametrize(
    ("plant", "name"),
    [
        (reasons_of_later_versions_are_errors, "later_reason"),
        (a_bad_row_ends_the_walk, "no_json"),
        (delete_needs_a_readable_row, "no_json"),
        (health_knows_no_bad_rows, "no_json"),
        (an_end_has_no_room_of_its_own, "full_of_what_a_later_version_wrote"),
        (a_node_may_say_anything, "noise"),
    ],
)
def test_a_planted_bug_should_be_found(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, plant: Plant, name: str
) -> None:
    world: World = request.getfixturevalue("world" if name in UNREADABLE else "push")
    plant(monkeypatch)
    with pytest.raises(AssertionError):
        (unreadable_costs_itself_alone if name in UNREADABLE else readable_is_as_any_other)(world, name)
    world.errors.clear()


def test_a_failing_task_should_leave_the_others_alone_and_be_named(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = [world.to_ready(max_lifetime_minutes=FEW) for _ in range(3)]
    with monkeypatch.context() as patch:
        patch.setattr(world.simulation.provider, "clusters", raising(RuntimeError("a listing that makes no sense")))
        world.run(301)
        found = health(world)
    assert [world.show(one)["phase"] for one in ids] == [Phase.TERMINATED.value] * 3
    failed = [task["name"] for task in found["tasks"] if task["failed_at"]]
    assert (found["status"], failed) == ("degraded", ["collected"])
    assert any("collected" in problem for problem in found["problems"])
    world.run(300)
    assert health(world)["status"] == "ok"
