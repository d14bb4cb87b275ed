"""Taking nodes away: repeated until nothing is left, never called gone too early, and loud when it takes too long."""

from collections.abc import Callable
from datetime import timedelta

import pytest

from gpulaunch.models.instances import EventType, Phase, Reason
from shared.domain.instance import AttemptState
from shared.domain.node import NodePhase
from shared.domain.provider import NodeState
from shared.lifecycle.observations import (
    Observation,
    Poisoned,
    ProviderUnavailable,
    Release,
    Released,
    StillReleasing,
    Submitted,
    TerminationRequested,
)
from shared.lifecycle.termination import is_alert_due, release_delay
from shared.lifecycle.transition import NextStep
from tests.unit.lifecycle.story import (
    GONE,
    IDLE,
    LIMITS,
    LIVE,
    STILL_THERE,
    TAKEN,
    TICK,
    USER,
    Story,
    completed,
    failure,
    in_phase,
    looked,
    noticed,
    probed,
    ready,
    recovering,
    refused,
    registered,
    releasing,
    reported,
    submitted,
    submitting,
    terminated,
    terminating,
    validating,
)

SILENT = ProviderUnavailable("The SkyPilot server does not answer.")
POISONED, AGAIN, ONCE_MORE = (Poisoned(1, f"message-{number}") for number in range(3))
"""Messages of one step, one after the other."""


class TestBeginning:
    @pytest.mark.parametrize("phase", [Phase.PROVISIONING, *list(Phase)[3:8], Phase.RECOVERING])
    def test_a_user_should_be_able_to_end_an_instance_with_a_node_in_any_phase(self, phase: Phase) -> None:
        story = in_phase(phase)
        epoch = story.record.epoch
        decision = story.see(USER)
        assert (story.phase, story.ending, story.record.ends_as) == (
            Phase.TERMINATING,
            Reason.USER_REQUEST,
            "terminated",
        )
        assert story.attempt.state is AttemptState.RELEASING
        assert story.record.epoch == epoch + 1
        assert decision.next_step == NextStep("teardown", 0.0)
        assert story.act() == Release()

    @pytest.mark.parametrize("make", [Story, validating])
    def test_an_instance_without_a_node_should_end_at_once(self, make: Callable[[], Story]) -> None:
        story = make()
        decision = story.see(USER)
        assert (story.phase, story.record.ended_at, story.record.due_at) == (Phase.TERMINATED, story.now, None)
        assert decision.next_step is None
        assert [event.message for event in decision.events[1:]] == [
            "There is no node to delete.",
            "Terminated by a user.",
        ]

    @pytest.mark.parametrize("make", [terminating, terminated])
    def test_asking_again_should_change_nothing(self, make: Callable[[], Story]) -> None:
        story = make()
        decision = story.decide(USER)
        assert (decision.changed, decision.events) == (False, ())
        assert decision.record is story.record

    def test_the_first_reason_should_stay(self) -> None:
        story = terminating()
        story.see(TerminationRequested(failure(Reason.POISON_MESSAGE)))
        assert (story.ending, story.record.ends_as) == (Reason.USER_REQUEST, "terminated")

    @pytest.mark.parametrize(
        ("reason", "phase"),
        [(Reason.USER_REQUEST, Phase.TERMINATED), (Reason.POISON_MESSAGE, Phase.FAILED)],
    )
    def test_the_reason_should_decide_how_it_ends(self, reason: Reason, phase: Phase) -> None:
        story = submitted().tell(TerminationRequested(failure(reason)), GONE)
        assert story.phase is phase
        assert [event.reason for event in story.of(EventType.TERMINATION)] == [reason]

    def test_the_third_message_given_up_in_one_step_should_end_it_as_failed(self) -> None:
        story = submitted().wait(60)
        assert story.record.due_at is not None
        assert [story.see(one).next_step for one in (POISONED, AGAIN)] == [None, None]
        assert story.record.due_at <= story.now, "the sweep sends it again"
        assert (story.tell(ONCE_MORE).ending, story.tell(GONE).phase) == (Reason.POISON_MESSAGE, Phase.FAILED)

    def test_a_step_that_was_done_in_between_should_be_a_new_start(self) -> None:
        story = submitted().wait(60).tell(POISONED, AGAIN, looked(NodeState.PENDING)).wait(60)
        assert story.tell(POISONED, AGAIN).phase is Phase.PROVISIONING
        assert story.tell(ONCE_MORE).phase is Phase.TERMINATING

    def test_a_message_that_storage_did_not_delete_should_count_once(self) -> None:
        story = submitted().wait(60).tell(POISONED)
        for _ in range(5):
            assert not story.decide(POISONED).changed
        story.tell(AGAIN)
        assert [story.decide(one).changed for one in (POISONED, AGAIN)] == [False, False]
        assert story.tell(ONCE_MORE).ending is Reason.POISON_MESSAGE

    @pytest.mark.parametrize(("epoch", "wait"), [(1, 0.0), (0, 60.0)])
    def test_a_message_given_up_of_a_step_that_is_over_should_not(self, epoch: int, wait: float) -> None:
        story = submitted().tell(looked(NodeState.PENDING)).wait(wait)
        assert not story.decide(Poisoned(epoch, "message-0")).changed

    def test_what_ends_should_never_be_given_up(self) -> None:
        assert not terminating().wait(600).decide(Poisoned(99, "message-0")).changed

    @pytest.mark.parametrize(("early", "counts"), [(0.001, False), (0.0, True)])
    def test_a_step_should_count_as_given_up_from_the_moment_at_which_it_was_due(
        self, early: float, *, counts: bool
    ) -> None:
        story = submitted().tell(looked(NodeState.PENDING))
        assert story.record.due_at is not None
        story.wait((story.record.due_at - story.now).total_seconds() - early)
        assert story.decide(POISONED).changed is counts

    def test_a_release_under_way_should_tell_when_it_is_late(self) -> None:
        story = releasing().wait(LIMITS.release_alert).tell(POISONED)
        assert len(story.of(EventType.ALERT)) == 1

    def test_a_release_under_way_should_be_taken_over_with_its_tries(self) -> None:
        story = releasing().tell(STILL_THERE, STILL_THERE)
        since = story.attempt.release_since
        story.wait(3).tell(USER)
        assert (story.attempt.release_since, story.attempt.release_tries) == (since, 2)
        assert story.attempt.failure is not None
        assert story.attempt.failure.reason is Reason.NO_CAPACITY


class TestRepeating:
    def test_the_delay_should_double_up_to_its_limit(self) -> None:
        assert [release_delay(tries, LIMITS) for tries in (1, 2, 3, 4, 5, 6, 100, 10_000)] == [2, 4, 8, 16] + [30] * 4

    @pytest.mark.parametrize("answer", [STILL_THERE, SILENT])
    def test_it_should_be_asked_again_until_the_provider_says_gone(self, answer: Observation) -> None:
        story = terminating()
        delays: list[float] = []
        for _ in range(7):
            decision = story.see(answer)
            assert decision.next_step is not None
            assert decision.next_step.step == "teardown"
            delays.append(decision.next_step.delay_seconds)
            story.wait(decision.next_step.delay_seconds)
            assert story.act() == Release()
        assert delays == [2, 4, 8, 16, 30, 30, 30]
        assert (story.phase, story.attempt.state) == (Phase.TERMINATING, AttemptState.RELEASING)
        assert story.tell(GONE).phase is Phase.TERMINATED

    def test_it_should_never_be_given_up(self) -> None:
        story = terminating(lifetime=60)
        for _ in range(500):
            story.wait(3600).tell(SILENT)
        assert (story.phase, story.attempt.gone_at) == (Phase.TERMINATING, None)
        assert story.record.due_at == story.now + timedelta(seconds=LIMITS.release_poll_max)

    @pytest.mark.parametrize("make", [releasing, recovering])
    def test_before_another_attempt_it_should_stay_among_the_launches(self, make: Callable[[], Story]) -> None:
        story = make()
        assert story.act() == Release()
        assert story.see(STILL_THERE).next_step == NextStep("advance", 2.0)
        assert len(story.record.attempts) == 1

    def test_gone_should_be_written_with_its_time(self) -> None:
        story = terminating().wait(12)
        decision = story.see(GONE)
        assert (story.attempt.state, story.attempt.gone_at, story.attempt.node_phase) == (
            AttemptState.GONE,
            story.now,
            None,
        )
        assert [event.type for event in decision.events] == [EventType.ATTEMPT_GONE, EventType.PHASE]
        assert decision.events[1].duration_seconds == 12.0
        assert (story.record.ended_at, story.record.due_at, decision.next_step) == (story.now, None, None)


class TestAlert:
    def test_it_should_be_raised_exactly_once_after_ten_minutes(self) -> None:
        story = terminating()
        raised: list[float] = []
        for second in range(0, 3600, 30):
            decision = story.see(STILL_THERE)
            raised += [float(second) for event in decision.events if event.type is EventType.ALERT]
            story.wait(30)
        assert raised == [600.0]

    def test_it_should_say_how_long_the_release_has_taken(self) -> None:
        (alert,) = terminating().wait(5 * 3600).tell(STILL_THERE).of(EventType.ALERT)
        assert "after 300 minutes" in alert.message

    @pytest.mark.parametrize("make", [submitted, ready, terminated])
    def test_it_should_not_be_due_where_nothing_is_being_released(self, make: Callable[[], Story]) -> None:
        story = make()
        assert not is_alert_due(story.attempt, story.now + timedelta(days=1), LIMITS)

    def test_it_should_not_be_raised_a_moment_before(self) -> None:
        story = terminating().wait(LIMITS.release_alert - 0.001).tell(STILL_THERE)
        assert story.of(EventType.ALERT) == []

    def test_it_should_name_what_may_be_billing_and_the_last_answer(self) -> None:
        (alert,) = terminating().wait(LIMITS.release_alert).tell(SILENT).of(EventType.ALERT)
        assert "is not confirmed deleted after 10 minutes and 1 tries and may still cost money" in alert.message
        assert alert.message.endswith("The SkyPilot server does not answer.")
        assert alert.data == {"alert": "release", "cluster_name": terminating().attempt.cluster_name, "tries": 1}

    def test_it_should_be_raised_when_nobody_looked_for_an_hour(self) -> None:
        story = terminating().wait(3600).tell(STILL_THERE).wait(30).tell(STILL_THERE)
        assert len(story.of(EventType.ALERT)) == 1

    def test_it_should_be_raised_for_a_failed_attempt_too(self) -> None:
        assert len(releasing().wait(LIMITS.release_alert).tell(STILL_THERE).of(EventType.ALERT)) == 1

    @pytest.mark.parametrize("asked_at", [580.0, 599.0, 600.0, 605.0, 640.0])
    def test_it_should_be_raised_once_though_a_user_asks_for_the_end_meanwhile(self, asked_at: float) -> None:
        story = releasing().wait(570).tell(STILL_THERE).wait(asked_at - 570).tell(USER, STILL_THERE)
        story.wait(60).tell(STILL_THERE).wait(60).tell(STILL_THERE)
        assert len(story.of(EventType.ALERT)) == 1

    def test_it_should_be_repeated_after_some_hours_and_not_before(self) -> None:
        story = terminating().wait(700).tell(STILL_THERE).wait(LIMITS.release_alert_again - 1).tell(STILL_THERE)
        assert len(story.of(EventType.ALERT)) == 1
        story.wait(1).tell(STILL_THERE)
        assert len(story.of(EventType.ALERT)) == 2
        assert story.attempt.alert_event == story.of(EventType.ALERT)[-1].sequence

    def test_it_should_be_raised_by_the_sweep_where_no_step_comes_to_a_decision(self) -> None:
        story = terminating().wait(LIMITS.release_alert - 1)
        assert not story.decide(StillReleasing()).changed
        due = story.record.due_at
        story.wait(1).tell(StillReleasing())
        assert len(story.of(EventType.ALERT)) == 1
        assert (story.record.due_at, story.phase) == (due, Phase.TERMINATING)
        assert not story.decide(StillReleasing()).changed

    @pytest.mark.parametrize("phase", [phase for phase in LIVE if phase not in (Phase.RECOVERING, Phase.TERMINATING)])
    def test_the_sweep_should_change_nothing_where_nothing_is_released(self, phase: Phase) -> None:
        assert not in_phase(phase).wait(700).decide(StillReleasing()).changed

    def test_it_should_not_be_raised_by_a_user_who_asks_early(self) -> None:
        assert releasing().wait(599).tell(USER).of(EventType.ALERT) == []

    def test_a_second_attempt_s_teardown_should_have_its_own(self) -> None:
        story = releasing().wait(600).tell(STILL_THERE, GONE)
        story.tell(TAKEN, looked(NodeState.PENDING, failure=failure(Reason.NO_CAPACITY)))
        story.wait(600).tell(STILL_THERE)
        assert [event.attempt for event in story.of(EventType.ALERT)] == [1, 2]


class TestMidSubmission:
    def test_absence_should_prove_nothing_before_the_lease_ended(self) -> None:
        story = submitting().wait(10).tell(USER)
        decision = story.see(GONE)
        assert (story.phase, story.attempt.state) == (Phase.TERMINATING, AttemptState.RELEASING)
        assert decision.next_step == NextStep("teardown", LIMITS.submit_lease - 10)
        assert story.wait(LIMITS.submit_lease - 10).act() == Release()
        assert story.tell(GONE).phase is Phase.TERMINATED

    def test_a_moment_before_the_lease_ends_should_still_be_too_early(self) -> None:
        story = submitting().tell(USER).wait(LIMITS.submit_lease - 0.001).tell(GONE)
        assert story.phase is Phase.TERMINATING

    def test_absence_that_was_asked_for_before_the_lease_ended_should_be_asked_for_again(self) -> None:
        story = submitting().tell(USER).wait(LIMITS.submit_lease - 0.5)
        asked = Released(gone=True, asked_at=story.now)
        decision = story.wait(20).see(asked)
        assert (story.phase, decision.next_step) == (Phase.TERMINATING, NextStep("teardown", 0.0))
        assert story.see(Released(gone=True, asked_at=story.now)).record.phase is Phase.TERMINATED

    def test_a_submission_that_succeeds_after_the_deletion_should_change_nothing(self) -> None:
        story = submitting().tell(USER)
        assert not story.decide(Submitted("late")).changed
        assert not story.decide(refused(Reason.NO_CAPACITY)).changed

    def test_a_submission_that_was_answered_should_be_called_gone_at_once(self) -> None:
        assert submitted().tell(USER, GONE).phase is Phase.TERMINATED

    def test_a_failed_attempt_s_lease_should_be_waited_for_among_the_launches(self) -> None:
        story = submitting().tell(noticed())
        assert story.see(GONE).next_step == NextStep("advance", LIMITS.submit_lease)
        assert (story.phase, len(story.record.attempts)) == (Phase.PROVISIONING, 1)


LATE: list[Observation] = [
    TICK,
    TAKEN,
    refused(Reason.NO_CAPACITY),
    looked(NodeState.UP, NodePhase.SERVING, probe=IDLE),
    looked(NodeState.ABSENT),
    registered(),
    reported(NodePhase.SERVING),
    reported(NodePhase.FAILED, failure="server_failed"),
    completed(),
    noticed(),
    probed(IDLE),
    probed(state=NodeState.ABSENT),
]


class TestLate:
    @pytest.mark.parametrize("make", [terminating, recovering, releasing])
    @pytest.mark.parametrize("found", LATE, ids=lambda found: type(found).__name__)
    def test_nothing_but_an_answer_to_the_release_should_matter(
        self, make: Callable[[], Story], found: Observation
    ) -> None:
        story = make().wait(5)
        decision = story.decide(found)
        assert (decision.changed, decision.events, decision.next_step) == (False, (), None)
        assert decision.record is story.record

    @pytest.mark.parametrize("phase", [Phase.TERMINATED, Phase.FAILED])
    @pytest.mark.parametrize("found", [*LATE, USER, GONE, STILL_THERE, SILENT], ids=lambda found: type(found).__name__)
    def test_an_ended_record_should_never_change(self, phase: Phase, found: Observation) -> None:
        story = in_phase(phase).wait(86_400)
        decision = story.decide(found)
        assert not decision.changed
        assert decision.record is story.record

    @pytest.mark.parametrize("phase", [phase for phase in LIVE if phase not in (Phase.RECOVERING, Phase.TERMINATING)])
    @pytest.mark.parametrize("found", [GONE, STILL_THERE])
    def test_an_answer_to_a_release_that_nobody_wants_should_change_nothing(
        self, phase: Phase, found: Observation
    ) -> None:
        assert not in_phase(phase).decide(found).changed

    def test_a_doubled_answer_should_not_take_the_next_attempt_for_gone(self) -> None:
        story = releasing().tell(GONE)
        assert len(story.record.attempts) == 2
        assert not story.decide(GONE).changed


def test_a_ready_node_s_release_should_keep_what_it_cost_until_it_was_gone() -> None:
    story = ready().wait(100).tell(USER).wait(20).tell(GONE)
    assert story.attempt.node_up_at is not None
    assert story.attempt.gone_at == story.attempt.node_up_at + timedelta(seconds=120)
