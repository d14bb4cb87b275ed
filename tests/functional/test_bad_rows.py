"""One bad row, or one task that fails, costs itself alone: its neighbours, the list, DELETE and health go on."""

import logging
from typing import Any

import pytest

from gpulaunch.models.instances import Phase
from shared.storage import rows
from tests.contract.test_unreadable_rows import Change, later_phase, later_schema, overwrite, raw, rewrite
from tests.functional.world import World

CANNOT_BE_READ = {"phase of a later version": later_phase, "record of a later schema": later_schema}


def later_reason(document: dict[str, Any]) -> None:
    document["ending"] = {"reason": "scaled_down", "message": "a reason of a later version"}


def ready_three(world: World) -> tuple[str, str, str]:
    """Three ready instances with a lifetime of five minutes."""
    ids = (
        world.launch(max_lifetime_minutes=5),
        world.launch(max_lifetime_minutes=5),
        world.launch(max_lifetime_minutes=5),
    )
    world.run(120)
    assert [world.show(one)["phase"] for one in ids] == ["ready"] * 3
    return ids


def key_of(instance_id: str) -> str:
    return rows.record_key(instance_id, ended=False)


def spoil(world: World, instance_id: str, change: Change | None) -> None:
    """Make a row unreadable; None: no JSON at all."""
    if change is None:
        overwrite(world.store, {**raw(world.store, key_of(instance_id)), "doc": "{not json"})
    else:
        rewrite(world.store, key_of(instance_id), change)


@pytest.mark.parametrize("change", [*CANNOT_BE_READ.values(), None], ids=[*CANNOT_BE_READ, "no JSON"])
def test_a_row_that_cannot_be_read_should_cost_itself_alone(
    world: World, caplog: pytest.LogCaptureFixture, change: Change | None
) -> None:
    first, bad, last = ready_three(world)
    spoil(world, bad, change)
    with caplog.at_level(logging.ERROR, "gpulaunch.sweep"):
        world.run(300)
    assert [world.show(one)["phase"] for one in (first, last)] == ["terminated", "terminated"]
    assert sum("cannot be read" in record.message for record in caplog.records) == 1, "one alert, not one a sweep"
    assert len(world.simulation.provider.clusters()) == 1, "its node is kept"

    listed = world.call("GET", "/api/instances")
    assert listed.status == 200
    assert [one["instance_id"] for one in listed.json["unreadable"]] == [bad]
    assert {one["instance_id"] for one in listed.json["instances"]} == {first, last}
    shown = world.call("GET", f"/api/instances/{bad}")
    assert (shown.status, shown.json["code"]) == (500, "unreadable_record")
    assert world.call("GET", "/api/costs").status == 200

    health = world.call("GET", "/api/health", token=None)
    assert (health.status, health.json["status"], health.json["unreadable"]) == (200, "degraded", 1)

    assert world.delete(bad).status == 202
    world.run(120)
    assert world.simulation.provider.clusters() == []
    assert world.call("GET", "/api/health", token=None).json["status"] == "ok"


def test_a_reason_of_a_later_version_should_be_read_and_ended_as_any_other(world: World) -> None:
    first, odd, last = ready_three(world)
    rewrite(world.store, key_of(odd), later_reason)
    world.run(300)
    assert [world.show(one)["phase"] for one in (first, odd, last)] == ["terminated"] * 3
    assert world.call("GET", "/api/health", token=None).json["status"] == "ok"


def test_a_failing_task_should_leave_the_others_alone_and_be_named(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = ready_three(world)

    def broken(*_: object) -> object:
        raise RuntimeError("the provider's listing makes no sense")

    with monkeypatch.context() as patch:
        patch.setattr(world.simulation.provider, "clusters", broken)
        world.run(301)
        health = world.call("GET", "/api/health", token=None).json
    assert [world.show(one)["phase"] for one in ids] == [Phase.TERMINATED.value] * 3
    failed = [task["name"] for task in health["tasks"] if task["failed_at"]]
    assert (health["status"], failed) == ("degraded", ["collected"])
    assert any("collected" in problem for problem in health["problems"])
    world.run(300)
    assert world.call("GET", "/api/health", token=None).json["status"] == "ok"
