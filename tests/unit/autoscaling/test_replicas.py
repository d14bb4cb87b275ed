"""Which replicas an endpoint starts, drains and releases: each rule as a pair, and a random walk over all of them."""

import random
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from gpulaunch.models.endpoints import EndpointSpec
from gpulaunch.models.gateways import EndpointReport, GatewayReport
from gpulaunch.models.instances import Phase, Reason
from gpulaunch.models.routes import SlotRoute
from shared.autoscaling import replicas as rules
from shared.autoscaling.observed import MISSING, UNREADABLE, Replica
from shared.autoscaling.replicas import decide, put_off, to_launch, to_terminate
from shared.domain.endpoint import (
    EndpointRecord,
    SlotState,
    new_endpoint,
    paused,
    replica_id,
    resumed,
    with_new_generation,
    with_spec,
)
from shared.domain.instance import Failure
from shared.lifecycle import provision
from tests.twins.clock import START
from tests.twins.factories import make_request

MINUTE = timedelta(minutes=1)
LIFETIME = timedelta(hours=12)


def spec(**given: object) -> EndpointSpec:
    launch = {**make_request().model_dump(exclude_unset=True), **dict(given.pop("launch", {}) or {})}  # type: ignore[call-overload]
    return EndpointSpec.model_validate({"launch": launch, **given})


class Fleet:
    """An endpoint whose decisions are carried out at once, on a clock of its own."""

    def __init__(self, **given: object) -> None:
        self.now = START
        self.endpoint: EndpointRecord = new_endpoint("chat", "ep-1", spec(**given), self.now)
        self.replicas: dict[str, Replica] = {}
        self.launched: list[str] = []
        self.gateways: dict[str, GatewayReport | None] = {}

    def report(self, gateway_id: str, *, version: int | None = None, endpoint_id: str = "ep-1", busy: str = "") -> None:
        """A gateway's report, which follows the present routes unless the version is given."""
        follows = self.endpoint.routes_version if version is None else version
        one = EndpointReport(endpoint_id=endpoint_id, version=follows)
        self.gateways[gateway_id] = GatewayReport(
            gateway_id=gateway_id, at=START, endpoints=[one], in_flight={busy: 1} if busy else {}
        )

    def step(self, wait: timedelta = MINUTE) -> None:
        self.now += wait
        self.endpoint = decide(self.endpoint, self.replicas, self.now, self.gateways)
        for slot in to_terminate(self.endpoint, self.replicas, self.now):
            self.change(slot.instance_id, phase=Phase.TERMINATING, ending=USER)
        for slot in to_launch(self.endpoint, self.replicas, self.now):
            self.launched.append(slot.instance_id)
            self.replicas[slot.instance_id] = Replica(
                phase=Phase.QUEUED, created_at=self.now, deadline_at=self.now + LIFETIME
            )

    def change(self, instance_id: str, **changes: object) -> None:
        self.replicas[instance_id] = replace(self.replicas[instance_id], **changes)  # type: ignore[arg-type]

    def get_ready(self, *ids: str) -> None:
        for instance_id in ids or self.ids(SlotState.ACTIVE):
            self.change(instance_id, phase=Phase.READY, idle=True)

    def route(self, *, has_served: bool = True) -> None:
        """Give every slot a route, as one has whose node has served, or none."""
        route = SlotRoute(attempt=1, address="10.0.0.1", port=8000, sealed_key="k") if has_served else None
        self.endpoint = self.endpoint.with_slots(
            [one.model_copy(update={"route": route}) for one in self.endpoint.slots]
        )

    def end(self, instance_id: str, reason: Reason, *, failed: bool) -> None:
        phase = Phase.FAILED if failed else Phase.TERMINATED
        self.change(instance_id, phase=phase, failed=failed, ending=Failure(reason=reason, message="It is over"))

    def finish_terminations(self) -> None:
        for instance_id, one in self.replicas.items():
            if one.ending_now:
                self.change(instance_id, phase=Phase.TERMINATED)

    def ids(self, *states: SlotState) -> list[str]:
        return [one.instance_id for one in self.endpoint.slots if not states or one.state in states]

    def serving(self, generation: int | None = None) -> int:
        return sum(
            self.replicas.get(one.instance_id, MISSING).ready
            for one in self.endpoint.slots
            if one.state is SlotState.ACTIVE and generation in (None, one.generation)
        )

    def settle(self, minutes: int = 30) -> None:
        for _ in range(minutes):
            self.step()
            self.get_ready()
            self.finish_terminations()


USER = Failure(reason=Reason.USER_REQUEST, message="Released")
MORE = {"model_name": "org/other"}


def rolled(fleet: Fleet, **launch: object) -> None:
    """Ask for another launch."""
    fleet.endpoint = with_spec(fleet.endpoint, spec(launch=launch or MORE, replicas=fleet.endpoint.replicas), fleet.now)


def test_as_many_replicas_should_be_started_as_are_asked_for() -> None:
    fleet = Fleet(replicas=3)
    fleet.step()
    assert len(fleet.launched) == 3
    fleet.step()
    assert len(fleet.launched) == 3
    assert decide(fleet.endpoint, fleet.replicas, fleet.now) is fleet.endpoint


def test_none_should_be_started_for_zero_or_while_paused() -> None:
    for fleet in (Fleet(replicas=0), Fleet(replicas=2)):
        if fleet.endpoint.replicas:
            fleet.endpoint = paused(fleet.endpoint, fleet.now)
        fleet.step()
        assert fleet.launched == []


def test_a_repeated_step_should_find_the_slot_taken_and_its_id_derived() -> None:
    fleet = Fleet()
    once = decide(fleet.endpoint, {}, fleet.now)
    assert decide(once, {}, fleet.now + MINUTE) is once
    assert to_launch(once, {}, fleet.now) == once.slots
    assert once.slots[0].instance_id == replica_id("ep-1", 1, 1, fleet.now)
    others = {replica_id("ep-2", 1, 1, START), replica_id("ep-1", 2, 1, START), replica_id("ep-1", 1, 2, START)}
    assert len(others | {once.slots[0].instance_id}) == 4


def test_a_replica_that_ended_should_be_replaced_and_its_slot_never_used_again() -> None:
    fleet = Fleet(replicas=2)
    fleet.settle(2)
    first = fleet.ids()[0]
    fleet.end(first, Reason.USER_REQUEST, failed=False)
    fleet.step()
    assert first not in fleet.ids()
    assert len(fleet.launched) == len(set(fleet.launched)) == 3


def test_a_replica_that_terminates_should_be_replaced_before_it_has_ended() -> None:
    fleet = Fleet()
    fleet.settle(2)
    fleet.change(fleet.ids()[0], phase=Phase.TERMINATING, ending=USER)
    fleet.step()
    assert len(fleet.launched) == 2
    assert len(fleet.ids(SlotState.RELEASING)) == 1


def test_a_replica_that_recovers_should_not_be_replaced() -> None:
    fleet = Fleet()
    fleet.settle(2)
    fleet.change(fleet.ids()[0], phase=Phase.RECOVERING)
    fleet.step()
    assert len(fleet.launched) == 1


class TestFewer:
    def test_starts_should_be_released_before_serving_ones_drain(self) -> None:
        fleet = Fleet(replicas=3)
        fleet.step()
        fleet.get_ready(*fleet.launched[:2])
        fleet.endpoint = with_spec(fleet.endpoint, spec(replicas=2), fleet.now)
        fleet.step()
        assert fleet.ids(SlotState.RELEASING) == fleet.launched[2:]
        assert fleet.ids(SlotState.DRAINING) == []

    def test_the_one_with_the_fewest_requests_should_drain(self) -> None:
        fleet = Fleet(replicas=3)
        fleet.settle(2)
        for load, instance_id in enumerate(fleet.launched):
            fleet.change(instance_id, load=float(load != 1))
        fleet.endpoint = with_spec(fleet.endpoint, spec(replicas=2), fleet.now)
        fleet.step()
        assert fleet.ids(SlotState.DRAINING) == [fleet.launched[1]]

    def test_a_draining_one_should_serve_again_rather_than_one_be_started(self) -> None:
        fleet = Fleet(replicas=2)
        fleet.settle(2)
        fleet.endpoint = with_spec(fleet.endpoint, spec(replicas=1), fleet.now)
        fleet.step(timedelta(0))
        assert len(fleet.ids(SlotState.DRAINING)) == 1
        fleet.endpoint = with_spec(fleet.endpoint, spec(replicas=2), fleet.now)
        fleet.step(timedelta(seconds=30))
        assert len(fleet.ids(SlotState.ACTIVE)) == 2
        assert len(fleet.launched) == 2


class TestDraining:
    def drained(self, **changes: object) -> Fleet:
        fleet = Fleet(drain_seconds=600)
        fleet.settle(2)
        fleet.change(fleet.ids()[0], **changes)
        fleet.endpoint = paused(fleet.endpoint, fleet.now)
        fleet.step(timedelta(0))
        assert fleet.ids(SlotState.DRAINING)
        return fleet

    def test_an_idle_one_should_be_released_after_a_probe(self) -> None:
        fleet = self.drained(idle=True)
        fleet.step(timedelta(seconds=30))
        assert fleet.ids(SlotState.DRAINING)
        fleet.step(timedelta(seconds=30))
        assert fleet.ids(SlotState.RELEASING)

    def test_a_busy_one_should_be_released_after_its_time_and_not_before(self) -> None:
        fleet = self.drained(idle=False)
        fleet.step(timedelta(seconds=599))
        assert fleet.ids(SlotState.DRAINING)
        fleet.step(timedelta(seconds=1))
        assert fleet.ids(SlotState.RELEASING)

    def test_an_idle_one_should_be_released_once_every_gateway_has_left_it(self) -> None:
        fleet = self.drained(idle=True)
        fleet.report("a")
        fleet.report("b")
        fleet.step()
        assert fleet.ids(SlotState.RELEASING)

    @pytest.mark.parametrize(
        "case", ["follows an earlier version", "has a request there", "has not read", "unreadable"]
    )
    def test_an_idle_one_should_drain_on_for_a_single_gateway_and_at_most_for_its_time(self, case: str) -> None:
        fleet = self.drained(idle=True)
        fleet.report("a")
        match case:
            case "follows an earlier version":
                fleet.report("b", version=fleet.endpoint.routes_version - 1)
            case "has a request there":
                fleet.report("b", busy=fleet.launched[0])
            case "has not read":
                fleet.report("b", endpoint_id="ep-of-the-same-name-before", version=99)
            case _:
                fleet.gateways["b"] = None
        fleet.step(timedelta(seconds=599))
        assert fleet.ids(SlotState.DRAINING)
        fleet.step(timedelta(seconds=1))
        assert fleet.ids(SlotState.RELEASING)

    def test_a_report_of_a_drain_that_was_taken_back_should_acknowledge_no_later_one(self) -> None:
        fleet = self.drained(idle=True)
        fleet.report("a")
        fleet.endpoint = resumed(fleet.endpoint, fleet.now)
        fleet.step(timedelta(0))
        assert fleet.ids(SlotState.ACTIVE) == fleet.launched
        fleet.endpoint = paused(fleet.endpoint, fleet.now)
        fleet.step(timedelta(0))
        fleet.step()
        assert fleet.ids(SlotState.DRAINING)
        fleet.report("a")
        fleet.step()
        assert fleet.ids(SlotState.RELEASING)

    def test_a_request_elsewhere_should_delay_nothing(self) -> None:
        fleet = self.drained(idle=True)
        fleet.report("a", busy="inst-of-another-endpoint")
        fleet.step()
        assert fleet.ids(SlotState.RELEASING)

    def test_a_lost_one_should_be_released_at_once(self) -> None:
        fleet = self.drained(idle=False)
        fleet.change(fleet.ids()[0], phase=Phase.RECOVERING)
        fleet.step(timedelta(0))
        assert fleet.ids(SlotState.RELEASING)

    def test_one_whose_node_was_told_to_end_should_have_its_time_first(self) -> None:
        fleet = self.drained(idle=False)
        (instance_id,) = fleet.ids()
        fleet.change(instance_id, phase=Phase.RECOVERING, drains_until=fleet.now + timedelta(seconds=25))
        fleet.step(timedelta(seconds=24))
        assert (fleet.ids(SlotState.RELEASING), fleet.replicas[instance_id].ending_now) == ([instance_id], False)
        fleet.step(timedelta(seconds=1))
        assert fleet.replicas[instance_id].ending_now

    def test_a_released_one_should_be_forgotten_once_it_has_ended(self) -> None:
        fleet = self.drained(idle=True)
        fleet.step()
        assert fleet.replicas[fleet.launched[0]].ending_now
        fleet.step()
        assert fleet.ids() == fleet.launched
        fleet.finish_terminations()
        fleet.step()
        assert fleet.ids() == []


class TestRolling:
    def test_it_should_start_one_more_and_never_serve_with_fewer_than_asked_for(self) -> None:
        fleet = Fleet(replicas=3)
        fleet.settle(2)
        rolled(fleet)
        for _ in range(20):
            fleet.step()
            assert fleet.serving() >= 3
            assert len(fleet.ids(SlotState.ACTIVE)) <= 4
            starting = [one for one in fleet.ids(SlotState.ACTIVE) if not fleet.replicas[one].ready]
            assert len(starting) <= 1
            fleet.get_ready()
            fleet.finish_terminations()
        assert fleet.serving(2) == 3
        assert len(fleet.endpoint.slots) == 3
        assert [one.number for one in fleet.endpoint.generations] == [2]

    @pytest.mark.parametrize("reason", sorted(rules.UNRECOVERABLE))
    def test_a_generation_that_cannot_start_should_stop_there_and_say_why(self, reason: Reason) -> None:
        fleet = Fleet(replicas=2)
        fleet.settle(2)
        old = fleet.ids()
        rolled(fleet)
        fleet.step()
        fleet.end(fleet.launched[-1], reason, failed=True)
        for _ in range(60):
            fleet.step()
        assert len(fleet.launched) == 3
        assert fleet.endpoint.wanted.stopped == Failure(reason=reason, message="It is over")
        assert fleet.ids(SlotState.ACTIVE) == old
        assert any("Generation 2 is stopped: It is over" in one.message for one in fleet.endpoint.events)

    def test_what_may_pass_should_stop_a_generation_after_three_starts_only(self) -> None:
        fleet = Fleet()
        for number in range(1, 4):
            assert fleet.endpoint.wanted.stopped is None
            fleet.step(timedelta(hours=1))
            fleet.step(timedelta(hours=1))
            assert len(fleet.launched) == number
            fleet.end(fleet.launched[-1], Reason.NO_OFFERS_LEFT, failed=True)
        fleet.step(timedelta(hours=1))
        fleet.step(timedelta(hours=1))
        assert fleet.endpoint.wanted.stopped is not None
        assert len(fleet.launched) == 3
        fleet.endpoint = resumed(fleet.endpoint, fleet.now)
        fleet.step()
        assert len(fleet.launched) == 4

    def test_a_lost_replica_should_be_replaced_by_the_generation_that_serves(self) -> None:
        fleet = Fleet()
        fleet.settle(2)
        rolled(fleet)
        fleet.step()
        fleet.end(fleet.launched[-1], Reason.SERVER_FAILED, failed=True)
        fleet.step()
        fleet.end(fleet.launched[0], Reason.NODE_LOST, failed=True)
        fleet.step()
        fleet.step()
        assert [one.generation for one in fleet.endpoint.slots] == [1]
        assert len(fleet.launched) == 3

    def test_starts_of_a_launch_that_never_worked_should_be_given_up(self) -> None:
        fleet = Fleet(replicas=2)
        fleet.step()
        rolled(fleet)
        fleet.step()
        fleet.finish_terminations()
        fleet.step()
        assert [one.generation for one in fleet.endpoint.slots] == [2, 2]

    def test_starts_of_a_proven_launch_should_go_on_until_the_next_one_is_proven(self) -> None:
        fleet = Fleet(replicas=2)
        fleet.step()
        fleet.get_ready(fleet.launched[0])
        fleet.step()
        rolled(fleet)
        fleet.step()
        assert set(fleet.launched[:2]) <= set(fleet.ids(SlotState.ACTIVE))
        fleet.get_ready(fleet.launched[2])
        fleet.step()
        assert fleet.launched[1] in fleet.ids(SlotState.RELEASING)

    def test_the_same_launch_should_be_no_generation_and_a_roll_out_one(self) -> None:
        fleet = Fleet()
        assert with_spec(fleet.endpoint, spec(), fleet.now) is fleet.endpoint
        again = with_new_generation(fleet.endpoint, fleet.endpoint.wanted.template, fleet.now, "again")
        assert again.wanted.number == 2

    def test_replicas_should_be_renewed_before_their_lifetime_ends(self) -> None:
        fleet = Fleet(replicas=2)
        fleet.settle(2)
        born = fleet.now - 2 * MINUTE
        while fleet.now < born + LIFETIME - rules.RENEWED_BEFORE - 2 * MINUTE:
            fleet.step(10 * MINUTE)
        assert len(fleet.launched) <= 3
        while fleet.now < born + LIFETIME:
            fleet.step()
            assert fleet.serving() == 2 or len(fleet.ids(SlotState.ACTIVE)) == 3
            fleet.get_ready()
            fleet.finish_terminations()
        assert not set(fleet.ids()) & set(fleet.launched[:2])


class TestFailures:
    def test_the_next_start_should_wait_twice_as_long_each_time_and_be_alone(self) -> None:
        fleet = Fleet(replicas=3)
        fleet.settle(2)
        for instance_id in fleet.ids():
            fleet.end(instance_id, Reason.TOO_MANY_RECOVERIES, failed=True)
        fleet.step(timedelta(0))
        assert fleet.ids() == []
        assert fleet.endpoint.retry_at == fleet.now + 4 * rules.FIRST_PAUSE
        fleet.step(timedelta(seconds=119))
        assert len(fleet.launched) == 3
        fleet.step(timedelta(seconds=1))
        assert len(fleet.launched) == 4
        fleet.step()
        assert len(fleet.launched) == 4
        fleet.get_ready()
        fleet.step()
        assert len(fleet.launched) == 6
        assert fleet.endpoint.retry_at is None

    def test_a_refused_start_should_keep_its_slot_and_be_tried_again(self) -> None:
        fleet = Fleet()
        fleet.endpoint = decide(fleet.endpoint, {}, fleet.now)
        slots = fleet.endpoint.slots
        for tries in range(12):
            fleet.endpoint = put_off(fleet.endpoint, "A start was refused: no room", fleet.now)
            assert fleet.endpoint.retry_at is not None
            assert fleet.endpoint.retry_at == fleet.now + min(rules.FIRST_PAUSE * 2**tries, rules.LONGEST_PAUSE)
            assert to_launch(fleet.endpoint, {}, fleet.now) == []
            fleet.now = fleet.endpoint.retry_at
            assert to_launch(fleet.endpoint, {}, fleet.now) == slots
        assert [one.message for one in fleet.endpoint.events].count("A start was refused: no room") == 1

    def test_replicas_that_a_spent_budget_ended_should_not_be_replaced_at_once(self) -> None:
        fleet = Fleet()
        fleet.settle(2)
        fleet.end(fleet.ids()[0], Reason.BUDGET, failed=False)
        fleet.step(timedelta(0))
        assert len(fleet.launched) == 1
        fleet.step(rules.FIRST_PAUSE)
        assert len(fleet.launched) == 2

    def test_what_every_replica_would_meet_should_contain_what_no_other_offer_helps(self) -> None:
        gives_up = {one for one in Reason if provision.retry_after(one) is provision.Retry.GIVE_UP}
        assert gives_up | {Reason.DOES_NOT_FIT} == rules.UNRECOVERABLE


class TestUnreadable:
    def test_it_should_count_as_starting_and_be_ended_by_a_deletion_alone(self) -> None:
        fleet = Fleet()
        fleet.settle(2)
        instance_id = fleet.ids()[0]
        fleet.replicas[instance_id] = UNREADABLE
        fleet.step()
        assert len(fleet.launched) == 1
        fleet.endpoint = paused(fleet.endpoint, fleet.now)
        fleet.step()
        assert to_terminate(fleet.endpoint, fleet.replicas, fleet.now) == []
        gone = fleet.endpoint.model_copy(update={"deleting": True})
        assert [one.instance_id for one in to_terminate(gone, fleet.replicas, fleet.now)] == [instance_id]

    def test_one_that_has_served_should_drain_its_whole_time(self) -> None:
        fleet = Fleet(drain_seconds=600)
        fleet.settle(2)
        route = SlotRoute(attempt=1, address="10.0.0.1", port=8000, sealed_key="k")
        slots = [one.model_copy(update={"route": route}) for one in fleet.endpoint.slots]
        fleet.endpoint = paused(fleet.endpoint.with_slots(slots), fleet.now)
        fleet.replicas[fleet.ids()[0]] = UNREADABLE
        for _ in range(10):
            fleet.step()
            assert len(fleet.ids(SlotState.DRAINING)) == 1
        fleet.step()
        assert len(fleet.ids(SlotState.RELEASING)) == 1

    @pytest.mark.parametrize(("has_served", "serving"), [(True, 1), (False, 2)])
    def test_one_that_has_served_should_count_as_serving_and_one_that_has_not_as_starting(
        self, *, has_served: bool, serving: int
    ) -> None:
        fleet = Fleet(replicas=2)
        fleet.settle(3)
        fleet.route(has_served=has_served)
        first, second = fleet.ids()
        fleet.replicas[first] = UNREADABLE
        fleet.change(second, phase=Phase.READY)
        fleet.endpoint = with_spec(fleet.endpoint, spec(replicas=1), fleet.now)
        fleet.step()
        draining, released = fleet.ids(SlotState.DRAINING), fleet.ids(SlotState.RELEASING)
        assert (len(draining), len(released)) == ((1, 0) if serving == 1 else (0, 1))

    @pytest.mark.parametrize(("has_served", "started"), [(True, 3), (False, 2)])
    def test_one_that_serves_should_not_be_waited_for_as_for_a_start(self, *, has_served: bool, started: int) -> None:
        fleet = Fleet(replicas=2)
        fleet.settle(3)
        fleet.route(has_served=has_served)
        first, second = fleet.ids()
        fleet.replicas[first] = UNREADABLE
        fleet.end(second, Reason.NO_CAPACITY, failed=True)
        fleet.step()
        fleet.step()
        assert len(fleet.launched) == started
        for one in fleet.launched[2:]:
            fleet.get_ready(one)
        fleet.step()
        assert bool(fleet.endpoint.failures) is not has_served, "while one starts, its failures are remembered"

    @pytest.mark.parametrize("unreadable", [True, False])
    def test_one_that_drains_should_delay_the_next_replacement(self, *, unreadable: bool) -> None:
        fleet = Fleet(replicas=1, drain_seconds=3600)
        fleet.settle(2)
        old = fleet.ids()[0]
        fleet.route()
        rolled(fleet)
        fleet.step()
        fleet.get_ready(fleet.ids()[1])
        fleet.change(old, idle=False)
        fleet.step()
        assert fleet.ids(SlotState.DRAINING) == [old]
        if unreadable:
            fleet.replicas[old] = UNREADABLE
        rolled(fleet, model_name="org/third")
        fleet.step()
        assert len(fleet.launched) == 2, "three nodes for one would be more than the surge"

    def test_one_that_has_never_served_should_not_drain(self) -> None:
        fleet = Fleet(drain_seconds=600)
        fleet.step()
        fleet.replicas[fleet.ids()[0]] = UNREADABLE
        fleet.endpoint = paused(fleet.endpoint, fleet.now)
        fleet.step()
        assert len(fleet.ids(SlotState.RELEASING)) == 1


def _mishap(fleet: Fleet, dice: random.Random) -> None:
    ids = list(fleet.replicas)
    if not ids:
        return
    chosen = dice.choice(ids)
    if fleet.replicas[chosen].ended:
        return
    what = dice.random()
    if what < 0.5:
        fleet.change(chosen, phase=Phase.READY, idle=dice.random() < 0.7)
    elif what < 0.6:
        fleet.change(chosen, phase=Phase.RECOVERING)
    elif what < 0.7:
        fleet.end(chosen, dice.choice([Reason.NO_OFFERS_LEFT, Reason.SERVER_FAILED, Reason.BUDGET]), failed=True)
    else:
        fleet.finish_terminations()


def _asks(fleet: Fleet, dice: random.Random, now: datetime) -> None:
    endpoint, what = fleet.endpoint, dice.random()
    if what < 0.1:
        fleet.endpoint = with_spec(endpoint, spec(replicas=dice.randrange(5)), now)
    elif what < 0.15:
        rolled(fleet, model_name=f"org/m{dice.randrange(3)}")
    elif what < 0.2:
        fleet.endpoint = paused(endpoint, now) if dice.random() < 0.5 else resumed(endpoint, now)


@pytest.mark.parametrize("seed", range(60))
def test_whatever_happens_the_invariants_should_hold(seed: int) -> None:
    dice = random.Random(seed)
    fleet = Fleet(replicas=dice.randrange(4), drain_seconds=dice.choice([0, 60, 600]))
    for _ in range(150):
        _asks(fleet, dice, fleet.now)
        for _ in range(dice.randrange(3)):
            _mishap(fleet, dice)
        before = fleet.serving()
        asked = fleet.endpoint.target
        fleet.step(timedelta(seconds=dice.randrange(1, 120)))
        live = [one for one in fleet.endpoint.slots if one.state is SlotState.ACTIVE]
        assert len(live) <= max(asked + rules.SURGE, before)
        assert fleet.serving() >= min(before, asked)
        assert len(fleet.launched) == len(set(fleet.launched))
        numbers = [one.number for one in fleet.endpoint.slots]
        assert numbers == sorted(set(numbers))
        assert decide(fleet.endpoint, fleet.replicas, fleet.now).slots == fleet.endpoint.slots
    fleet.endpoint = resumed(fleet.endpoint.model_copy(update={"replicas": 2}), fleet.now)
    fleet.settle(60)
    assert fleet.serving(fleet.endpoint.wanted.number) == len(fleet.endpoint.slots) == 2
