"""The scaler over an endpoint's row: what it sees of replicas, what it writes, and what it leaves to people."""

from datetime import timedelta
from typing import Any

import pytest

from gpulaunch.models.gateways import EndpointReport, GatewayReport
from gpulaunch.models.instances import Phase
from shared.autoscaling.observed import Gateways, Replica
from shared.autoscaling.replicas import decide
from shared.autoscaling.scaling import concurrency_of, explained, rescaled
from shared.domain.endpoint import EndpointRecord, SlotState, new_endpoint
from tests.twins.clock import START
from tests.unit.autoscaling.test_replicas import spec

READY = Replica(phase=Phase.READY)
STARTING = Replica(phase=Phase.PROVISIONING)


def endpoint(**given: Any) -> EndpointRecord:
    bounds = {"min_replicas": 0, "max_replicas": 9, "target_concurrency": 10}
    return new_endpoint("chat", "ep-1", spec(**bounds | given), START)


def reported(age: timedelta = timedelta(0), **figures: Any) -> Gateways:
    one = EndpointReport(endpoint_id="ep-1", version=0, **figures)
    return {"a": GatewayReport(gateway_id="a", at=START + age, endpoints=[one])}


def with_replicas(count: int, **given: Any) -> EndpointRecord:
    """An endpoint whose replicas are allotted."""
    made = endpoint(**given).model_copy(update={"replicas": count})
    return decide(made, {}, START)


def test_its_number_should_follow_what_the_gateways_tell_and_what_probes_find() -> None:
    assert rescaled(endpoint(), {}, reported(held=1), START)[0].replicas == 1
    busy = with_replicas(1)
    found = {slot.instance_id: Replica(phase=Phase.READY, load=25.0) for slot in busy.slots}
    assert rescaled(busy, found, {}, START)[0].replicas == 3


def test_a_decision_should_have_all_that_led_to_it() -> None:
    scaled, decision = rescaled(endpoint(), {}, reported(held=3, arrivals={60: 3, 120: 3, 240: 3}), START)
    assert decision is not None
    assert (decision.at, decision.before, decision.replicas, decision.held) == (START, 0, 1, 3)
    assert (decision.ready, decision.starting, decision.concurrency, decision.start_seconds) == (0, 0, 10.0, 240.0)
    assert decision.arrivals == {30: 0, 60: 3, 120: 3, 240: 3}
    assert scaled.events[-1].message == f"Scaled from 0 to 1: {decision.reason}."


@pytest.mark.parametrize("update", [{"scaling": None}, {"paused": True}, {"deleting": True}])
def test_where_people_decide_nothing_should_change(update: dict[str, Any]) -> None:
    decided_by_people = with_replicas(2).model_copy(update=update)
    assert rescaled(decided_by_people, {}, reported(held=50), START) == (decided_by_people, None)


def test_without_a_change_the_same_object_should_be_given_back() -> None:
    first = rescaled(endpoint(), {}, reported(), START)[0]
    assert rescaled(first, {}, reported(), START)[0] is first


@pytest.mark.parametrize(("lost", "replicas"), [(timedelta(seconds=60), 1), (timedelta(hours=1), 2)])
def test_a_node_that_is_being_replaced_should_count_as_a_start_of_the_time_when_it_was_lost(
    lost: timedelta, replicas: int
) -> None:
    made, age = with_replicas(1), timedelta(hours=3)
    found = {slot.instance_id: Replica(phase=Phase.RECOVERING, lost_at=START + age - lost) for slot in made.slots}
    assert rescaled(made, found, reported(age, held=20), START + age)[0].replicas == replicas


class TestStarts:
    def test_the_first_time_that_a_replica_serves_should_be_the_time_of_its_start(self) -> None:
        made = with_replicas(1)
        (slot,) = made.slots
        now = START + timedelta(seconds=140)
        timed = rescaled(made, {slot.instance_id: READY}, {}, now)[0]
        assert (timed.start_seconds, timed.slots[0].served_at) == (210.0, now)
        later = now + timedelta(hours=1)
        assert rescaled(timed, {slot.instance_id: STARTING}, {}, later)[0].slots == timed.slots
        assert rescaled(timed, {slot.instance_id: READY}, {}, later)[0].start_seconds == 210.0

    @pytest.mark.parametrize(("releasable", "left"), [(0, [1, 2, 3, 4]), (1, [1, 2, 3]), (3, [1])])
    def test_no_more_starts_should_be_given_up_than_the_scaler_says_the_youngest_first(
        self, releasable: int, left: list[int]
    ) -> None:
        made = with_replicas(4)
        found = {slot.instance_id: STARTING for slot in made.slots}
        scaler = made.scaler.model_copy(update={"releasable": releasable})
        decided = decide(made.model_copy(update={"replicas": 1, "scaler": scaler}), found, START)
        assert [slot.number for slot in decided.slots if slot.state is SlotState.ACTIVE] == left

    @pytest.mark.parametrize("update", [{"paused": True}, {"deleting": True}, {"scaling": None}])
    def test_none_should_be_spared_where_people_ask_for_none(self, update: dict[str, Any]) -> None:
        made = with_replicas(2)
        found = {slot.instance_id: STARTING for slot in made.slots}
        decided = decide(made.model_copy(update={"replicas": 0, **update}), found, START)
        assert {slot.state for slot in decided.slots} == {SlotState.RELEASING}


@pytest.mark.parametrize(
    ("asked", "vllm_args", "requests"),
    [(10, [], 10), (None, [], 179), (None, ["--max-num-seqs=16"], 11), (None, ["--max-num-seqs", "1"], 1)],
)
def test_a_replica_should_have_its_target_or_most_of_what_its_vllm_works_on(
    asked: int | None, vllm_args: list[str], requests: float
) -> None:
    assert concurrency_of(endpoint(target_concurrency=asked, launch={"vllm_args": vllm_args})) == requests


def test_why_there_are_so_many_should_be_told_where_no_person_decides() -> None:
    assert explained(endpoint(), {}, reported(), START) == "no request runs, waits or has come lately"
    assert explained(endpoint().model_copy(update={"scaling": None}), {}, reported(), START) == ""
