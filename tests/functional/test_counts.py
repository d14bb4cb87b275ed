"""How many storage operations things take: they are what an idle or busy control plane is billed for."""

import logging
import re
from collections import Counter

import pytest

from bench.scale import SIMULATED
from shared.control.sweep.probes import SLICE
from shared.queues import QUEUES
from tests.functional.world import World, settings

STEPS = {"create", "load", "commit", "idempotency", "send", "markers", "put_marker", "drop_marker"}
"""What a launch takes of the store and the queues. Reads of whole ranges are the sweep's and counted with it."""


STATUS_WRITES = 0.5
"""Of a sweep without news: its status is stored once a minute."""


def taken(world: World) -> Counter[str]:
    """The operations since the last call, records, events, notes and messages alike; one request each."""
    calls = world.store.calls.seen + world.queues.calls.seen + world.endpoints.calls.seen
    world.store.calls.seen.clear()
    world.endpoints.calls.seen.clear()
    world.queues.calls.seen.clear()
    # `forget` of a step's message is the host's, which deletes what it has delivered
    return Counter(call for call in calls if call != "forget")


@pytest.mark.parametrize("orchestrator", ["simulation", "skypilot"])
def test_a_sweep_that_finds_nothing_to_do_should_count_nothing_for_any_task(
    orchestrator: str, caplog: pytest.LogCaptureFixture
) -> None:
    given = {
        "GPULAUNCH_ORCHESTRATOR": orchestrator,
        "GPULAUNCH_MONTHLY_BUDGET_USD": "10",
        "GPULAUNCH_BUDGET_ACTION": "end",
    }
    world = World(given=settings(**given))
    with caplog.at_level(logging.INFO, "gpulaunch.sweep"):
        world.sweep()
    (line,) = caplog.messages
    assert set(re.findall(r"-?\d+", line)) == {"0"}, line
    assert {"collected 0", "lost_nodes 0", "over_budget 0", "staying_orphans 0"} <= set(line.split(": ")[1].split(", "))


def test_a_launch_should_take_at_most_30_operations_until_it_is_terminated(world: World) -> None:
    instance_id = world.launch()
    for _ in range(3):  # no sweep comes in between: it is counted apart
        world.run(29)
        world.swept_at = world.clock.now()
    assert world.show(instance_id)["phase"] == "ready"
    world.delete(instance_id)
    world.run(5)
    counts = taken(world)
    assert world.show(instance_id)["phase"] == "terminated"
    assert set(counts) <= STEPS
    counts["load"] -= 1  # the look of this test itself
    tables = counts["create"] + counts["load"] + counts["commit"]
    assert (tables, counts["send"]) == (SIMULATED.table_requests, SIMULATED.sends)
    assert counts.total() == tables + counts["send"] <= 30


@pytest.mark.parametrize("nodes", [100, SLICE + 1])
def test_a_sweep_should_take_at_most_two_operations_for_a_hundred_healthy_nodes(world: World, nodes: int) -> None:
    for _ in range(nodes):
        world.launch()
    world.run(200)
    assert {world.queues.depth(queue) for queue in QUEUES} == {0}
    taken(world)
    sweeps = 10  # five minutes, so that what happens now and then is in it
    world.run(30 * sweeps)
    counts = taken(world)
    assert "commit" not in counts
    assert counts.pop("put_marker") <= STATUS_WRITES * sweeps
    assert counts.pop("all") == sweeps  # the endpoints, however many nodes there are
    assert counts.total() / sweeps <= 2 * nodes / 100


def test_a_sweep_of_nothing_should_take_next_to_nothing(world: World) -> None:
    sweeps = 20
    world.run(30 * sweeps)
    counts = taken(world)
    assert counts.pop("all") == sweeps  # the endpoints
    assert counts.total() <= (2 + STATUS_WRITES) * sweeps


def test_a_watched_instance_should_be_read_once(world: World) -> None:
    instance_id = world.launch()
    world.run(90)
    taken(world)
    world.show(instance_id)
    assert taken(world) == Counter({"load": 1})
