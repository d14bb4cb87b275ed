"""Garbage: nodes that no live record knows go away in two passes; all others stay."""

from datetime import timedelta

import pytest

from shared.backends.simulation.cloud import SimulatedNode
from shared.domain.provider import AttemptRef, ProviderUnavailableError
from shared.storage.base import ORPHAN, Marker
from tests.functional.world import World
from tests.twins.factories import DEPLOYMENT, make_ended

STRAY = "gl-01k0000000000000000000000a-01"


def stray(world: World, **labels: str) -> None:
    now = world.clock.now()
    node = SimulatedNode(
        cluster_name=STRAY,
        instance_id="inst-01K0000000000000000000000A",
        attempt=1,
        labels=labels,
        started_at=now,
        created_at=now,
        deployment=DEPLOYMENT,
    )
    world.cloud.add(node)
    # Its instance has ended, with the word that nothing is left of it.
    world.store.create(make_ended(STRAY), [], None)


def names(world: World) -> list[str]:
    return [node.cluster_name for node in world.cloud.nodes()]


def test_a_node_without_a_live_record_should_be_taken_away_after_two_passes(world: World) -> None:
    stray(world)
    world.run(5 * 60)
    assert names(world) == [STRAY]
    world.run(2 * 60)
    assert [note.key for note in world.store.markers(ORPHAN)] == [STRAY]
    assert names(world) == [STRAY]
    world.run(8 * 60)
    assert names(world) == []
    assert world.store.markers(ORPHAN) == []


def test_an_exempt_node_should_stay(world: World) -> None:
    stray(world, **{"gpulaunch-exempt": "yes"})
    world.run(3600)
    assert names(world) == [STRAY]


def test_nodes_of_live_instances_should_stay(world: World) -> None:
    ids = [world.launch() for _ in range(3)]
    world.run(3600)
    assert len(names(world)) == 3
    assert {world.show(instance_id)["phase"] for instance_id in ids} == {"ready"}
    assert world.store.markers(ORPHAN) == []


def test_a_teardown_that_lied_should_be_found_out(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    instance_id = world.launch()
    world.run(90)
    monkeypatch.setattr(world.simulation.provider, "release", _lies)
    world.delete(instance_id)
    world.run(5)
    assert world.show(instance_id)["phase"] == "terminated"
    assert len(names(world)) == 1
    world.run(12 * 60)
    assert names(world) == []


def test_an_orphan_that_a_record_claims_in_time_should_stay(world: World) -> None:
    instance_id = world.launch()
    world.run(90)
    record = world.store.load(instance_id)
    assert record is not None
    (name,) = names(world)
    world.store.put_marker(_mark(world, name))
    world.run(10 * 60)
    assert names(world) == [name]
    assert world.store.markers(ORPHAN) == []


def _lies(attempt_ref: AttemptRef) -> bool:
    return bool(attempt_ref)


def _mark(world: World, name: str) -> Marker:
    return Marker(kind=ORPHAN, key=name, at=world.clock.now() - timedelta(hours=1))


def test_a_cloud_that_does_not_answer_should_prove_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    stray(world)
    world.run(7 * 60)

    def silent() -> list[object]:
        raise ProviderUnavailableError("no answer")

    with monkeypatch.context() as patch:
        patch.setattr(world.simulation.provider, "clusters", silent)
        world.run(20 * 60)
    assert names(world) == [STRAY]
    assert [note.key for note in world.store.markers(ORPHAN)] == [STRAY]
    world.run(3 * 60)
    assert names(world) == []


def test_looking_for_garbage_should_cost_one_listing_every_two_minutes(world: World) -> None:
    world.launch()
    world.run(120)
    world.cloud.calls.seen.clear()
    world.run(600)
    listings = world.cloud.calls.count("nodes")
    probes = 600 // 30
    assert listings <= probes + 5
