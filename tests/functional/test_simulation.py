"""A launch in simulation, from acceptance to its end, through the real functions."""

from datetime import timedelta
from typing import Any

import pytest

from gpulaunch.models.instances import Reason
from shared.domain.instance import Failure
from shared.planning.plan import MAX_OFFERS
from tests.functional.scripted import NodeWorld
from tests.functional.world import World

TIMELINE = [
    ("validating", 0.0),
    ("provisioning", 2.0),
    ("installing", 32.0),
    ("loading_model", 47.0),
    ("starting_server", 67.0),
    ("registering", 77.0),
    ("ready", 82.0),
]


def test_a_launch_should_be_ready_after_exactly_82_seconds(world: World) -> None:
    instance_id = world.launch()
    world.run(81.9)
    assert world.show(instance_id)["phase"] == "registering"
    world.run(0.2)
    shown = world.show(instance_id)
    assert shown["phase"] == "ready"
    assert shown["endpoint"].startswith("https://")
    assert world.phases(instance_id) == TIMELINE


def test_ten_times_the_speed_should_take_a_tenth() -> None:
    from tests.functional.world import settings

    world = World(given=settings(GPULAUNCH_SIMULATION_SPEED="10"))
    instance_id = world.launch()
    world.run(9.5)
    assert world.show(instance_id)["phase"] == "ready"


def test_a_ready_instance_should_stay_and_cost_nothing_to_watch(world: World) -> None:
    instance_id = world.launch()
    world.run(90)
    etag = world.call("GET", f"/api/instances/{instance_id}").headers["ETag"]
    world.store.calls.seen.clear()
    world.run(600)
    assert world.show(instance_id)["phase"] == "ready"
    assert "commit" not in world.store.calls.seen
    # Its cost has grown, so the answer has changed; within a minute it is the same.
    later = world.call("GET", f"/api/instances/{instance_id}", headers={"If-None-Match": etag})
    assert (later.status, later.headers["ETag"] == etag) == (200, False)
    again = world.call("GET", f"/api/instances/{instance_id}", headers={"If-None-Match": later.headers["ETag"]})
    assert (again.status, again.body) == (304, b"")


def test_a_deleted_instance_should_be_gone(world: World) -> None:
    instance_id = world.launch()
    world.run(90)
    answer = world.delete(instance_id)
    assert (answer.status, answer.json["phase"]) == (202, "terminating")
    assert len(world.cloud.nodes()) == 1
    world.run(5)
    shown = world.show(instance_id)
    assert (shown["phase"], shown["ending"]["reason"]) == ("terminated", "user_request")
    assert world.cloud.nodes() == []
    assert list(world.store.live()) == []


@pytest.mark.parametrize("after", [0.0, 0.5, 3.0, 20.0, 40.0, 60.0, 80.0])
def test_a_launch_should_be_ended_in_any_phase(world: World, after: float) -> None:
    instance_id = world.launch()
    if after:
        world.run(after)
    assert world.delete(instance_id).status == 202
    assert world.delete(instance_id).status == 202
    world.run(200)
    assert world.show(instance_id)["phase"] == "terminated"
    assert world.delete(instance_id).json["phase"] == "terminated"
    assert world.cloud.nodes() == []


def labelled(world: World, **labels: str) -> str:
    return world.launch(labels={f"simulate.{key.replace('_', '-')}": value for key, value in labels.items()})


def attempts(world: World, instance_id: str) -> list[tuple[Any, Any]]:
    return [
        (attempt["offer"]["use_spot"], attempt["failure"]["reason"] if attempt["failure"] else None)
        for attempt in world.show(instance_id)["attempts"]
    ]


def test_no_room_on_the_first_offer_should_lead_to_the_second(world: World) -> None:
    instance_id = labelled(world, no_capacity="1")
    world.run(120)
    assert world.show(instance_id)["phase"] == "ready"
    assert attempts(world, instance_id) == [(True, "no_capacity"), (False, None)]
    assert len(world.cloud.nodes()) == 1


def test_no_room_anywhere_should_fail_with_the_reason_and_leave_nothing(world: World) -> None:
    instance_id = labelled(world, no_capacity="9")
    world.run(200)
    shown = world.show(instance_id)
    assert (shown["phase"], shown["ending"]["reason"]) == ("failed", "no_offers_left")
    assert attempts(world, instance_id) == [(True, "no_capacity"), (False, "no_capacity")]
    assert world.cloud.nodes() == []


def test_a_failed_set_up_should_be_taken_away_before_the_next_attempt(world: World) -> None:
    instance_id = labelled(world, setup_failure="1")
    world.run(200)
    assert world.show(instance_id)["phase"] == "ready"
    assert [reason for _, reason in attempts(world, instance_id)] == ["setup_failed", None]
    assert len(world.cloud.nodes()) == 1


def test_an_eviction_should_be_recovered_on_the_next_offer(world: World) -> None:
    instance_id = labelled(world, evict_after="60")
    world.run(82 + 60 + 31 + 90)
    shown = world.show(instance_id)
    assert (shown["phase"], shown["recoveries"]) == ("ready", 1)
    assert attempts(world, instance_id) == [(True, "evicted"), (False, None)]
    assert len(world.cloud.nodes()) == 1


def test_a_dead_node_should_be_recovered_after_three_probes(world: World) -> None:
    instance_id = labelled(world, dead_after="60")
    world.run(82 + 60 + 4 * 30 + 90)
    assert world.show(instance_id)["phase"] == "ready"
    assert attempts(world, instance_id) == [(True, "unhealthy"), (False, None)]


def test_a_teardown_that_has_to_be_repeated_should_end_only_when_nothing_is_left(world: World) -> None:
    instance_id = labelled(world, teardown_tries="5")
    world.run(90)
    world.delete(instance_id)
    world.run(20)
    assert world.show(instance_id)["phase"] == "terminating"
    assert len(world.cloud.nodes()) == 1
    world.run(200)
    assert world.show(instance_id)["phase"] == "terminated"
    assert world.cloud.nodes() == []


def test_a_node_that_never_registers_should_be_given_up(world: World) -> None:
    instance_id = labelled(world, never_registers="1")
    world.run(82 + 1800 + 120)
    assert world.show(instance_id)["phase"] == "ready"
    assert [reason for _, reason in attempts(world, instance_id)] == ["server_timeout", None]


def test_an_idle_instance_should_end_and_a_busy_one_should_not(world: World) -> None:
    idle = world.launch(idle_minutes=5)
    busy = world.launch(idle_minutes=5, labels={"simulate.busy-until": "3600"})
    world.run(82 + 300 + 60)
    assert world.show(idle)["ending"]["reason"] == "idle"
    assert world.show(busy)["phase"] == "ready"


def test_a_budget_should_end_the_instance_before_it_is_overrun(world: World) -> None:
    instance_id = world.launch(budget_usd=0.10)
    world.run(3600)
    shown = world.show(instance_id)
    assert (shown["phase"], shown["ending"]["reason"]) == ("terminated", "budget")
    assert 0.08 < shown["cost_usd"] < 0.12


def test_every_event_should_be_in_order_with_its_duration(world: World) -> None:
    instance_id = labelled(world, no_capacity="1")
    world.run(150)
    world.delete(instance_id)
    world.run(10)
    events = world.events(instance_id)
    assert [event["sequence"] for event in events] == list(range(len(events)))
    assert events[0]["type"] == "accepted"
    assert events[-1]["data"] == {"from": "terminating", "to": "terminated"}
    assert all(event["duration_seconds"] is not None for event in events if event["type"] == "phase")
    total = sum(event["duration_seconds"] for event in events if event["type"] == "phase")
    shown = world.show(instance_id)
    assert total == pytest.approx(
        (
            world.adapters.clock.now().fromisoformat(shown["ended_at"])
            - world.adapters.clock.now().fromisoformat(shown["created_at"])
        ).total_seconds(),
        abs=0.1,
    )


def test_a_dead_process_should_lose_nothing(world: World) -> None:
    instance_id = world.launch()
    world.run(10)
    world.queues.take("gpulaunch-launches")
    for body in list(world.queues.bodies("gpulaunch-launches")):
        assert instance_id in body.decode()
    world.clock.set(world.clock.now() + timedelta(seconds=300))
    world.run(120)
    assert world.show(instance_id)["phase"] == "ready"
    assert len(world.cloud.nodes()) == 1


@pytest.mark.parametrize("gpu", ["A10", "T4"])
@pytest.mark.parametrize("refused", ["11", "12"])
def test_a_launch_without_a_region_should_reach_its_on_demand_offers(gpu: str, refused: str) -> None:
    world = World()
    instance_id = world.launch(region=None, instance_type=None, gpu=gpu, labels={"simulate.no-capacity": refused})
    world.run(600)
    shown = world.show(instance_id)
    assert shown["attempts"][-1]["offer"]["use_spot"] is False
    assert len(shown["attempts"]) == MAX_OFFERS
    reason = None if shown["ending"] is None else shown["ending"]["reason"]
    assert (shown["phase"], reason) == (("ready", None) if refused == "11" else ("failed", "no_offers_left"))


@pytest.mark.parametrize("gpu", ["A10", "T4"])
def test_a_launch_that_finds_no_spot_room_anywhere_should_become_ready_on_demand(gpu: str) -> None:
    world = NodeWorld()
    world.scripted.spot_failure = Failure(reason=Reason.NO_CAPACITY, message="no spot room")
    instance_id = world.launch(region=None, instance_type=None, gpu=gpu)
    world.run(600)
    assert world.show(instance_id)["attempts"][-1]["offer"]["use_spot"] is False
