"""One item of many that fails costs itself alone: a message, a row, a record, a node, a cloud, an alert."""

import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from shared import app as runtime
from shared.control.sweep.garbage import COLLECT_EVERY
from shared.errors import RowTooLargeError, StaleRecordError, StoreUnavailableError
from shared.queues import ALERTS, LAUNCHES
from shared.storage.base import Booking, Unreadable, Versioned
from tests.functional.test_bad_rows import UNREADABLE, no_json
from tests.functional.world import World, settings
from tests.twins.store import MemoryInstanceStore

HOOK = {"GPULAUNCH_WEBHOOK_URLS": "slack|https://hooks.example.com/x"}


@pytest.fixture
def alerting() -> Iterator[World]:
    made = World(settings(**HOOK))
    yield made
    runtime.use(None)
    assert made.errors == []


def failing(world: World) -> set[str]:
    return set(world.app.sweep.run().failing)


def keep_from_changing(monkeypatch: pytest.MonkeyPatch, *ids: str) -> None:
    """No row can hold another state of these records."""
    commit = MemoryInstanceStore.commit

    def refused(store: MemoryInstanceStore, before: Versioned, *given: Any) -> str:
        if before.instance_id in ids:
            raise RowTooLargeError("no row can hold it")
        return commit(store, before, *given)

    monkeypatch.setattr(MemoryInstanceStore, "commit", refused)


def lose_message(world: World) -> bytes:
    (message,) = world.queues.take(LAUNCHES)
    world.queues.forget(message)
    return message.body


# Poison queues.


@pytest.mark.parametrize("name", UNREADABLE)
def test_a_poisoned_message_of_a_record_that_cannot_be_read_should_wait_without_an_error(
    world: World, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    world.run(590)
    instance_id = world.launch()
    (message,) = world.queues.bodies(LAUNCHES)
    UNREADABLE[name](world, instance_id)
    world.queues.bury(LAUNCHES, message)
    world.run(60)
    assert world.queues.bodies(f"{LAUNCHES}-poison") == [message]
    assert [one for one in caplog.records if one.exc_info] == []


def test_a_poisoned_message_whose_record_cannot_change_should_not_keep_the_others(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.run(590)  # the next sweep but one reads the poison queues, while the instances start
    bodies: list[bytes] = []
    ids: list[str] = []
    for _ in range(2):
        ids.append(world.launch())
        bodies.append(lose_message(world))
    keep_from_changing(monkeypatch, ids[0])
    for body in bodies:
        world.queues.bury(LAUNCHES, body)
    world.run(15)
    assert world.queues.bodies(f"{LAUNCHES}-poison") == bodies[:1]
    found = world.store.load(ids[1])
    assert found is not None
    assert found.record.poisoned == 1


def test_messages_that_stay_should_not_hide_those_behind_them(world: World) -> None:
    world.run(590)
    instance_id = world.launch()
    good = lose_message(world)
    unknown = good.replace(instance_id.encode(), b"inst-01K0000000000000000000000A")
    for body in [unknown] * 100 + [good]:
        world.queues.bury(LAUNCHES, body)
    world.run(15)
    assert world.queues.bodies(f"{LAUNCHES}-poison") == [unknown] * 100


# Rows that cannot be read.


@pytest.fixture
def two_unreadable(alerting: World, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The newer one, whose row a process of a later version keeps changing, comes first in every walk."""
    world = alerting
    ids = [world.to_ready(), world.to_ready()][::-1]
    for instance_id in ids:
        no_json(world, instance_id)
    close = MemoryInstanceStore.close_unreadable

    def changed(store: MemoryInstanceStore, unreadable: Unreadable, booking: Booking = Booking()) -> None:  # noqa: B008
        if unreadable.instance_id == ids[0]:
            raise StaleRecordError("its row was changed")
        close(store, unreadable, booking)

    monkeypatch.setattr(MemoryInstanceStore, "close_unreadable", changed)
    return ids


def test_a_row_that_cannot_be_closed_should_not_keep_the_others(alerting: World, two_unreadable: list[str]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(alerting.simulation.provider, "delete", _stays)
        for instance_id in two_unreadable:
            assert alerting.delete(instance_id).status == 202
    alerting.run(120)
    assert [row.instance_id for row in alerting.store.live() if isinstance(row, Unreadable)] == two_unreadable[:1]


def _stays(cluster_name: str) -> bool:
    return not cluster_name


# Budgets.


def test_a_record_that_cannot_change_should_not_keep_the_others_from_the_cap(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World(settings(GPULAUNCH_MONTHLY_BUDGET_USD="1000", GPULAUNCH_BUDGET_ACTION="end"))
    ids = [world.to_ready() for _ in range(3)]
    keep_from_changing(monkeypatch, ids[0], ids[2])
    found = world.store.ledger()
    key = "2026-01/simulation"
    spent = found.ledger.accounts[key].model_copy(update={"spent": 1_000_000_000})
    world.store.book(Booking(found.ledger.model_copy(update={"accounts": {key: spent}}), found.etag))
    world.run(90)
    assert [world.show(instance_id)["phase"] for instance_id in ids] == ["ready", "terminated", "ready"]
    assert "over_budget" in failing(world)


def test_a_record_that_others_keep_changing_should_be_left_to_the_next_sweep_without_a_failure(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World(settings(GPULAUNCH_MONTHLY_BUDGET_USD="100", GPULAUNCH_BUDGET_ACTION="end"))
    instance_id = world.to_ready()
    found = world.store.ledger()
    key = "2026-01/simulation"
    spent = found.ledger.accounts[key].model_copy(update={"spent": 100_000_000})
    world.store.book(Booking(found.ledger.model_copy(update={"accounts": {key: spent}}), found.etag))

    def stale(*_: object) -> str:
        raise StaleRecordError("others were first")

    with monkeypatch.context() as patch:
        patch.setattr(MemoryInstanceStore, "commit", stale)
        assert failing(world) == set()
    world.run(90)
    assert world.show(instance_id)["phase"] == "terminated"


# Garbage.


def lost_teardowns(world: World, monkeypatch: pytest.MonkeyPatch, count: int, live: int = 0) -> list[str]:
    """Clusters whose teardown the provider has confirmed although they are there; beside them so many live ones."""
    for _ in range(live):
        world.launch()
    ids = [world.launch() for _ in range(count)]
    world.run(90)
    clusters = [world.show(instance_id)["attempts"][0]["cluster_name"] for instance_id in ids]
    with monkeypatch.context() as patch:
        patch.setattr(world.simulation.provider, "release", bool)
        for instance_id in ids:
            world.delete(instance_id)
        world.run(5)
    return clusters


def names(world: World) -> set[str]:
    return {node.cluster_name for node in world.cloud.nodes()}


def broken(*_: object) -> Any:
    raise KeyError("an answer that makes no sense")


def test_a_node_whose_deletion_breaks_should_not_keep_the_others(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    clusters = lost_teardowns(world, monkeypatch, 3, live=4)
    first, delete = min(clusters), world.simulation.provider.delete

    def breaks(name: str) -> bool:
        return broken(name) if name == first else delete(name)

    monkeypatch.setattr(world.simulation.provider, "delete", breaks)
    world.run(20 * 60)
    assert set(clusters) & names(world) == {first}
    world.clock.set(world.clock.now().replace(second=0))
    assert "collected" in failing(world)


# Alerts.


def alerts(world: World, kind: str) -> int:
    """Alerts of a kind that were sent since the last call."""
    taken = world.queues.take(ALERTS, limit=100)
    for message in taken:
        world.queues.forget(message)
    return sum(json.loads(message.body)[kind] is not None for message in taken)


def refuse_alerts(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    send = world.queues.send

    def refuses(queue: str, message: Any, delay_seconds: float = 0.0) -> None:
        if queue == ALERTS:
            raise StoreUnavailableError("no answer")
        send(queue, message, delay_seconds)

    monkeypatch.setattr(world.queues, "send", refuses)


def test_an_alert_about_garbage_that_storage_refused_should_be_sent_again(
    alerting: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost_teardowns(alerting, monkeypatch, 2)
    with monkeypatch.context() as patch:
        refuse_alerts(alerting, patch)
        alerting.run(20 * 60)
    assert alerts(alerting, "garbage") == 0
    alerting.run(COLLECT_EVERY.total_seconds() + 30)
    assert alerts(alerting, "garbage") == 1
    alerting.run(20 * 60)
    assert alerts(alerting, "garbage") == 0


def test_an_alert_about_an_unreadable_row_that_storage_refused_should_be_sent_again(
    alerting: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    no_json(alerting, alerting.to_ready())
    with monkeypatch.context() as patch:
        refuse_alerts(alerting, patch)
        alerting.run(120)
    alerting.run(60)
    assert alerts(alerting, "unreadable") == 1
    alerting.run(300)
    assert alerts(alerting, "unreadable") == 0
