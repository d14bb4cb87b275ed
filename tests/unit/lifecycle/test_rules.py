"""The rules that end an instance: what each ends, what it leaves alone, and when to look again."""

from datetime import timedelta
from typing import Any

import pytest

from gpulaunch.models.instances import Phase, Reason
from shared.domain.instance import AttemptState, Failure, Health, InstanceRecord
from shared.domain.model import ModelFacts
from shared.domain.request import StoredJobResult
from shared.lifecycle import rules as termination
from shared.lifecycle.rules import (
    budget_at,
    final_phase,
    idle_at,
    idle_for_so_long,
    next_deadline,
    no_successor,
    overdue,
    termination_reason,
)
from tests.twins.clock import START
from tests.twins.factories import make_attempt, make_offer, make_record, make_request

R1 = 650_000_000_000
"""Bytes of DeepSeek-R1."""
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)


def running(
    *, price: float = 1.0, health: Health | None = None, job: int | None = None, **request: Any
) -> InstanceRecord:
    """A ready instance whose node runs since the start of the clock."""
    attempt = make_attempt(
        offer=make_offer(price_per_hour=price),
        node_up_at=START,
        ready_at=START,
        job=None if job is None else StoredJobResult(exit_code=job),
    )
    return make_record(phase=Phase.READY, request=make_request(**request), attempts=[attempt], health=health)


def idle(since: timedelta = timedelta(0)) -> Health:
    return Health(since=START, idle_since=START + since)


class TestVerdict:
    def test_the_budget_should_end_it_when_it_is_used_up_and_not_before(self) -> None:
        record = running(budget_usd=2)
        assert termination_reason(record, START + 2 * HOUR - MINUTE) is None
        ended = termination_reason(record, START + 2 * HOUR)
        assert ended is not None
        assert (ended.reason, ended.message) == (Reason.BUDGET, "The instance spent its budget of 2.00 USD.")

    def test_the_idle_time_should_end_it_when_it_is_over_and_not_before(self) -> None:
        record = running(health=idle(MINUTE), idle_minutes=10)
        assert idle_for_so_long(record, START + 11 * MINUTE - timedelta(milliseconds=1)) is None
        assert termination_reason(record, START + 11 * MINUTE) is None
        ended = idle_for_so_long(record, START + 11 * MINUTE)
        assert ended is not None
        assert (ended.reason, ended.message) == (Reason.IDLE, "No running or waiting request for 10 minutes.")

    @pytest.mark.parametrize(
        "record",
        [
            running(health=idle()),
            running(health=None, idle_minutes=10),
            running(health=Health(since=START), idle_minutes=10),
            running(health=Health(since=START, state="unhealthy", idle_since=START), idle_minutes=10),
            running(health=idle(), idle_minutes=10).model_copy(update={"phase": Phase.RECOVERING}),
            running(health=idle(), idle_minutes=10).model_copy(
                update={"request": make_request(idle_minutes=10, job={"command": ["python", "batch.py"]})}
            ),
        ],
        ids=["no rule", "not probed", "busy", "does not answer", "not ready", "its job runs"],
    )
    def test_no_idle_time_should_run_where_nothing_is_known_or_wished(self, record: InstanceRecord) -> None:
        assert idle_at(record) is None
        assert idle_for_so_long(record, START + 2 * HOUR) is None

    @pytest.mark.parametrize("code", [0, 3, -15])
    def test_a_job_s_end_should_end_it_whatever_the_code(self, code: int) -> None:
        ended = termination_reason(running(job=code), START)
        assert ended is not None
        assert (ended.reason, ended.message) == (Reason.JOB_COMPLETED, f"The job exited with code {code}.")

    def test_the_job_should_come_first_then_the_deadline_then_the_budget_then_idling(self) -> None:
        late = START + 13 * HOUR
        everything: dict[str, Any] = {"health": idle(), "idle_minutes": 1, "budget_usd": 1}
        assert termination_reason(running(job=0, **everything), late) == termination_reason(running(job=0), late)
        assert termination_reason(running(**everything), late) == termination_reason(running(), late)
        assert termination_reason(running(**everything), START + 2 * HOUR) == termination_reason(
            running(budget_usd=1), START + 2 * HOUR
        )


EVICTED = Failure(reason=Reason.EVICTED, message="The machine was stopped.")


class TestNodesGivenUp:
    @pytest.mark.parametrize("phase", [Phase.READY, Phase.QUEUED, Phase.TERMINATING])
    def test_other_phases_should_have_no_such_limit(self, phase: Phase) -> None:
        assert overdue(make_record(phase=phase, attempts=[make_attempt()]), START + 9 * HOUR, {}) is None


def test_every_reason_that_ends_an_instance_should_be_in_the_module_s_table() -> None:
    text = termination.__doc__ or ""
    ending = [reason for reason in Reason if list(Reason).index(reason) >= list(Reason).index(Reason.USER_REQUEST)]
    own = {Reason.PROVIDER_UNAVAILABLE}  # a provider that is not enabled is no rule of this module
    assert [reason.value for reason in ending if reason not in own and f"`{reason.value}`" not in text] == []


class TestNextCheck:
    def test_it_should_be_the_deadline_where_there_is_no_other_rule(self) -> None:
        record = running(health=idle())
        assert next_deadline(record, START) == record.deadline_at

    def test_it_should_be_the_rule_that_comes_first(self) -> None:
        record = running(health=idle(), idle_minutes=30, budget_usd=2)
        assert next_deadline(record, START) == START + 2 * HOUR, "its idle time is for the probes"

    @pytest.mark.parametrize("minutes", [0, 30, 60, 119])
    def test_the_budget_s_end_should_not_depend_on_when_one_asks(self, minutes: int) -> None:
        moment = budget_at(running(budget_usd=2), START + minutes * MINUTE)
        assert moment is not None
        assert abs(moment - (START + 2 * HOUR)) < timedelta(milliseconds=1)

    def test_a_budget_that_is_used_up_should_be_due_now(self) -> None:
        assert budget_at(running(budget_usd=1), START + 5 * HOUR) == START + 5 * HOUR

    @pytest.mark.parametrize(
        "record",
        [
            running(),
            running(price=0, budget_usd=1),
            make_record(request=make_request(budget_usd=1)),
            make_record(request=make_request(budget_usd=1), attempts=[make_attempt(billed_from=None)]),
            make_record(request=make_request(budget_usd=1), attempts=[make_attempt(node_up_at=START, gone_at=START)]),
        ],
        ids=["no budget", "free", "no attempt", "no machine", "gone"],
    )
    def test_no_budget_should_run_out_while_nothing_runs(self, record: InstanceRecord) -> None:
        assert budget_at(record, START + HOUR) is None


AS_MEANT = {Reason.USER_REQUEST, Reason.JOB_COMPLETED, Reason.IDLE, Reason.DEADLINE, Reason.BUDGET}


class TestFinalPhase:
    @pytest.mark.parametrize("reason", list(Reason))
    def test_an_instance_that_was_ready_should_fail_unless_it_ends_as_meant(self, reason: Reason) -> None:
        expected = Phase.TERMINATED if reason in AS_MEANT else Phase.FAILED
        assert final_phase(running(), reason) is expected

    @pytest.mark.parametrize("reason", list(Reason))
    def test_an_instance_that_was_never_ready_should_not_have_used_its_time_as_meant(self, reason: Reason) -> None:
        expected = Phase.TERMINATED if reason in AS_MEANT - {Reason.DEADLINE, Reason.BUDGET} else Phase.FAILED
        assert final_phase(make_record(attempts=[make_attempt()]), reason) is expected


LIMITS = {Phase.LOADING_MODEL: 5400.0, Phase.STARTING_SERVER: 1800.0, Phase.INSTALLING: 1800.0}


def starting(phase: Phase, total: int | None, found: int | None = None) -> InstanceRecord:
    model = None if found is None else ModelFacts(source="hf://o/m", total_bytes=found, weight_bytes=found)
    return make_record(phase=phase, attempts=[make_attempt(total_bytes=total)], model=model)


@pytest.mark.parametrize(
    ("phase", "total", "found", "minutes"),
    [
        (Phase.LOADING_MODEL, R1, None, 120),
        (Phase.LOADING_MODEL, None, R1, 120),
        (Phase.STARTING_SERVER, None, R1, 60),
        (Phase.LOADING_MODEL, 16 * 10**9, None, 89),
    ],
)
def test_a_large_model_should_have_the_time_that_its_size_takes(
    phase: Phase, total: int | None, found: int | None, minutes: int
) -> None:
    assert overdue(starting(phase, total, found), START + minutes * MINUTE, LIMITS) is None


@pytest.mark.parametrize(
    ("phase", "total", "found", "minutes"),
    [
        (Phase.LOADING_MODEL, 16 * 10**9, None, 90),
        (Phase.LOADING_MODEL, R1, 16 * 10**9, 90),
        (Phase.LOADING_MODEL, None, None, 90),
        (Phase.LOADING_MODEL, R1, None, 6 * 61),
        (Phase.LOADING_MODEL, 2**53, None, 20 * 60),
        (Phase.INSTALLING, R1, R1, 30),
    ],
)
def test_a_phase_should_not_take_for_ever_whatever_the_node_says_of_its_size(
    phase: Phase, total: int | None, found: int | None, minutes: int
) -> None:
    assert overdue(starting(phase, total, found), START + minutes * MINUTE, LIMITS) is not None


def test_the_end_of_all_offers_should_name_the_latest_failure() -> None:
    attempts = [
        make_attempt(
            number=number,
            state=AttemptState.GONE,
            gone_at=START,
            failure=Failure(reason=Reason.NO_CAPACITY, message=text),
        )
        for number, text in ((1, "no room in eastus"), (2, "no room in westus"))
    ]
    record = make_record(attempts=attempts, tried_in_round=2)
    found = no_successor(record, 9)
    assert found is not None
    assert found.message == "All 2 planned offers failed. The last one failed: no room in westus"
