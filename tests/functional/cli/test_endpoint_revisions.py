"""A change of an endpoint over what was shown: made once, or refused because others were first."""

from typing import Any

import pytest

from gpulaunch import ConflictError, GpuLaunch
from tests.functional.test_endpoints import CHAT, create, served, show
from tests.functional.world import SEED, World

CHANGES: dict[str, tuple[str, str, dict[str, Any] | None]] = {
    "put": ("PUT", CHAT, {"launch": SEED, "replicas": 5}),
    "patch": ("PATCH", CHAT, {"replicas": 5}),
    "pause": ("POST", f"{CHAT}/pause", None),
    "rollout": ("POST", f"{CHAT}/rollout", None),
    "delete": ("DELETE", CHAT, None),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_over_what_others_have_changed_should_be_refused(world: World, change: str) -> None:
    create(world)
    shown = show(world)["revision"]
    world.call("PATCH", CHAT, {"replicas": 3})
    method, path, body = CHANGES[change]
    refused = world.call(method, path, body, headers={"If-Match": f'"{shown}"'})
    assert (refused.status, refused.json["code"]) == (412, "endpoint_changed")
    assert "chat has been changed since" in refused.json["detail"]
    now = show(world)
    assert (now["replicas"], now["paused"], now["generation"], now["status"]) == (3, False, 1, "starting")
    assert world.call(method, path, body, headers={"If-Match": f'"{now["revision"]}"'}).status in (200, 202)


@pytest.mark.parametrize("given", ["", "*", 'W/"{}"'])
def test_a_change_over_what_is_there_should_be_made(world: World, given: str) -> None:
    create(world)
    mark = given.format(show(world)["revision"])
    assert world.call("PATCH", CHAT, {"replicas": 3}, headers={"If-Match": mark}).json["replicas"] == 3


def test_what_replicas_do_should_leave_the_revision_as_it_is(world: World) -> None:
    create(world)
    before = show(world)["revision"]
    world.run(120)
    assert (show(world)["status"], show(world)["revision"]) == ("ready", before)


def test_the_same_change_sent_twice_should_be_made_once(world: World, gpu: GpuLaunch) -> None:
    create(world)
    shown = show(world)["revision"]
    for _ in range(2):
        assert gpu.change_endpoint("chat", replicas=3, revision=shown).replicas == 3
        assert gpu.deploy("chat", launch=SEED, replicas=3, revision=shown).replicas == 3
    with pytest.raises(ConflictError):
        gpu.pause_endpoint("chat", revision=shown)


def test_an_endpoint_of_the_same_name_should_not_be_taken_for_the_one_that_was_shown(
    world: World, gpu: GpuLaunch
) -> None:
    shown = served(world)["revision"]
    gpu.delete_endpoint("chat")
    world.run(300)
    with pytest.raises(ConflictError):
        gpu.deploy("chat", launch=SEED, replicas=2, revision=shown)
    create(world)
    with pytest.raises(ConflictError):
        gpu.delete_endpoint("chat", revision=shown)
    assert show(world)["status"] == "starting"


def test_each_replica_should_have_the_number_of_its_place(world: World) -> None:
    assert [one["slot"] for one in served(world)["members"]] == [1, 2]
