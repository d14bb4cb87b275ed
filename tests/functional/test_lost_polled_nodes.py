"""Nodes that can't call the app and whose records are lost: they are asked, which renews their lease."""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest

from shared.domain.instance import cluster_name
from shared.domain.node import NodePhase, NodeStatus
from shared.domain.provider import AttemptRef, NodeState, NodeTarget, NodeView, ProviderUnavailableError
from shared.storage.base import UNRECORDED_CALLER
from tests.functional.scripted import NodeWorld
from tests.functional.test_adopt import adopt, listed, restore, saved
from tests.functional.test_bad_rows import no_json
from tests.twins.factories import OTHER_DEPLOYMENT, make_instance_id

LEASE = timedelta(minutes=15)


@pytest.fixture
def pull() -> Iterator[NodeWorld]:
    """Nodes that are asked."""
    made = NodeWorld(public_url="")
    yield made
    assert made.errors == []


class Asked:
    """When the agent of a node was asked."""

    def __init__(self, world: NodeWorld) -> None:
        self.times: list[datetime] = []
        self._world = world
        self._statuses = world.scripted.statuses
        world.scripted.statuses = self.statuses

    def statuses(self, targets: Sequence[NodeTarget]) -> dict[str, NodeStatus]:
        self.times += [self._world.clock.now() for _ in targets]
        return self._statuses(targets)

    def longest(self) -> timedelta:
        """The longest time for which the node was not asked."""
        ends = [*self.times, self._world.clock.now()]
        return max(later - earlier for earlier, later in pairwise(ends))


def ready(world: NodeWorld) -> str:
    instance_id = world.launch(max_lifetime_minutes=600)
    world.run(5)
    world.scripted.view = NodeView(state=NodeState.UP, address="203.0.113.7")
    world.scripted.account, world.scripted.alive = NodeStatus(phase=NodePhase.SERVING, port=8000), True
    world.run(60)
    assert world.show(instance_id)["phase"] == "ready"
    return instance_id


def lose(world: NodeWorld, **more: Any) -> tuple[str, str]:
    """A ready node whose table is emptied; its instance and its name."""
    empty = saved(world)
    instance_id = ready(world)
    name = cluster_name(instance_id, 1)
    world.scripted.listed = [listed(world, name, **more)]
    restore(world, empty)
    return instance_id, name


def test_a_node_that_the_table_lost_should_keep_its_lease_and_be_adopted(pull: NodeWorld) -> None:
    asked = Asked(pull)
    instance_id, name = lose(pull)
    pull.run(3600)
    assert asked.longest() < LEASE
    (waiting,) = pull.call("GET", "/api/garbage").json["waiting"]
    assert (waiting["cluster_name"], waiting["heard_at"] is not None) == (name, True)
    adopt(pull, name)
    pull.run(3600)
    assert asked.longest() < LEASE
    assert pull.show(instance_id)["phase"] == "ready"
    assert pull.scripted.released == 0


def test_another_deployments_node_should_not_be_asked(pull: NodeWorld) -> None:
    asked = Asked(pull)
    lose(pull, deployment=OTHER_DEPLOYMENT)
    before = list(asked.times)
    pull.run(3600)
    assert asked.times == before


def test_a_node_whose_record_cannot_be_read_should_keep_its_lease(pull: NodeWorld) -> None:
    asked = Asked(pull)
    instance_id = ready(pull)
    pull.scripted.listed = [listed(pull, cluster_name(instance_id, 1))]
    no_json(pull, instance_id)
    pull.run(3600)
    assert asked.longest() < LEASE
    assert pull.scripted.released == 0


def test_a_node_that_has_ended_should_not_be_asked(pull: NodeWorld) -> None:
    asked = Asked(pull)
    instance_id = ready(pull)
    pull.delete(instance_id)
    pull.run(60)
    assert pull.show(instance_id)["phase"] == "terminated"
    before = list(asked.times)
    pull.scripted.listed = [listed(pull, cluster_name(instance_id, 1))]
    pull.run(1800)
    assert asked.times == before


@pytest.mark.parametrize("lost", [True, False])
def test_a_node_that_calls_should_not_be_asked_as_well(push: NodeWorld, lost: bool) -> None:
    asked, empty = Asked(push), saved(push)
    instance_id = push.to_ready()
    push.scripted.listed = [listed(push, cluster_name(instance_id, 1))]
    if lost:
        restore(push, empty)
    else:
        no_json(push, instance_id)
    push.beating.clear()
    push.run(1800)
    assert asked.times == []


def nodes(world: NodeWorld, count: int) -> list[str]:
    """Nodes that run and of which the table knows nothing."""
    names = [cluster_name(make_instance_id(number), 1) for number in range(1, count + 1)]
    created_at = world.clock.now() - timedelta(minutes=30)
    world.scripted.listed = [listed(world, name, created_at=created_at) for name in names]
    world.scripted.view = NodeView(state=NodeState.UP, address="203.0.113.7")
    world.scripted.account = NodeStatus(phase=NodePhase.SERVING, port=8000)
    return names


def heard(world: NodeWorld) -> set[str]:
    return {marker.key for marker in world.store.markers(UNRECORDED_CALLER)}


@pytest.mark.parametrize(("count", "asked"), [(49, 49), (50, 50), (51, 50), (60, 50)])
def test_fifty_nodes_at_most_should_be_asked_in_one_sweep(pull: NodeWorld, count: int, asked: int) -> None:
    nodes(pull, count)
    pull.run(150)
    assert len(heard(pull)) == asked


def test_one_that_cannot_be_looked_up_should_not_cost_the_others_their_lease(
    pull: NodeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, *others = nodes(pull, 3)

    def describe(attempt_ref: AttemptRef) -> NodeView:
        if attempt_ref.cluster_name == first:
            raise ProviderUnavailableError("no answer")
        return pull.scripted.view

    monkeypatch.setattr(pull.scripted, "describe", describe)
    pull.run(300)
    assert heard(pull) == set(others)


def test_another_deployments_node_of_an_unreadable_instance_should_not_be_asked(pull: NodeWorld) -> None:
    instance_id = ready(pull)
    asked = Asked(pull)
    pull.scripted.listed = [listed(pull, cluster_name(instance_id, 1), deployment=OTHER_DEPLOYMENT)]
    no_json(pull, instance_id)
    pull.run(1800)
    assert asked.times == []
