"""A node that is not ready yet: SkyPilot says that it is gone, and Azure what is true."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from shared.domain.provider import (
    AttemptRef,
    LaunchSpec,
    NodeState,
    NodeView,
    ProviderUnavailableError,
    RecordsLostError,
)
from tests.functional.test_azure import PLENTY, OnAzure, reasons
from tests.standins.azure import Fault
from tests.standins.azure.subscription import serve_subscription

UP = NodeView(state=NodeState.UP, address="203.0.113.7")


@pytest.fixture
def world(tmp_path: Path) -> Iterator[OnAzure]:
    made = OnAzure()
    for azure in serve_subscription(tmp_path, made.clock):
        made.join(azure)
        azure.manager.usages["eastus"] = dict(PLENTY)
        yield made
    assert made.errors == []


def starting(world: OnAzure) -> str:
    """A launch whose node has begun to install vLLM."""
    instance_id = world.launch()
    world.run(5)
    world.sky.view = UP
    world.node(instance_id, "progress", {"phase": "installing"})
    world.run(35)
    return instance_id


@dataclass
class LosesRecords:
    """SkyPilot on a server that lacks a node which it has listed."""

    describe_before: Callable[[AttemptRef], NodeView]

    def describe(self, attempt_ref: AttemptRef) -> NodeView:
        self.describe_before(attempt_ref)
        raise RecordsLostError("The SkyPilot server cannot say whether the node exists")


def forget(world: OnAzure, how: str) -> None:
    if how == "lost":
        world.sky.describe = LosesRecords(world.sky.describe).describe
    else:
        world.sky.view = NodeView(state=NodeState(how))


@pytest.mark.parametrize("how", ["absent", "stopped", "lost"])
def test_a_node_that_azure_runs_should_go_on(world: OnAzure, how: str) -> None:
    instance_id = starting(world)
    forget(world, how)
    world.run(100)
    assert reasons(world, instance_id) == [None]
    assert world.sky.released == 0
    world.sky.alive = True
    world.node(instance_id, "register", {"port": 8000})
    world.run(5)
    assert world.show(instance_id)["phase"] == "ready"


@pytest.mark.parametrize("how", ["absent", "stopped"])
def test_a_node_should_not_be_given_up_while_azure_cannot_be_asked(world: OnAzure, how: str) -> None:
    instance_id = starting(world)
    forget(world, how)
    world.azure.manager.faults.append(Fault("GET", "virtualMachines", 503, "ServerBusy", times=99))
    world.run(100)
    assert reasons(world, instance_id) == [None]


@pytest.mark.parametrize("how", ["absent", "lost"])
@pytest.mark.parametrize(("end", "reason"), [("evict", "evicted"), ("vanish", "node_lost")])
def test_a_node_that_azure_has_lost_should_be_given_up(world: OnAzure, how: str, end: str, reason: str) -> None:
    instance_id = starting(world)
    forget(world, how)
    getattr(world.azure.manager.machines, end)(world.machine(instance_id))
    world.run(60)
    assert reasons(world, instance_id)[0] == reason


def test_a_launch_should_be_repeated_where_neither_knows_of_it(world: OnAzure) -> None:
    world.sky.creates_after = None
    instance_id = world.launch()
    world.sky.view = NodeView(state=NodeState.ABSENT)
    world.run(10)
    assert reasons(world, instance_id)[0] == "provider_unavailable"


@pytest.mark.parametrize("made", [True, False])
def test_a_launch_should_be_submitted_again_only_where_azure_has_nothing_of_it(world: OnAzure, made: bool) -> None:
    submit = world.sky.submit

    def unanswered(launch_spec: LaunchSpec) -> str | None:
        if made or len(world.sky.submitted) > 0:
            submit(launch_spec)
        else:
            world.sky.submitted.append(launch_spec)
        raise ProviderUnavailableError("The SkyPilot server does not answer")

    world.sky.submit = unanswered
    instance_id = world.launch()
    world.run(300)
    assert (len(world.sky.submitted) == 1) is made
    assert reasons(world, instance_id) == [None]
    assert world.azure.left().count("virtualMachines") == 1
