"""One suite for every Provider. A provider joins with a rig: its name in RIGS and a fixture `<name>_rig`.

A rig hides how time passes: `until(placed, state)` lets happen what has to until a look says that state, or fails.
"""

from dataclasses import replace
from datetime import datetime
from typing import Any, Protocol

import pytest

from gpulaunch.models.instances import Reason
from gpulaunch.models.offers import Offer
from shared.backends.base import Provider
from shared.backends.simulation.cloud import SimulatedCloud, TableSimulatedCloud
from shared.backends.simulation.provider import SimulationProvider
from shared.domain.provider import (
    AttemptRef,
    LaunchRefusedError,
    LaunchSpec,
    NodeState,
    NodeView,
    ProviderUnavailableError,
)
from shared.errors import StoreUnavailableError
from tests.contract.conftest import Account, unique
from tests.twins.clock import ManualClock
from tests.twins.factories import DEPLOYMENT, make_attempt, make_instance_id, make_offer
from tests.twins.simulated_cloud import MemorySimulatedCloud

RIGS = ["simulation", "simulation_on_azurite"]


class Rig(Protocol):
    """A provider under test, and the world around it."""

    @property
    def provider(self) -> Provider: ...

    @property
    def offer(self) -> Offer:
        """An offer that the provider can have."""
        ...

    @property
    def full(self) -> dict[str, str]:
        """Labels with which a launch finds no capacity; empty where that can't be had."""
        ...

    def now(self) -> datetime: ...

    def until(self, attempt_ref: AttemptRef, state: NodeState) -> NodeView: ...

    def unreachable(self) -> None:
        """From now on the provider's other side does not answer."""
        ...


class SimulationRig:
    full = {"simulate.no-capacity": "1"}

    def __init__(self, cloud: SimulatedCloud, down: Any) -> None:
        self._clock = ManualClock()
        self._down = down
        self.provider = SimulationProvider(cloud, self._clock)
        self.offer = make_offer()

    def now(self) -> datetime:
        return self._clock.now()

    def until(self, attempt_ref: AttemptRef, state: NodeState) -> NodeView:
        for _ in range(20):
            view = self.provider.describe(attempt_ref)
            if view.state is state:
                return view
            self._clock.advance(view.look_again_seconds or 1.0)
        raise AssertionError(f"never {state}")

    def unreachable(self) -> None:
        self._down()


@pytest.fixture
def simulation_rig() -> Rig:
    cloud = MemorySimulatedCloud()

    def down() -> None:
        for operation in ("add", "get", "replace", "remove", "nodes"):
            for _ in range(5):
                cloud.calls.fail_next(operation, StoreUnavailableError("storage is away"))

    return SimulationRig(cloud, down)


@pytest.fixture
def simulation_on_azurite_rig(azurite_alone: Account) -> Rig:
    cloud = TableSimulatedCloud(azurite_alone.table, unique("cloud"))
    return SimulationRig(cloud, lambda: azurite_alone.transport.answers.extend([503] * 100))


@pytest.fixture(params=RIGS)
def rig(request: pytest.FixtureRequest) -> Rig:
    found: Rig = request.getfixturevalue(f"{request.param}_rig")
    return found


def launch_spec(rig: Rig, number: int = 1, labels: dict[str, str] | None = None) -> LaunchSpec:
    instance_id = make_instance_id(number)
    attempt = make_attempt(instance_id)
    return LaunchSpec(
        cluster_name=attempt.cluster_name,
        instance_id=instance_id,
        attempt=1,
        offer=rig.offer,
        labels=labels or {},
        environment={"GPULAUNCH_TEST": "1"},
        secrets={},
        started_at=rig.now(),
        deployment=DEPLOYMENT,
    )


def attempt_ref(given: LaunchSpec, request_id: str | None) -> AttemptRef:
    return AttemptRef(
        cluster_name=given.cluster_name,
        instance_id=given.instance_id,
        attempt=given.attempt,
        offer=given.offer,
        request_id=request_id,
        labels=given.labels,
        started_at=given.started_at,
        listed=False,
    )


def submit(rig: Rig, given: LaunchSpec) -> AttemptRef:
    return attempt_ref(given, rig.provider.submit(given))


def release(rig: Rig, one: AttemptRef) -> None:
    for _ in range(50):
        if rig.provider.release(one):
            return
        rig.until(one, NodeState.ABSENT)
    raise AssertionError("never released")


def names(rig: Rig) -> list[str]:
    return [cluster.cluster_name for cluster in rig.provider.clusters()]


def test_it_is_available_after_a_while_at_most(rig: Rig) -> None:
    answer = rig.provider.availability(rig.offer.provider, 3600.0)
    assert answer.enabled
    assert answer.wait_seconds == 0
    assert answer.reason


def test_a_node_comes_up_and_goes(rig: Rig) -> None:
    one = submit(rig, launch_spec(rig))
    assert rig.provider.describe(one).state is NodeState.PENDING
    view = rig.until(one, NodeState.UP)
    assert view.failure is None
    assert view.address
    (cluster,) = rig.provider.clusters()
    assert (cluster.cluster_name, cluster.state, cluster.gc_protected) == (one.cluster_name, NodeState.UP, False)
    release(rig, one)
    assert names(rig) == []
    assert rig.provider.describe(one).state is NodeState.ABSENT
    assert rig.provider.release(one)


def test_a_second_submission_adopts_the_first(rig: Rig) -> None:
    given = launch_spec(rig)
    first = submit(rig, given)
    second = submit(rig, given)
    assert second.request_id == first.request_id
    rig.until(first, NodeState.UP)
    rig.provider.submit(given)
    assert rig.provider.describe(first).state is NodeState.UP
    assert names(rig) == [given.cluster_name]
    release(rig, first)
    assert names(rig) == []


def test_a_node_is_found_without_the_request_s_id(rig: Rig) -> None:
    one = submit(rig, launch_spec(rig))
    forgetful = replace(one, request_id=None)
    assert rig.provider.describe(forgetful).state is NodeState.PENDING
    assert rig.provider.describe(forgetful).request_id == one.request_id
    rig.until(forgetful, NodeState.UP)
    release(rig, forgetful)


def test_what_was_never_submitted_is_absent_and_released(rig: Rig) -> None:
    one = attempt_ref(launch_spec(rig), None)
    view = rig.provider.describe(one)
    assert (view.state, view.failure, view.address) == (NodeState.ABSENT, None, None)
    assert rig.provider.release(one)
    assert rig.provider.log_tail(one, 10) == []
    assert names(rig) == []


def test_a_launch_under_way_can_be_released(rig: Rig) -> None:
    one = submit(rig, launch_spec(rig))
    assert rig.provider.describe(one).state is NodeState.PENDING
    release(rig, one)
    assert rig.provider.describe(one).state is NodeState.ABSENT
    assert names(rig) == []


def test_a_release_leaves_other_nodes_alone(rig: Rig) -> None:
    one, other = submit(rig, launch_spec(rig, 1)), submit(rig, launch_spec(rig, 2))
    rig.until(one, NodeState.UP)
    rig.until(other, NodeState.UP)
    release(rig, one)
    assert names(rig) == [other.cluster_name]
    assert rig.provider.describe(other).state is NodeState.UP
    release(rig, other)


def test_a_launch_without_capacity_says_so_and_leaves_nothing(rig: Rig) -> None:
    if not rig.full:
        pytest.skip("this rig's provider always has room")
    one = submit(rig, launch_spec(rig, labels=rig.full))
    view = rig.until(one, NodeState.ABSENT)
    assert view.failure is not None
    assert view.failure.reason is Reason.NO_CAPACITY
    assert view.failure.message
    assert names(rig) == []
    release(rig, one)
    assert rig.provider.describe(one).state is NodeState.ABSENT


def test_an_exempt_node_is_marked(rig: Rig) -> None:
    one = submit(rig, launch_spec(rig, labels={"gpulaunch-exempt": "yes"}))
    rig.until(one, NodeState.UP)
    assert [cluster.gc_protected for cluster in rig.provider.clusters()] == [True]
    release(rig, one)


def test_the_launch_has_a_log_of_as_many_lines_as_asked_for(rig: Rig) -> None:
    one = submit(rig, launch_spec(rig))
    rig.until(one, NodeState.UP)
    whole = rig.provider.log_tail(one, 200)
    assert whole
    assert rig.provider.log_tail(one, 1) == whole[-1:]
    assert rig.provider.log_tail(one, 0) == []
    release(rig, one)


def test_a_provider_that_does_not_answer_is_unavailable(rig: Rig) -> None:
    given = launch_spec(rig)
    one = attempt_ref(given, None)
    rig.unreachable()
    for call in (
        lambda: rig.provider.submit(given),
        lambda: rig.provider.describe(one),
        lambda: rig.provider.release(one),
        rig.provider.clusters,
        lambda: rig.provider.log_tail(one, 5),
    ):
        with pytest.raises(ProviderUnavailableError):
            call()


def test_a_request_that_no_provider_can_serve_is_refused_or_fails_but_never_hangs() -> None:
    rig = SimulationRig(MemorySimulatedCloud(), None)
    with pytest.raises(LaunchRefusedError, match=r"simulate\.nonsense") as refused:
        submit(rig, launch_spec(rig, labels={"simulate.nonsense": "1"}))
    assert refused.value.failure.reason is Reason.INVALID_TASK
