"""A SkyPilot server that lost its books: a restored backup, no volume, another account."""

from collections.abc import Iterator
from typing import Any

import pytest

from shared import app as runtime
from shared.auth import Purpose
from shared.domain.messages import AlertMessage
from shared.queues import ALERTS
from shared.storage.base import ORPHAN
from tests.functional.scripted import Scripted
from tests.functional.skypilot_world import SkyPilotWorld
from tests.standins.sky_server import SkyServer

HOUR = 3600.0


@pytest.fixture
def server() -> Iterator[SkyServer]:
    with SkyServer() as made:
        yield made


@pytest.fixture
def world(server: SkyServer) -> Iterator[SkyPilotWorld]:
    made = SkyPilotWorld(server, GPULAUNCH_WEBHOOK_URLS="slack|https://hooks.example.com/x")
    yield made
    made.close()
    runtime.use(None)
    assert made.errors == []


def nodes(world: SkyPilotWorld) -> Scripted:
    scripted: Any = world.real().nodes
    return scripted


def serving(world: SkyPilotWorld) -> tuple[str, str]:
    """A ready instance, and the name of its cluster."""
    instance_id = world.launch(use_spot=False, max_lifetime_minutes=600)
    for _ in range(4):
        world.run(10)
        world.server.settle()
    token = {"Authorization": f"Bearer {world.adapters.deriver.derive(instance_id, 1, Purpose.NODE)}"}
    nodes(world).alive, nodes(world).running = True, 1
    call = f"/api/nodes/{instance_id}/register"
    assert world.call("POST", call, {"port": 8000}, token=None, headers=token).json["renewed"]
    world.run(30)
    assert world.show(instance_id)["phase"] == "ready"
    world.beating[instance_id] = 1
    return instance_id, world.show(instance_id)["attempts"][0]["cluster_name"]


def nothing(body: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"unknown": body}][:0]


def run(world: SkyPilotWorld, seconds: float) -> None:
    for _ in range(int(seconds / 30)):
        world.run(30)
        world.server.settle()


def alerts(world: SkyPilotWorld) -> list[str]:
    """The alerts about lost records since the last call."""
    found: list[str] = []
    while taken := world.queues.take(ALERTS, hide_seconds=60):
        for message in taken:
            notice = AlertMessage.model_validate_json(message.body).garbage
            found += [notice.message] if notice is not None and notice.reason == "lost" else []
            world.queues.forget(message)
    return found


def test_a_serving_node_should_survive_one_failed_probe_while_the_books_are_empty(world: SkyPilotWorld) -> None:
    instance_id, _ = serving(world)
    world.server.lose_books()
    nodes(world).alive = False
    world.run(31)
    nodes(world).alive = True
    run(world, HOUR)
    shown = world.show(instance_id)
    assert (shown["phase"], shown["recoveries"]) == ("ready", 0)


def test_a_node_that_the_books_call_deleted_should_be_lost_at_the_first_failed_probe(world: SkyPilotWorld) -> None:
    instance_id, name = serving(world)
    del world.server.nodes[name]
    nodes(world).alive = False
    world.run(31)
    assert world.show(instance_id)["recoveries"] == 1


def test_an_instance_should_not_be_called_terminated_by_books_that_are_empty(world: SkyPilotWorld) -> None:
    instance_id, _ = serving(world)
    world.server.lose_books()
    world.delete(instance_id)
    run(world, HOUR)
    before = world.show(instance_id)
    run(world, HOUR)
    after = world.show(instance_id)
    assert (before["phase"], after["phase"]) == ("terminating", "terminating")
    assert after["cost_usd"] > before["cost_usd"]


def test_books_that_are_back_should_be_believed_again(world: SkyPilotWorld) -> None:
    instance_id, name = serving(world)
    lost = world.server.lose_books()
    world.delete(instance_id)
    run(world, 600)
    world.server.nodes.update(lost)
    world.server.history.add(name)
    run(world, 300)
    assert world.show(instance_id)["phase"] == "terminated"
    assert world.server.machines() == []
    assert world.call("GET", "/api/garbage").json["lost"] == []


def test_what_the_operator_found_deleted_should_be_believed(world: SkyPilotWorld) -> None:
    instance_id, name = serving(world)
    confirm = "/api/garbage/deleted"
    assert world.call("POST", confirm, {"clusters": [name]}).status == 422
    world.server.lose_books()
    world.delete(instance_id)
    run(world, 300)
    (lost,) = world.call("GET", "/api/garbage").json["lost"]
    assert lost["cluster_name"] == name
    assert world.call("POST", confirm, {"clusters": [name]}).status == 200
    run(world, 300)
    assert world.show(instance_id)["phase"] == "terminated"
    assert world.call("GET", "/api/garbage").json["lost"] == []


def test_a_confirmation_should_not_end_a_node_that_serves(world: SkyPilotWorld) -> None:
    instance_id, name = serving(world)
    world.server.lose_books()
    run(world, 300)
    assert world.call("POST", "/api/garbage/deleted", {"clusters": [name]}).status == 200
    run(world, 600)
    assert world.show(instance_id)["phase"] == "ready"


def test_lost_books_should_be_shown_by_health_until_they_are_back(world: SkyPilotWorld) -> None:
    _, name = serving(world)
    run(world, 300)
    assert world.call("GET", "/api/health").json["status"] == "ok"
    lost = world.server.lose_books()
    run(world, 300)
    health = world.call("GET", "/api/health").json
    assert health["status"] == "degraded"
    assert "lost its records" in str(health["problems"])
    world.server.nodes.update(lost)
    world.server.history.add(name)
    run(world, 300)
    assert world.call("GET", "/api/health").json["status"] == "ok"


def test_an_alert_should_name_what_the_books_lost_and_be_repeated(world: SkyPilotWorld) -> None:
    _, name = serving(world)
    run(world, 300)
    assert alerts(world) == []
    world.server.lose_books()
    run(world, 600)
    (first,) = alerts(world)
    assert name in first
    run(world, 4 * HOUR)
    assert len(alerts(world)) == 1


def test_a_cluster_that_another_account_hides_should_not_be_taken_for_deleted(world: SkyPilotWorld) -> None:
    instance_id, name = serving(world)
    hidden = dict(world.server.nodes)
    world.server.status = nothing
    world.delete(instance_id)
    run(world, 600)
    assert world.show(instance_id)["phase"] == "terminating"
    assert set(hidden) == {name}


def test_an_attempt_that_the_books_never_had_should_still_be_given_up_after_a_restart(world: SkyPilotWorld) -> None:
    instance_id = world.launch(use_spot=False)
    world.run(5)
    world.server.restart()
    run(world, 120)
    assert len(world.show(instance_id)["attempts"]) > 1


def test_a_launch_ended_in_its_first_seconds_should_count_as_seen(world: SkyPilotWorld) -> None:
    instance_id = world.launch(use_spot=False)
    world.run(1, sweeping=False)
    world.server.begin()
    world.delete(instance_id)
    world.run(1, sweeping=False)
    assert len(world.server.of("sky.down")) == 1
    world.server.lose_books()
    run(world, 600)
    assert world.show(instance_id)["phase"] == "terminating"


@pytest.mark.parametrize("existed", [True, False])
def test_a_short_machine_should_be_paid_for_after_a_restart_of_the_server(world: SkyPilotWorld, existed: bool) -> None:
    world.server.swallow_launch_answers = 1
    instance_id = world.launch(use_spot=False)
    world.run(1, sweeping=False)
    if existed:
        world.server.begin()
    for name in list(world.server.nodes):
        del world.server.nodes[name]
    world.server.restart()
    world.delete(instance_id)
    run(world, 600)
    shown = world.show(instance_id)
    assert shown["phase"] == "terminated"
    assert (shown["cost_usd"] > 0) is existed


def orphan(world: SkyPilotWorld) -> str:
    """The name of a node that SkyPilot lists again although its instance has ended, seen once."""
    instance_id, name = serving(world)
    there = dict(world.server.nodes)
    world.delete(instance_id)
    run(world, 120)
    assert world.show(instance_id)["phase"] == "terminated"
    world.server.nodes.update(there)
    world.server.history.add(name)
    run(world, 360)
    assert [marker.key for marker in world.store.markers(ORPHAN)] == [name]
    return name


def lost(world: SkyPilotWorld) -> list[str]:
    return [one["cluster_name"] for one in world.call("GET", "/api/garbage").json["lost"]]


def test_an_orphan_that_the_books_lost_should_be_reported_and_deleted_when_they_are_back(world: SkyPilotWorld) -> None:
    name = orphan(world)
    there = world.server.lose_books()
    run(world, 600)
    assert lost(world) == [name]
    assert len(alerts(world)) == 1
    world.server.nodes.update(there)
    world.server.history.add(name)
    run(world, 900)
    assert world.server.machines() == []
    assert (lost(world), world.store.markers(ORPHAN)) == ([], [])


def test_an_orphan_that_a_person_found_deleted_should_be_forgotten(world: SkyPilotWorld) -> None:
    name = orphan(world)
    world.server.lose_books()
    run(world, 300)
    assert world.call("POST", "/api/garbage/deleted", {"clusters": [name]}).status == 200
    run(world, 2 * HOUR)
    assert (lost(world), world.store.markers(ORPHAN)) == ([], [])
    assert len(alerts(world)) == 1


def test_an_orphan_that_was_deleted_should_not_be_called_lost(world: SkyPilotWorld) -> None:
    orphan(world)
    run(world, 900)
    assert world.server.machines() == []
    assert (lost(world), world.store.markers(ORPHAN), alerts(world)) == ([], [], [])
