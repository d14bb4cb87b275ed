"""Deadline, budget, idle time and job end, against everything that comes in at the same moment."""

from collections.abc import Callable

import pytest

from gpulaunch.models.instances import EventType, Phase, Reason
from shared.domain.instance import AttemptState
from shared.domain.node import JobResult, NodeNotice, NodePhase, NodeStatus
from shared.domain.provider import NodeState, NodeView, Probe
from shared.domain.request import StoredJobResult
from shared.lifecycle.observations import (
    Decide,
    Noticed,
    Observation,
    Observed,
    ProviderUnavailable,
    Released,
    Reported,
)
from shared.lifecycle.transition import NextStep
from tests.unit.lifecycle.story import (
    DEAD,
    GONE,
    IDLE,
    LIVE,
    ON_NODE,
    TICK,
    Story,
    completed,
    in_phase,
    looked,
    node_in,
    noticed,
    probed,
    ready,
    recovering,
    registered,
    releasing,
    reported,
    submitting,
)

HOUR = 3600.0
ENDED_BY_STEP = [phase for phase in LIVE if phase not in (Phase.RECOVERING, Phase.TERMINATING)]


class TestDeadline:
    @pytest.mark.parametrize("phase", ENDED_BY_STEP)
    def test_it_should_end_every_live_instance(self, phase: Phase) -> None:
        story = in_phase(phase, lifetime=60).wait(HOUR)
        assert story.act() == Decide()
        story.tell(TICK)
        assert story.ending is Reason.DEADLINE
        assert story.phase is (Phase.TERMINATING if story.record.attempts else Phase.FAILED)

    @pytest.mark.parametrize("phase", ENDED_BY_STEP)
    def test_it_should_not_end_one_a_moment_before(self, phase: Phase) -> None:
        story = in_phase(phase, lifetime=60).wait(HOUR - 0.001)
        story.see(TICK)
        assert story.ending is None

    @pytest.mark.parametrize("found", [Released(gone=False), ProviderUnavailable("no answer")])
    def test_it_should_end_one_whose_failed_node_is_still_being_deleted(self, found: Observation) -> None:
        story = releasing(lifetime=60).wait(HOUR - 1).tell(found)
        assert (story.phase, story.ending) == (Phase.PROVISIONING, None)
        story.wait(1).tell(found)
        assert (story.phase, story.ending) == (Phase.TERMINATING, Reason.DEADLINE)
        assert story.attempt.state is AttemptState.RELEASING
        assert story.tell(GONE).phase is Phase.FAILED

    @pytest.mark.parametrize("phase", [Phase.PROVISIONING, *ON_NODE])
    def test_an_instance_that_was_never_ready_should_have_failed(self, phase: Phase) -> None:
        assert in_phase(phase, lifetime=60).wait(HOUR).tell(TICK, GONE).phase is Phase.FAILED

    def test_an_instance_that_was_ready_should_be_terminated(self) -> None:
        assert ready(lifetime=60).wait(HOUR).tell(TICK, GONE).phase is Phase.TERMINATED

    def test_an_instance_that_was_ready_once_should_be_terminated_though_it_was_provisioning_again(self) -> None:
        story = recovering(lifetime=60).tell(GONE)
        assert story.phase is Phase.PROVISIONING
        story.wait(HOUR).tell(TICK, GONE)
        assert story.phase is Phase.TERMINATED

    @pytest.mark.parametrize("make", [recovering, releasing])
    def test_no_attempt_should_begin_after_it(self, make: Callable[..., Story]) -> None:
        story = make(lifetime=60).wait(HOUR).tell(GONE)
        assert (story.ending, len(story.record.attempts)) == (Reason.DEADLINE, 1)
        assert story.phase.ended

    @pytest.mark.parametrize("make", [recovering, releasing])
    def test_an_attempt_should_begin_before_it(self, make: Callable[..., Story]) -> None:
        story = make(lifetime=60).wait(HOUR - 1).tell(GONE)
        assert (story.ending, len(story.record.attempts)) == (None, 2)

    @pytest.mark.parametrize(
        "found",
        [
            noticed(NodeNotice.DEADLINE),
            Reported(1, NodeStatus(phase=NodePhase.STOPPING, notice=NodeNotice.DEADLINE)),
            registered(),
            probed(DEAD, NodeState.ABSENT),
        ],
    )
    def test_a_node_that_ends_itself_then_should_not_be_called_lost(self, found: Observation) -> None:
        story = ready(lifetime=60).wait(HOUR).tell(found)
        assert (story.ending, story.record.recoveries, story.reasons) == (Reason.DEADLINE, 0, [])

    def test_a_node_that_goes_away_before_it_should_be_called_lost(self) -> None:
        story = ready(lifetime=60).wait(HOUR - 60).tell(noticed(NodeNotice.DEADLINE))
        assert (story.phase, story.reasons) == (Phase.RECOVERING, [Reason.NODE_LOST])

    def test_another_attempt_s_word_should_not_matter_even_then(self) -> None:
        assert not ready(lifetime=60).wait(HOUR).decide(noticed(attempt=2)).changed


class TestBudget:
    def test_it_should_end_a_ready_instance_as_meant(self) -> None:
        story = ready(budget_usd=0.64).wait(HOUR).tell(TICK)
        assert (story.ending, story.record.ends_as) == (Reason.BUDGET, "terminated")

    def test_it_should_end_a_node_on_its_way_up_as_failed(self) -> None:
        story = node_in(Phase.INSTALLING, budget_usd=0.16).wait(HOUR / 4).tell(TICK)
        assert (story.ending, story.record.ends_as) == (Reason.BUDGET, "failed")

    def test_it_should_not_end_one_that_has_not_used_it_up(self) -> None:
        story = ready(budget_usd=0.64).wait(HOUR - 1)
        story.see(TICK)
        assert story.phase is Phase.READY

    def test_earlier_attempts_should_count(self) -> None:
        story = ready(budget_usd=1.0).wait(HOUR).tell(noticed(), GONE)
        story.tell(registered(2), looked(NodeState.UP, NodePhase.SERVING, probe=IDLE))
        assert story.phase is Phase.READY
        # The second node costs 0.70 USD an hour, 0.36 are left.
        story.wait(0.36 / 0.7 * HOUR - 1)
        story.see(TICK)
        assert story.phase is Phase.READY
        assert story.wait(1.5).tell(TICK).ending is Reason.BUDGET

    def test_no_attempt_should_begin_when_it_is_used_up(self) -> None:
        story = ready(budget_usd=0.64).wait(HOUR - 1).tell(noticed()).wait(2).tell(GONE)
        assert (story.ending, len(story.record.attempts), story.phase) == (Reason.BUDGET, 1, Phase.TERMINATED)


class TestIdle:
    def test_it_should_end_a_node_that_was_idle_for_so_long(self) -> None:
        story = ready(idle_minutes=10).wait(600).tell(probed(IDLE))
        assert (story.ending, story.record.ends_as) == (Reason.IDLE, "terminated")

    def test_it_should_not_end_one_a_moment_before(self) -> None:
        assert not ready(idle_minutes=10).wait(599.9).decide(probed(IDLE)).changed

    @pytest.mark.parametrize("found", [TICK, reported(NodePhase.SERVING), probed(Probe(alive=False))])
    def test_nothing_but_a_fresh_probe_should_end_it(self, found: Observation) -> None:
        story = ready(idle_minutes=10).wait(2 * HOUR)
        story.see(found)
        assert story.phase is Phase.READY

    def test_it_should_not_end_one_without_the_rule(self) -> None:
        story = ready()
        story.wait(11 * HOUR).see(TICK)
        assert story.phase is Phase.READY

    def test_a_good_probe_should_be_heard_before_the_rule(self) -> None:
        busy = Probe(alive=True, running_requests=1, waiting_requests=0, finished_requests=4)
        story = ready(idle_minutes=10).wait(600).tell(probed(busy))
        story.see(TICK)
        assert story.phase is Phase.READY


class TestJob:
    @pytest.mark.parametrize("code", [0, 1, -9, 124])
    def test_its_end_should_end_a_ready_instance_as_meant(self, code: int) -> None:
        story = ready()
        decision = story.see(completed(code))
        assert (story.ending, story.record.ends_as) == (Reason.JOB_COMPLETED, "terminated")
        assert decision.next_step == NextStep("teardown", 0.0)
        assert story.record.ending is not None
        assert story.record.ending.message == f"The job exited with code {code}."
        assert story.attempt.job == StoredJobResult(exit_code=code)

    @pytest.mark.parametrize("phase", ON_NODE)
    def test_its_end_should_end_an_instance_that_we_did_not_see_ready(self, phase: Phase) -> None:
        assert node_in(phase).tell(completed(), GONE).phase is Phase.TERMINATED

    @pytest.mark.parametrize("phase", ON_NODE)
    def test_its_end_should_be_taken_from_a_node_that_was_asked(self, phase: Phase) -> None:
        said = NodeStatus(phase=NodePhase.SERVING, job=JobResult(exit_code=0))
        story = node_in(phase)
        story.tell(Observed(NodeView(state=NodeState.UP), said, IDLE), GONE)
        assert (story.phase, story.ending) == (Phase.TERMINATED, Reason.JOB_COMPLETED)

    @pytest.mark.parametrize("phase", [*ON_NODE, Phase.READY])
    @pytest.mark.parametrize(
        "said",
        [
            {"phase": NodePhase.STOPPING},
            {"phase": NodePhase.SERVING, "notice": NodeNotice.EVICTION},
            {"phase": NodePhase.FAILED, "failure": "server_failed"},
        ],
    )
    def test_a_job_that_ended_should_not_be_run_again_because_its_node_goes_away(
        self, phase: Phase, said: dict[str, object]
    ) -> None:
        status = NodeStatus.model_validate({**said, "job": JobResult(exit_code=0)})
        story = in_phase(phase).tell(Reported(1, status))
        assert (story.ending, story.record.recoveries) == (Reason.JOB_COMPLETED, 0)

    def test_an_earlier_attempt_s_job_should_not_end_its_successor(self) -> None:
        story = recovering().tell(GONE)
        assert not story.decide(completed(attempt=1)).changed

    def test_a_node_without_a_job_s_end_should_go_on(self) -> None:
        story = ready()
        story.see(reported(NodePhase.SERVING))
        assert story.phase is Phase.READY


def test_the_rules_should_not_disturb_a_teardown() -> None:
    story = ready(lifetime=60, budget_usd=0.5, idle_minutes=5).wait(HOUR).tell(TICK)
    for found in (TICK, completed(), Noticed(1, NodeNotice.DEADLINE, None), probed(IDLE)):
        assert not story.decide(found).changed
    assert len(story.of(EventType.TERMINATION)) == 1


def test_a_claimed_attempt_should_not_be_submitted_after_the_deadline() -> None:
    story = submitting(lifetime=1).wait(60)
    assert story.act(claimed=True) == Decide()
    story.tell(TICK)
    assert (story.phase, story.attempt.state) == (Phase.TERMINATING, AttemptState.RELEASING)
