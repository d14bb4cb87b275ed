"""The simulation's timeline and its faults, to the second, on both kinds of simulated cloud."""

from collections.abc import Callable
from typing import Any

import pytest

from gpulaunch.models.instances import Reason
from shared.backends.simulation.cloud import SimulatedCloud, SimulatedNode, TableSimulatedCloud
from shared.backends.simulation.course import MODEL_BYTES, PORT
from shared.backends.simulation.faults import Faults, read_faults
from shared.backends.simulation.provider import SimulatedNodes, SimulationProvider
from shared.domain.node import NodePhase, NodeStatus
from shared.domain.provider import AttemptRef, LaunchSpec, NodeState, NodeTarget, NodeUnreachableError
from shared.errors import StoreUnavailableError
from tests.contract.conftest import ACCOUNTS, Account, account_of, reset, unique
from tests.twins.clock import START, ManualClock
from tests.twins.factories import DEPLOYMENT, make_attempt, make_instance_id, make_offer
from tests.twins.simulated_cloud import MemorySimulatedCloud

STEPS = [
    (30.0, NodePhase.INSTALLING, False),
    (45.0, NodePhase.LOADING_MODEL, False),
    (65.0, NodePhase.STARTING_SERVER, False),
    (75.0, NodePhase.SERVING, False),
    (80.0, NodePhase.SERVING, True),
]


@pytest.fixture(params=["twin", *ACCOUNTS])
def cloud(request: pytest.FixtureRequest) -> SimulatedCloud:
    if request.param == "twin":
        return MemorySimulatedCloud()
    return TableSimulatedCloud(account_of(request).table, unique("cloud"))


class World:
    """One simulated launch and its clock, which is told the time in simulated seconds of the attempt."""

    def __init__(self, cloud: SimulatedCloud, speed: float = 1.0, attempt: int = 1, **labels: str) -> None:
        self.speed = speed
        self.clock = ManualClock()
        self.provider = SimulationProvider(cloud, self.clock, speed)
        self.nodes = SimulatedNodes(cloud, self.clock, speed)
        faults = {f"simulate.{name.replace('_', '-')}": value for name, value in labels.items()}
        instance_id = make_instance_id(attempt)
        name = make_attempt(instance_id, number=attempt).cluster_name
        offer = make_offer()
        self.launch_spec = LaunchSpec(
            cluster_name=name,
            instance_id=instance_id,
            attempt=attempt,
            offer=offer,
            labels=faults,
            environment={},
            secrets={},
            started_at=START,
            deployment=DEPLOYMENT,
        )
        request_id = self.provider.submit(self.launch_spec)
        self.attempt_ref = AttemptRef(
            cluster_name=name,
            instance_id=instance_id,
            attempt=attempt,
            offer=offer,
            request_id=request_id,
            labels=faults,
            started_at=START,
            listed=False,
        )
        self.target = NodeTarget(
            instance_id=instance_id,
            cluster_name=name,
            attempt=attempt,
            address=f"simulated-{name}.invalid",
            port=PORT,
            agent_port=8100,
            agent_token="t",
            api_key="k",
        )

    def at(self, seconds: float) -> "World":
        self.clock.set(START)
        self.clock.advance(seconds / self.speed)
        return self

    @property
    def state(self) -> NodeState:
        return self.provider.describe(self.attempt_ref).state

    @property
    def alive(self) -> bool:
        return self.nodes.probe([self.target])[self.target.cluster_name].alive

    def status(self) -> NodeStatus:
        return self.nodes.status(self.target)


def test_validation_takes_two_seconds(cloud: SimulatedCloud) -> None:
    provider = World(cloud).provider
    assert provider.availability("azure", 0.0).wait_seconds == 2.0
    assert provider.availability("azure", 1.5).wait_seconds == 0.5
    assert provider.availability("azure", 2.0).wait_seconds == 0.0
    assert World(cloud, speed=10, attempt=2).provider.availability("azure", 0.05).wait_seconds == pytest.approx(
        0.15, abs=2e-6
    )


@pytest.mark.parametrize("speed", [1.0, 3.0, 7.0, 10.0, 60.0, 10_000.0])
def test_following_look_again_meets_every_change_and_ends_ready_at_eighty(cloud: SimulatedCloud, speed: float) -> None:
    world = World(cloud, speed)
    for moment, phase, alive in STEPS:
        before = world.provider.describe(world.attempt_ref).look_again_seconds
        assert before is not None
        assert before > 0
        world.clock.advance(before)
        elapsed = (world.clock.now() - START).total_seconds() * speed
        assert elapsed == pytest.approx(moment, abs=2e-6 * speed)
        assert world.state is NodeState.UP
        assert world.status().phase is phase
        assert world.alive is alive
    assert world.provider.describe(world.attempt_ref).look_again_seconds is None


def test_nothing_changes_before_its_time(cloud: SimulatedCloud) -> None:
    world = World(cloud)
    assert world.at(29.99).state is NodeState.PENDING
    with pytest.raises(NodeUnreachableError):
        world.status()
    last = NodePhase.INSTALLING
    for moment, phase, _ in STEPS[1:]:
        assert world.at(moment - 0.01).status().phase is last
        assert not world.alive
        last = phase
    assert world.at(80.0).alive
    assert world.at(1_000_000).alive


def test_the_address_and_the_port_are_known_in_time(cloud: SimulatedCloud) -> None:
    world = World(cloud)
    assert world.provider.describe(world.attempt_ref).address is None
    assert world.at(30).provider.describe(world.attempt_ref).address == world.target.address
    assert world.at(74).status().port is None
    assert world.at(75).status().port == PORT


def test_the_model_is_fetched_beside_the_installation(cloud: SimulatedCloud) -> None:
    world = World(cloud)
    fetched = [world.at(moment).status().fetched_bytes for moment in (30, 40, 45, 60, 65, 70, 90)]
    assert fetched == sorted(fetched, key=lambda one: one or 0)
    assert fetched[0] is not None
    assert fetched[0] < MODEL_BYTES / 1000
    assert fetched[-3:] == [MODEL_BYTES] * 3
    assert world.status().total_bytes == MODEL_BYTES
    assert len(world.at(90).status().log_tail) > len(world.at(31).status().log_tail) > 0


def test_a_new_process_sees_the_same(cloud: SimulatedCloud) -> None:
    world = World(cloud).at(50)
    again = SimulationProvider(cloud, world.clock)
    assert again.describe(world.attempt_ref) == world.provider.describe(world.attempt_ref)
    assert again.submit(world.launch_spec) == world.attempt_ref.request_id
    assert SimulatedNodes(cloud, world.clock).status(world.target) == world.status()


def test_no_capacity(cloud: SimulatedCloud) -> None:
    world = World(cloud, attempt=2, no_capacity="2")
    view = world.provider.describe(world.attempt_ref)
    assert (view.state, view.look_again_seconds) == (NodeState.PENDING, 5.0)
    view = world.at(5).provider.describe(world.attempt_ref)
    assert (view.state, view.look_again_seconds) == (NodeState.ABSENT, None)
    assert view.failure is not None
    assert view.failure.reason is Reason.NO_CAPACITY
    assert world.provider.clusters() == []
    assert not world.alive
    with pytest.raises(NodeUnreachableError):
        world.at(50).status()
    assert "No capacity" in world.provider.log_tail(world.attempt_ref, 5)
    assert World(cloud, attempt=3, no_capacity="2").at(80).alive


def test_setup_failure(cloud: SimulatedCloud) -> None:
    world = World(cloud, setup_failure="1")
    assert world.at(39).provider.describe(world.attempt_ref).failure is None
    assert world.status().phase is NodePhase.INSTALLING
    view = world.at(30).provider.describe(world.attempt_ref)
    assert view.look_again_seconds == 10.0
    view = world.at(40).provider.describe(world.attempt_ref)
    assert view.state is NodeState.UP
    assert view.failure is not None
    assert view.failure.reason is Reason.SETUP_FAILED
    status = world.status()
    assert (status.phase, status.failure) == (NodePhase.FAILED, None)
    assert not world.at(200).alive
    assert world.state is NodeState.UP
    assert len(world.provider.clusters()) == 1
    assert world.provider.release(world.attempt_ref)
    assert world.state is NodeState.ABSENT
    with pytest.raises(NodeUnreachableError, match="does not exist"):
        world.status()
    assert World(cloud, attempt=2, setup_failure="1").at(80).alive


def test_never_registers(cloud: SimulatedCloud) -> None:
    world = World(cloud, never_registers="1").at(65)
    assert world.provider.describe(world.attempt_ref).look_again_seconds is None
    assert world.at(100_000).status().phase is NodePhase.STARTING_SERVER
    assert world.status().port is None
    assert not world.alive
    assert World(cloud, attempt=2, never_registers="1").at(80).alive


def test_evict_after(cloud: SimulatedCloud) -> None:
    world = World(cloud, evict_after="12.5").at(80)
    assert world.alive
    assert world.provider.describe(world.attempt_ref).look_again_seconds == 12.5
    assert world.at(92).alive
    world.at(92.5)
    assert world.state is NodeState.STOPPED
    assert not world.alive
    with pytest.raises(NodeUnreachableError):
        world.status()
    assert [one.state for one in world.provider.clusters()] == [NodeState.STOPPED]
    assert world.provider.release(world.attempt_ref)
    assert world.state is NodeState.ABSENT
    assert World(cloud, attempt=2, evict_after="12.5").at(1000).alive


def test_dead_after(cloud: SimulatedCloud) -> None:
    world = World(cloud, speed=10, dead_after="20").at(99)
    assert world.alive
    world.at(100)
    assert not world.alive
    assert world.state is NodeState.UP
    with pytest.raises(NodeUnreachableError):
        world.status()
    assert World(cloud, attempt=2, dead_after="20").at(1000).alive


def test_teardown_tries(cloud: SimulatedCloud) -> None:
    world = World(cloud, teardown_tries="2").at(80)
    assert [world.provider.release(world.attempt_ref) for _ in range(2)] == [False, False]
    assert world.state is NodeState.UP
    assert len(world.provider.clusters()) == 1
    again = SimulationProvider(cloud, world.clock)
    assert again.release(world.attempt_ref)
    assert world.state is NodeState.ABSENT
    assert again.release(world.attempt_ref)


def test_busy_until(cloud: SimulatedCloud) -> None:
    world = World(cloud, busy_until="60")

    def seen() -> tuple[float | None, ...]:
        probe = world.nodes.probe([world.target])[world.target.cluster_name]
        return probe.running_requests, probe.waiting_requests, probe.finished_requests

    world.at(139)
    assert seen() == (1.0, 0.0, 0.0)
    world.at(140)
    assert seen() == (0.0, 0.0, 1.0)
    idle = World(cloud, attempt=2).at(80)
    probe = idle.nodes.probe([idle.target])[idle.target.cluster_name]
    assert (probe.running_requests, probe.waiting_requests) == (0.0, 0.0)


def test_probes_have_one_entry_for_every_target(cloud: SimulatedCloud) -> None:
    one, two = World(cloud), World(cloud, attempt=2, no_capacity="5")
    gone = NodeTarget(
        instance_id="inst-x",
        cluster_name="gl-gone-01",
        attempt=1,
        address="x.invalid",
        port=None,
        agent_port=8100,
        agent_token="t",
        api_key="k",
    )
    one.at(80)
    probes = one.nodes.probe([one.target, two.target, gone])
    assert {name: probe.alive for name, probe in probes.items()} == {
        one.target.cluster_name: True,
        two.target.cluster_name: False,
        "gl-gone-01": False,
    }
    assert one.nodes.probe([]) == {}


def test_storage_that_does_not_answer_says_nothing_about_nodes() -> None:
    cloud = MemorySimulatedCloud()
    world = World(cloud).at(80)
    cloud.calls.fail_next("get", StoreUnavailableError("away"))
    with pytest.raises(NodeUnreachableError):
        world.status()
    cloud.calls.fail_next("get", StoreUnavailableError("away"))
    with pytest.raises(StoreUnavailableError):
        world.nodes.probe([world.target])


# the clouds


def node(number: int = 1, **given: Any) -> SimulatedNode:
    instance_id = make_instance_id(number)
    fields: dict[str, Any] = {
        "cluster_name": make_attempt(instance_id).cluster_name,
        "instance_id": instance_id,
        "attempt": 1,
        "labels": {"simulate.dead-after": "3", "team": "red"},
        "started_at": START,
        "created_at": START,
    }
    return SimulatedNode.model_validate(fields | given)


def test_a_cloud_keeps_what_it_was_given(cloud: SimulatedCloud) -> None:
    one, two, three = node(1), node(2), node(3)
    assert cloud.add(two)
    assert cloud.add(one)
    assert cloud.add(three)
    assert not cloud.add(node(2, attempt=9))
    assert cloud.get(two.cluster_name) == two
    assert cloud.nodes() == [one, two, three]
    assert cloud.nodes(one.cluster_name, two.cluster_name) == [one, two]
    changed = node(2, release_calls=1)
    cloud.replace(changed)
    assert cloud.get(two.cluster_name) == changed
    cloud.remove(two.cluster_name)
    cloud.remove(two.cluster_name)
    cloud.replace(changed)
    assert cloud.get(two.cluster_name) is None
    assert cloud.nodes() == [one, three]


@pytest.mark.parametrize("answer", [503, reset()])
def test_a_launch_whose_answer_was_lost_has_its_node(account: Account, answer: int | Exception) -> None:
    cloud = TableSimulatedCloud(account.table, unique("cloud"))
    account.transport.answers.append(answer)
    world = World(cloud)
    assert [found.cluster_name for found in cloud.nodes()] == [world.launch_spec.cluster_name]


def test_requests_per_call(account: Account) -> None:
    world = World(TableSimulatedCloud(account.table, unique("cloud")), teardown_tries="1").at(80)
    other = World(TableSimulatedCloud(account.table, unique("cloud")))

    def cost(call: Callable[[], object]) -> int:
        account.start_counting()
        call()
        return len(account.requests)

    assert cost(lambda: world.provider.submit(world.launch_spec)) == 1
    assert cost(lambda: world.provider.describe(world.attempt_ref)) == 1
    assert cost(world.status) == 1
    assert cost(lambda: world.nodes.probe([world.target])) == 1
    assert cost(lambda: world.nodes.probe([world.target, other.target])) == 1
    assert cost(world.provider.clusters) == 1
    assert cost(lambda: world.provider.availability("azure", 1)) == 0
    assert cost(lambda: world.provider.release(world.attempt_ref)) == 2
    assert cost(lambda: other.provider.release(other.attempt_ref)) == 1


# the labels


def test_faults_are_read_from_labels() -> None:
    assert read_faults({"team": "red", "simulated": "x"}) == Faults()
    labels = {
        "simulate.no-capacity": "1",
        "simulate.setup-failure": "2",
        "simulate.never-registers": "100",
        "simulate.teardown-tries": "4",
        "simulate.evict-after": "0",
        "simulate.dead-after": "1.5",
        "simulate.busy-until": "1000000",
    }
    assert read_faults(labels) == Faults(
        no_capacity=1,
        setup_failure=2,
        never_registers=100,
        evict_after=0.0,
        dead_after=1.5,
        busy_until=1_000_000.0,
        teardown_tries=4,
    )


@pytest.mark.parametrize("value", ["", "0", "-1", "101", "1.5", "many", "٣", "1 "])
def test_a_count_is_a_whole_number(value: str) -> None:
    with pytest.raises(ValueError, match=r"simulate\.no-capacity must be a whole number from 1 to 100"):
        read_faults({"simulate.no-capacity": value})


@pytest.mark.parametrize("value", ["", "-1", "nan", "inf", "1e3", "1000001", "1.", "٣"])
def test_a_time_is_a_number_of_seconds(value: str) -> None:
    with pytest.raises(ValueError, match=r"simulate\.evict-after must be a number of seconds"):
        read_faults({"simulate.evict-after": value})


def test_an_unknown_fault_is_refused_with_those_that_are_known() -> None:
    with pytest.raises(ValueError, match=r"simulate\.explode .*simulate\.busy-until.*simulate\.teardown-tries"):
        read_faults({"simulate.explode": "1"})
