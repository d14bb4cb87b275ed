"""Several deployments on one cloud, and tables that are not what they were: no node in use is ever deleted."""

from collections.abc import Iterator
from typing import Any

import pytest

from gpulaunch.models.garbage import GarbageAnswer
from gpulaunch.models.instances import Mode
from shared import app as runtime
from shared.backends.base import Backend, Backends
from shared.control.garbage_report import CONFIRMED_FOR
from shared.control.sweep.base import ALERT_EVERY
from shared.control.sweep.garbage import UNLABELLED_AFTER
from shared.domain.messages import AlertMessage
from shared.domain.provider import AttemptRef, Cluster, ProviderUnavailableError
from shared.lifecycle.garbage import MAX_DELETIONS
from shared.queues import ALERTS
from tests.functional.world import World, settings
from tests.twins.factories import OTHER_DEPLOYMENT
from tests.twins.store import MemoryInstanceStore

HOUR = 3600.0
HOOK = {"GPULAUNCH_WEBHOOK_URLS": "slack|https://hooks.example.com/x"}


@pytest.fixture
def world() -> Iterator[World]:
    made = World(given=settings(**HOOK))
    yield made
    runtime.use(None)
    assert made.errors == []


def from_cloud(world: World) -> Backends:
    def backend(_: Mode) -> Backend:
        return world.simulation

    return backend


def beside(world: World) -> World:
    """Another deployment with the same settings, whose nodes come from the same cloud."""
    other = World(given=settings(**HOOK), deployment=OTHER_DEPLOYMENT)
    other.cloud, other.simulation = world.cloud, world.simulation
    other.rebuild(backends=from_cloud(other))
    return other


def take_turns(worlds: list[World], seconds: float) -> None:
    for _ in range(int(seconds / 30)):
        for one in worlds:
            runtime.use(one.app)
            one.run(30)


def names(world: World) -> set[str]:
    return {node.cluster_name for node in world.cloud.nodes()}


def alerts(world: World) -> list[str]:
    """The alerts about garbage that were sent since the last call."""
    found: list[str] = []
    while taken := world.queues.take(ALERTS, hide_seconds=60):
        for message in taken:
            notice = AlertMessage.model_validate_json(message.body).garbage
            found += [] if notice is None else [f"{notice.reason}: {notice.message}"]
            world.queues.forget(message)
    return found


def garbage(world: World) -> GarbageAnswer:
    answer = world.call("GET", "/api/garbage")
    assert answer.status == 200
    return GarbageAnswer.model_validate_json(answer.body)


def confirm(world: World, clusters: list[str], **given: Any) -> Any:
    return world.call("POST", "/api/garbage/confirm", {"clusters": clusters}, **given)


def _lies(attempt_ref: AttemptRef) -> bool:
    return bool(attempt_ref)


def all_ready(world: World, count: int) -> list[str]:
    ids = [world.launch() for _ in range(count)]
    world.run(90)
    return ids


def lose_teardowns(world: World, monkeypatch: pytest.MonkeyPatch, ids: list[str]) -> None:
    """End instances whose provider says that their nodes are deleted, which they are not."""
    with monkeypatch.context() as patch:
        patch.setattr(world.simulation.provider, "release", _lies)
        for instance_id in ids:
            world.delete(instance_id)
        world.run(5)
    assert {world.show(instance_id)["phase"] for instance_id in ids} == {"terminated"}


# Two deployments.


def test_two_deployments_on_one_cloud_should_leave_each_other_s_nodes_alone(world: World) -> None:
    other = beside(world)
    for one in (world, other):
        runtime.use(one.app)
        for _ in range(3):
            one.launch()
    take_turns([world, other], 2 * HOUR)
    assert len(names(world)) == 6
    for one, owner in ((world, other), (other, world)):
        runtime.use(one.app)
        shown = one.call("GET", "/api/instances").json["instances"]
        assert [instance["phase"] for instance in shown] == ["ready"] * 3
        assert {node.deployment for node in garbage(one).foreign} == {owner.app.deployment}
        assert one.call("GET", "/api/health").json["foreign_nodes"] == 3
        assert one.call("GET", "/api/health").json["status"] == "ok"
        assert alerts(one) == []


def test_a_fresh_table_under_the_same_settings_should_take_nothing(world: World) -> None:
    """A new storage account at a running fleet, or a laptop on the same cloud: another table, so another identity."""
    for _ in range(3):
        world.to_ready()
    other = beside(world)
    other.run(2 * HOUR)
    assert len(names(world)) == 3
    assert len(garbage(other).foreign) == 3
    runtime.use(world.app)
    world.run(60)
    assert world.call("GET", "/api/health").json["foreign_nodes"] == 0


def test_every_deployment_should_show_its_own_identity(world: World) -> None:
    shown = world.call("GET", "/api/config").json["deployment"]
    other = beside(world)
    assert [shown, other.call("GET", "/api/config").json["deployment"]] == [world.deployment, OTHER_DEPLOYMENT]
    assert world.given.skypilot_user_id != other.given.skypilot_user_id


def test_a_foreign_node_should_be_logged_once(world: World, caplog: pytest.LogCaptureFixture) -> None:
    other = beside(world)
    other.launch()
    take_turns([world, other], HOUR)
    assert len([line for line in caplog.messages if "is not touched" in line]) == 1


def test_a_node_without_an_identity_should_raise_one_alert(world: World) -> None:
    """One of a version that had no identities, or whose label somebody deleted."""
    world.to_ready()
    (node,) = world.cloud.nodes()
    stranger = node.model_copy(update={"cluster_name": "gl-01k0000000000000000000000a-01", "deployment": None})
    world.cloud.add(stranger)
    world.run(UNLABELLED_AFTER.total_seconds() - 300)
    assert alerts(world) == []
    world.run(12 * HOUR - 300)
    (alert,) = alerts(world)
    assert alert.startswith("unlabelled: gl-01k0000000000000000000000a-01")
    assert stranger.cluster_name in names(world)
    world.cloud.remove(stranger.cluster_name)
    world.run(300)
    assert garbage(world).foreign == []


def test_a_node_from_before_the_identities_should_be_kept_and_released_by_its_record(world: World) -> None:
    instance_id = world.to_ready()
    (node,) = world.cloud.nodes()
    world.cloud.replace(node.model_copy(update={"deployment": None}))
    world.run(HOUR)
    assert garbage(world).foreign == []
    assert world.show(instance_id)["phase"] == "ready"
    world.delete(instance_id)
    world.run(60)
    assert names(world) == set()


# Tables.


def restored(world: World) -> MemoryInstanceStore:
    """A copy of the table as it is now."""
    copied = MemoryInstanceStore()
    copied._rows = dict(world.store._rows)  # pyright: ignore[reportPrivateUsage]
    return copied


@pytest.mark.parametrize("newer", [1, 3, 5])
def test_an_older_table_should_cost_no_node_that_is_newer_than_it(world: World, newer: int) -> None:
    for _ in range(6):
        world.to_ready()
    backup = restored(world)
    for _ in range(newer):
        world.to_ready()
    world.store = backup
    world.rebuild(store=backup)
    world.run(6 * HOUR)
    assert len(names(world)) == 6 + newer
    shown = garbage(world)
    assert len(shown.waiting) == newer
    assert "no record" in shown.waiting[0].why
    health = world.call("GET", "/api/health").json
    assert (health["status"], health["garbage_waiting"]) == ("degraded", newer)


def test_a_table_with_the_identity_and_nothing_else_should_take_nothing(world: World) -> None:
    node = world.to_ready()
    world.store = MemoryInstanceStore()
    emptied = World(given=world.given, deployment=world.deployment)
    emptied.cloud, emptied.simulation = world.cloud, world.simulation
    emptied.rebuild(backends=from_cloud(emptied))
    emptied.run(6 * HOUR)
    assert len(names(world)) == 1
    (waiting,) = garbage(emptied).waiting
    assert waiting.cluster_name[3:29].upper() == node.removeprefix("inst-")


def test_a_second_attempt_that_an_older_table_does_not_know_should_stay(world: World) -> None:
    instance_id = world.to_ready()
    (node,) = world.cloud.nodes()
    second = node.model_copy(update={"cluster_name": f"{node.cluster_name[:-2]}02", "attempt": 2})
    world.cloud.add(second)
    world.run(HOUR)
    assert second.cluster_name in names(world)
    assert world.show(instance_id)["phase"] == "ready"


# Circuit breakers.


def test_lost_teardowns_should_be_made_good_one_by_one(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = [world.to_ready() for _ in range(2 * MAX_DELETIONS)]
    lose_teardowns(world, monkeypatch, ids[:MAX_DELETIONS])
    world.run(15 * 60)
    assert len(names(world)) == MAX_DELETIONS
    assert alerts(world) == []


@pytest.mark.parametrize(("live", "lost"), [(20, MAX_DELETIONS + 1), (1, 2), (0, 2)])
def test_many_or_most_should_wait_until_they_are_confirmed(
    world: World, monkeypatch: pytest.MonkeyPatch, live: int, lost: int
) -> None:
    ids = all_ready(world, live + lost)
    lose_teardowns(world, monkeypatch, ids[:lost])
    world.run(HOUR)
    assert len(names(world)) == live + lost
    assert len(alerts(world)) == 1
    waiting = [node.cluster_name for node in garbage(world).waiting]
    assert len(waiting) == lost
    assert confirm(world, waiting).status == 200
    world.run(10 * 60)
    assert len(names(world)) == live
    assert garbage(world).waiting == []
    assert world.call("GET", "/api/health").json["status"] == "ok"


def test_a_single_lost_teardown_should_not_wait(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    lose_teardowns(world, monkeypatch, [world.to_ready()])
    world.run(15 * 60)
    assert names(world) == set()


def test_the_alert_should_be_repeated_while_nodes_wait(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    lose_teardowns(world, monkeypatch, all_ready(world, 2))
    world.run(HOUR)
    (first,) = alerts(world)
    assert "gpulaunch gc --confirm" in first
    world.run(ALERT_EVERY.total_seconds() - HOUR)
    assert alerts(world) == []
    world.run(HOUR)
    assert len(alerts(world)) == 1


# Confirmations.


@pytest.fixture
def waiting(world: World, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    lose_teardowns(world, monkeypatch, all_ready(world, 2))
    world.run(20 * 60)
    return [node.cluster_name for node in garbage(world).waiting]


def test_a_confirmation_should_count_for_the_named_nodes_alone(world: World, waiting: list[str]) -> None:
    assert confirm(world, waiting[:1]).status == 200
    world.run(HOUR)
    assert waiting[0] not in names(world)
    assert waiting[1] in names(world)


def test_nodes_that_become_due_one_by_one_should_wait_as_those_that_do_at_once(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids: list[str] = []
    for _ in range(4):
        ids.append(world.launch())
        world.run(120)
    lose_teardowns(world, monkeypatch, ids)
    world.run(2 * HOUR)
    assert len(names(world)) == 4


def test_a_confirmation_may_be_repeated(world: World, waiting: list[str]) -> None:
    answers = [confirm(world, waiting).json for _ in range(2)]
    assert answers[0] == answers[1]


def test_a_confirmation_of_what_does_not_wait_should_be_refused(world: World, waiting: list[str]) -> None:
    busy = world.to_ready()
    (name,) = names(world) - set(waiting)
    refused = confirm(world, [*waiting, name])
    assert refused.status == 422
    assert name in refused.json["errors"][0]["message"]
    world.run(600)
    assert world.show(busy)["phase"] == "ready"


def _silent() -> list[Cluster]:
    raise ProviderUnavailableError("no answer")


def test_a_confirmation_should_expire(world: World, waiting: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    confirm(world, waiting)
    with monkeypatch.context() as patch:
        patch.setattr(world.simulation.provider, "clusters", _silent)
        world.run(CONFIRMED_FOR.total_seconds())
    world.run(600)
    assert set(waiting) <= names(world)
    assert [node.confirmed_until for node in garbage(world).waiting] == [None, None]


def test_a_confirmation_should_need_an_admin(world: World, waiting: list[str]) -> None:
    assert confirm(world, waiting, token="reader-token-of-the-tests").status == 403
    assert world.call("GET", "/api/garbage", token="reader-token-of-the-tests").status == 200
    assert world.call("GET", "/api/garbage", token=None).status == 401


def test_a_confirmed_node_that_a_record_claims_should_stay(world: World, waiting: list[str]) -> None:
    """What is confirmed is a name that was garbage; whether it still is, the next pass decides."""
    confirm(world, waiting)
    for name in waiting:
        node = world.cloud.get(name)
        assert node is not None
        world.cloud.replace(node.model_copy(update={"deployment": OTHER_DEPLOYMENT}))
    world.run(600)
    assert set(waiting) <= names(world)
