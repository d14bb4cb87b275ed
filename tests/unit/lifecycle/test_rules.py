"""The rules that end an instance: what each ends, what it leaves alone, and when to look again."""

from datetime import timedelta
from typing import Any

import pytest

from gpulaunch.models.instances import Phase, Reason
from shared.domain.instance import Failure, Health, InstanceRecord
from shared.domain.request import StoredJobResult
from shared.lifecycle import rules as termination
from shared.lifecycle.rules import (
    budget_at,
    final_phase,
    idle_at,
    lost_too_often,
    next_deadline,
    no_successor,
    overdue,
    termination_reason,
    unhealthy,
    user_asked,
)
from tests.twins.clock import START
from tests.twins.factories import make_attempt, make_offer, make_record, make_request

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
    def test_an_instance_without_rules_should_go_on(self) -> None:
        assert termination_reason(running(health=idle()), START + 11 * HOUR) is None

    @pytest.mark.parametrize("phase", [phase for phase in Phase if not phase.ended])
    def test_the_deadline_should_end_it_in_any_phase(self, phase: Phase) -> None:
        record = make_record(phase=phase)
        assert termination_reason(record, record.deadline_at - timedelta(milliseconds=1)) is None
        ended = termination_reason(record, record.deadline_at)
        assert ended is not None
        assert ended.reason is Reason.DEADLINE

    def test_the_budget_should_end_it_when_it_is_used_up_and_not_before(self) -> None:
        record = running(budget_usd=2)
        assert termination_reason(record, START + 2 * HOUR - MINUTE) is None
        ended = termination_reason(record, START + 2 * HOUR)
        assert ended is not None
        assert (ended.reason, ended.message) == (Reason.BUDGET, "The instance spent its budget of 2.00 USD.")

    def test_no_budget_should_be_used_up_by_a_machine_of_one_s_own(self) -> None:
        assert termination_reason(running(price=0, budget_usd=0.01), START + 11 * HOUR) is None

    def test_the_idle_time_should_end_it_when_it_is_over_and_not_before(self) -> None:
        record = running(health=idle(MINUTE), idle_minutes=10)
        assert termination_reason(record, START + 11 * MINUTE - timedelta(milliseconds=1)) is None
        ended = termination_reason(record, START + 11 * MINUTE)
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
        ],
        ids=["no rule", "not probed", "busy", "does not answer", "not ready"],
    )
    def test_no_idle_time_should_run_where_nothing_is_known_or_wished(self, record: InstanceRecord) -> None:
        assert idle_at(record) is None
        assert termination_reason(record, START + 2 * HOUR) is None

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

    def test_the_job_of_an_earlier_attempt_should_not_matter(self) -> None:
        record = running(job=0)
        record = record.model_copy(update={"attempts": [*record.attempts, make_attempt(number=2)]})
        assert termination_reason(record, START) is None


EVICTED = Failure(reason=Reason.EVICTED, message="The machine was stopped.")


class TestNodesGivenUp:
    @pytest.mark.parametrize(("failures", "ends"), [(1, False), (2, False), (3, True), (4, True)])
    def test_health_that_failed_for_too_long_should_end_it_and_a_hiccup_not(self, failures: int, ends: bool) -> None:
        failure = unhealthy(failures, 3, "no answer")
        assert (failure is not None) is ends
        if failure is not None:
            assert failure.reason is Reason.UNHEALTHY
            assert failure.message == f"The endpoint failed {failures} probes in a row: no answer"

    @pytest.mark.parametrize(
        ("phase", "reason"),
        [
            (Phase.PROVISIONING, Reason.PROVISIONING_TIMEOUT),
            (Phase.INSTALLING, Reason.INSTALL_TIMEOUT),
            (Phase.LOADING_MODEL, Reason.MODEL_TIMEOUT),
            (Phase.STARTING_SERVER, Reason.SERVER_TIMEOUT),
            (Phase.REGISTERING, Reason.REGISTRATION_TIMEOUT),
        ],
    )
    def test_a_phase_that_takes_too_long_should_end_the_attempt_and_not_before(
        self, phase: Phase, reason: Reason
    ) -> None:
        record = make_record(phase=phase, phase_since=START, attempts=[make_attempt()])
        allowed = {phase: 300.0}
        assert overdue(record, START + 5 * MINUTE - timedelta(milliseconds=1), allowed) is None
        late = overdue(record, START + 5 * MINUTE, allowed)
        assert late is not None
        assert (late.reason, late.message) == (reason, f"{phase.value} took more than 5 minutes.")

    def test_the_time_of_an_earlier_attempt_should_not_count(self) -> None:
        attempts = [make_attempt(), make_attempt(number=2, started_at=START + 4 * MINUTE)]
        record = make_record(phase=Phase.PROVISIONING, phase_since=START, attempts=attempts)
        assert overdue(record, START + 5 * MINUTE, {Phase.PROVISIONING: 300.0}) is None
        assert overdue(record, START + 9 * MINUTE, {Phase.PROVISIONING: 300.0}) is not None

    @pytest.mark.parametrize("phase", [Phase.READY, Phase.QUEUED, Phase.TERMINATING])
    def test_other_phases_should_have_no_such_limit(self, phase: Phase) -> None:
        assert overdue(make_record(phase=phase, attempts=[make_attempt()]), START + 9 * HOUR, {}) is None


class TestSuccessors:
    def evicted(self, tried: int, attempts: int = 1) -> InstanceRecord:
        made = [make_attempt(number=number, failure=EVICTED) for number in range(1, attempts + 1)]
        return make_record(attempts=made, tried_in_round=tried)

    def test_an_eviction_without_a_successor_should_end_it(self) -> None:
        ended = no_successor(self.evicted(tried=2), 12)
        assert ended is not None
        assert ended.reason is Reason.NO_OFFERS_LEFT
        assert ended.message == ("All 2 planned offers failed. The last one failed: The machine was stopped.")

    def test_an_eviction_with_a_successor_should_leave_it_alone(self) -> None:
        assert no_successor(self.evicted(tried=1), 12) is None
        assert no_successor(make_record(), 12) is None

    def test_as_many_attempts_as_allowed_should_end_it_and_one_fewer_not(self) -> None:
        assert no_successor(self.evicted(tried=0, attempts=11), 12) is None
        ended = no_successor(self.evicted(tried=0, attempts=12), 12)
        assert ended is not None
        assert ended.reason is Reason.TOO_MANY_ATTEMPTS

    def test_a_node_lost_too_often_should_end_it_and_once_fewer_not(self) -> None:
        assert lost_too_often(make_record(recoveries=4), 5, EVICTED) is None
        ended = lost_too_often(make_record(recoveries=5), 5, EVICTED)
        assert ended is not None
        assert (ended.reason, ended.message) == (
            Reason.TOO_MANY_RECOVERIES,
            "The node was lost 6 times. The last time: The machine was stopped.",
        )


def test_a_user_s_wish_should_have_its_own_reason() -> None:
    assert user_asked().reason is Reason.USER_REQUEST


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
        assert next_deadline(record, START) == START + 30 * MINUTE
        assert next_deadline(record.model_copy(update={"health": None}), START) == START + 2 * HOUR

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
            make_record(request=make_request(budget_usd=1), attempts=[make_attempt()]),
            make_record(request=make_request(budget_usd=1), attempts=[make_attempt(node_up_at=START, gone_at=START)]),
        ],
        ids=["no budget", "free", "no attempt", "no node yet", "gone"],
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

    @pytest.mark.parametrize("reason", [Reason.DEADLINE, Reason.BUDGET])
    def test_an_earlier_attempt_that_was_ready_should_count(self, reason: Reason) -> None:
        record = make_record(attempts=[make_attempt(ready_at=START), make_attempt(number=2)])
        assert final_phase(record, reason) is Phase.TERMINATED
