"""From when on an attempt costs money, and which attempts cost none."""

from datetime import timedelta

import pytest

from gpulaunch.models.instances import Phase, Reason
from shared.domain.costs import cost_so_far
from shared.domain.provider import NodeState
from shared.lifecycle.observations import LaunchRefused, ProviderUnavailable, Released
from tests.twins.clock import START
from tests.unit.lifecycle.story import (
    GONE,
    LIMITS,
    STILL_THERE,
    TAKEN,
    TICK,
    USER,
    Story,
    failure,
    looked,
    refused,
    submitted,
    submitting,
)

MINUTE = timedelta(minutes=1)
AWAY = ProviderUnavailable("no answer")
NEVER = Released(gone=True, never_launched=True)
REFUSALS = [Reason.NO_CAPACITY, Reason.QUOTA_EXCEEDED, Reason.PERMISSION_DENIED, Reason.IMAGE_UNAVAILABLE]


class TestFromWhen:
    def test_an_attempt_should_cost_from_its_submission(self) -> None:
        assert submitted().attempt.billed_from == START

    def test_the_creation_of_its_machine_should_correct_that(self) -> None:
        story = submitted().wait(90).tell(looked(NodeState.PENDING, created_at=START + MINUTE))
        assert story.attempt.billed_from == START + MINUTE

    def test_the_correction_may_come_with_the_release(self) -> None:
        story = submitted().wait(90).tell(USER, Released(gone=False, created_at=START + MINUTE), GONE)
        assert story.attempt.billed_from == START + MINUTE

    def test_a_corrected_time_should_not_move_again(self) -> None:
        story = submitted().wait(90).tell(looked(NodeState.PENDING, created_at=START + MINUTE)).wait(90)
        story.see(looked(NodeState.UP, created_at=START + 2 * MINUTE))
        assert story.attempt.billed_from == START + MINUTE

    def test_after_a_second_submission_the_creation_of_its_machine_should_not_hide_the_first(self) -> None:
        story = submitting().tell(AWAY).wait(LIMITS.submit_lease).tell(TICK, TAKEN)
        assert story.attempt.submitted_again
        story.tell(looked(NodeState.UP, created_at=story.now))
        assert story.attempt.billed_from == START

    @pytest.mark.parametrize(("said", "counted"), [(-5, 0), (600, 90)], ids=["too early", "in the future"])
    def test_a_clock_that_goes_wrong_should_not_move_it_out_of_the_attempt(self, said: int, counted: int) -> None:
        story = submitted().wait(90)
        story.see(looked(NodeState.PENDING, created_at=START + timedelta(seconds=said)))
        assert story.attempt.billed_from == START + timedelta(seconds=counted)


class TestNeverAMachine:
    def test_a_submission_that_is_refused_should_cost_nothing(self) -> None:
        assert submitting().wait(5).tell(refused(Reason.INVALID_TASK)).attempt.billed_from is None

    def test_a_second_submission_that_is_refused_should_cost_as_the_first_may_have_been_accepted(self) -> None:
        story = submitting().tell(AWAY).wait(LIMITS.submit_lease).tell(TICK).tell(refused(Reason.INVALID_TASK))
        assert story.attempt.billed_from == START

    @pytest.mark.parametrize("reason", REFUSALS)
    def test_a_launch_that_the_cloud_refused_should_cost_nothing(self, reason: Reason) -> None:
        story = submitted().wait(60).tell(looked(NodeState.ABSENT, failure=failure(reason)))
        assert story.attempt.billed_from is None

    @pytest.mark.parametrize("reason", sorted(set(Reason) - set(REFUSALS)))
    def test_a_launch_that_failed_otherwise_should_cost(self, reason: Reason) -> None:
        story = submitted().wait(60).tell(looked(NodeState.ABSENT, failure=failure(reason)))
        assert story.attempt.billed_from == START

    def test_a_second_launch_that_the_cloud_refused_should_cost_as_the_first_may_have_had_a_machine(self) -> None:
        story = submitting().tell(AWAY).wait(LIMITS.submit_lease).tell(TICK, TAKEN).wait(60)
        assert story.tell(looked(NodeState.ABSENT, failure=failure(Reason.NO_CAPACITY))).attempt.billed_from == START

    def test_a_refusal_should_not_be_believed_while_a_node_is_left(self) -> None:
        story = submitted().wait(60).tell(looked(NodeState.PENDING, failure=failure(Reason.NO_CAPACITY)))
        assert story.attempt.billed_from == START

    def test_a_refusal_should_not_be_believed_of_a_node_that_was_up(self) -> None:
        story = submitted().wait(60).tell(looked(NodeState.UP)).wait(60)
        assert story.tell(looked(NodeState.ABSENT, failure=failure(Reason.NO_CAPACITY))).attempt.billed_from == START

    def test_a_refusal_should_not_be_believed_where_the_cloud_has_the_machine(self) -> None:
        story = submitted().wait(60).tell(looked(NodeState.ABSENT, failure=failure(Reason.NO_CAPACITY)))
        story.tell(Released(gone=False, created_at=START + timedelta(seconds=30)))
        assert story.attempt.billed_from == START + timedelta(seconds=30)

    def test_what_nobody_ever_heard_of_should_cost_nothing(self) -> None:
        story = submitting().tell(AWAY).wait(LIMITS.submit_lease).tell(USER)
        assert story.tell(AWAY, NEVER).attempt.billed_from is None
        assert cost_so_far(story.record, story.now) == 0.0

    def test_what_a_release_during_the_submission_deleted_should_cost(self) -> None:
        story = submitting().wait(30).tell(USER, GONE).wait(70).tell(NEVER)
        assert story.attempt.billed_from == START

    def test_what_a_release_found_should_cost(self) -> None:
        story = submitting().tell(AWAY).wait(LIMITS.submit_lease).tell(USER, STILL_THERE)
        assert story.attempt.release_found
        assert story.tell(GONE).attempt.billed_from == START


class TestBudget:
    def hanging(self) -> Story:
        return submitted(budget_usd=0.10).wait(550).tell(looked(NodeState.PENDING))

    def test_a_launch_that_hangs_in_set_up_should_be_ended_by_its_budget(self) -> None:
        story = self.hanging().wait(15).tell(looked(NodeState.PENDING))
        assert (story.phase, story.ending) == (Phase.TERMINATING, Reason.BUDGET)  # 0.64 USD an hour for 565 s

    def test_it_should_go_on_while_its_budget_lasts(self) -> None:
        assert self.hanging().phase is Phase.PROVISIONING

    def test_failed_set_ups_should_add_up(self) -> None:
        hung = looked(NodeState.PENDING, failure=failure(Reason.SETUP_FAILED))
        story = submitted(budget_usd=0.10).wait(300).tell(hung, GONE, TAKEN).wait(300).tell(hung)
        assert (story.phase, story.ending) == (Phase.TERMINATING, Reason.BUDGET)

    def test_refused_offers_should_not_use_it_up(self) -> None:
        no_room = looked(NodeState.ABSENT, failure=failure(Reason.NO_CAPACITY))
        story = submitted(budget_usd=0.10).wait(300).tell(no_room, GONE, TAKEN).wait(300).tell(no_room, GONE)
        assert story.phase is Phase.PROVISIONING

    def test_a_refused_submission_should_not_use_it_up(self) -> None:
        story = submitting(budget_usd=0.10).wait(60).tell(LaunchRefused(failure(Reason.NO_CAPACITY)), GONE)
        assert cost_so_far(story.record, story.now) == 0.0
