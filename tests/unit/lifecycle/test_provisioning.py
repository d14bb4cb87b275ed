"""Offers tried one by one: who may submit, what follows a failed attempt, and when it is enough."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest

from gpulaunch.models.instances import EventType, Phase, Reason
from shared.domain.instance import AttemptState
from shared.domain.node import NodeNotice, NodePhase
from shared.domain.provider import NodeState
from shared.lifecycle.machine import EARLY
from shared.lifecycle.observations import (
    Act,
    CheckProvider,
    Decide,
    Describe,
    NotEnabled,
    Nothing,
    ProviderUnavailable,
    Release,
    Submit,
    Submitted,
)
from shared.lifecycle.provision import cluster_name, in_time_to_submit
from shared.lifecycle.rules import CLOCKS_APART
from shared.lifecycle.transition import NextStep
from shared.planning.plan import MAX_OFFERS
from tests.twins.factories import make_instance_id
from tests.unit.lifecycle.story import (
    ENABLED,
    GONE,
    IDLE,
    LIMITS,
    OFFERS,
    ON_DEMAND,
    ON_NODE,
    SPOT,
    TAKEN,
    TICK,
    WEST,
    Story,
    failure,
    in_phase,
    looked,
    node_in,
    noticed,
    refused,
    registered,
    releasing,
    reported,
    submitted,
    submitting,
    terminating,
    validating,
)

SILENT = ProviderUnavailable("The SkyPilot server does not answer.")
OF_OFFERS = [
    Reason.NO_CAPACITY,
    Reason.QUOTA_EXCEEDED,
    Reason.PERMISSION_DENIED,
    Reason.IMAGE_UNAVAILABLE,
    Reason.NETWORK_FAILED,
    Reason.SETUP_FAILED,
    Reason.PROVISIONING_FAILED,
]


class TestClusterName:
    def test_names_should_be_of_one_length_short_enough_for_azure_and_no_prefix_of_another(self) -> None:
        names = [cluster_name(make_instance_id(one), number) for one in (1, 2) for number in range(1, 13)]
        assert {len(name) for name in names} == {32}
        assert len(set(names)) == len(names)
        assert names[0] == f"gl-{make_instance_id(1).removeprefix('inst-').lower()}-01"


class TestActs:
    @pytest.mark.parametrize(
        ("make", "act"),
        [
            (Story, Decide()),
            (validating, CheckProvider()),
            (submitting, Decide()),
            (submitted, Describe()),
            (releasing, Release()),
            (terminating, Release()),
            *[(lambda phase=phase: node_in(phase), Describe()) for phase in ON_NODE],
            (lambda: in_phase(Phase.READY), Decide()),
            (lambda: in_phase(Phase.RECOVERING), Release()),
            (lambda: in_phase(Phase.TERMINATED), Nothing()),
            (lambda: in_phase(Phase.FAILED), Nothing()),
        ],
    )
    def test_every_state_should_have_its_act_when_it_is_due(self, make: Callable[[], Story], act: Act) -> None:
        story = make()
        if story.record.due_at is not None:
            # Not beyond the deadline: a ready instance is due then.
            story.now = min(story.record.due_at, story.record.deadline_at - timedelta(seconds=1))
            if story.phase is Phase.READY:
                story.record = story.record.model_copy(update={"due_at": story.now})
        assert story.act() == act

    def test_a_message_should_not_come_earlier_than_queues_round(self) -> None:
        story = submitted().tell(looked(NodeState.PENDING))
        assert story.record.due_at is not None
        story.now = story.record.due_at - EARLY - timedelta(milliseconds=1)
        assert story.act() == Nothing()
        story.now = story.record.due_at - EARLY
        assert story.act() == Describe()

    def test_a_record_that_lacks_its_due_time_should_be_acted_on(self) -> None:
        story = submitted()
        story.record = story.record.model_copy(update={"due_at": None})
        assert story.act() == Describe()


class TestAttempt:
    def test_it_should_be_written_down_before_anything_is_submitted(self) -> None:
        story = validating()
        decision = story.see(ENABLED)
        assert (decision.next_step, decision.claimed) == (NextStep("advance", 0.0), True)
        attempt = story.attempt
        assert (attempt.number, attempt.offer, attempt.state) == (1, SPOT, AttemptState.SUBMITTING)
        assert attempt.cluster_name == cluster_name(story.record.instance_id, 1)
        assert attempt.submit_lease_until == story.now + timedelta(seconds=LIMITS.submit_lease)
        assert (story.record.next_offer, story.record.tried_in_round) == (1, 1)
        event = decision.events[-1]
        assert (event.type, event.attempt) == (EventType.ATTEMPT_STARTED, 1)
        assert event.data == {
            "cluster_name": attempt.cluster_name,
            "region": "eastus",
            "instance_type": "Standard_NV36ads_A10_v5",
            "gpu": "A10:1",
            "use_spot": True,
            "price_per_hour": 0.64,
        }

    def test_a_taken_submission_should_be_looked_at_at_once(self) -> None:
        story = submitting().wait(2)
        decision = story.see(TAKEN)
        assert (story.attempt.state, story.attempt.request_id) == (AttemptState.SUBMITTED, "req-1")
        assert story.attempt.submit_lease_until == story.now
        assert decision.next_step == NextStep("advance", 0.0)
        assert story.act() == Describe()

    def test_a_provider_without_request_ids_should_do(self) -> None:
        assert submitting().tell(Submitted(None)).attempt.request_id is None

    def test_a_second_answer_to_a_submission_should_change_nothing(self) -> None:
        assert not submitted().decide(Submitted("req-2")).changed
        assert not submitted().decide(refused(Reason.NO_CAPACITY)).changed

    def test_no_offers_at_all_should_fail_at_once(self) -> None:
        story = validating(offers=()).tell(ENABLED)
        assert (story.phase, story.ending) == (Phase.FAILED, Reason.NO_OFFERS_LEFT)


class TestLease:
    def test_only_the_step_that_claimed_it_should_submit(self) -> None:
        story = submitting()
        assert story.act(claimed=True) == Submit()
        assert story.act() == Nothing()
        assert story.wait(LIMITS.submit_lease).act() == Decide()

    def test_another_step_should_wait_until_it_ends(self) -> None:
        story = submitting().wait(30)
        decision = story.see(TICK)
        assert decision.next_step == NextStep("advance", LIMITS.submit_lease - 30)
        assert not decision.claimed
        assert decision.events == ()

    def test_another_step_should_not_take_it_a_moment_before_its_end(self) -> None:
        story = submitting().wait(LIMITS.submit_lease - 0.001)
        assert not story.see(TICK).claimed

    def test_another_step_should_take_it_at_its_end(self) -> None:
        story = submitting().wait(LIMITS.submit_lease)
        decision = story.see(TICK)
        assert (decision.claimed, decision.next_step) == (True, NextStep("advance", 0.0))
        assert story.attempt.submit_lease_until == story.now + timedelta(seconds=LIMITS.submit_lease)
        assert len(story.record.attempts) == 1
        assert story.act(claimed=True) == Submit()

    def test_a_submission_should_begin_only_if_it_ends_before_the_lease_does(self) -> None:
        story = submitting().wait(LIMITS.submit_lease - LIMITS.submit - CLOCKS_APART.total_seconds())
        assert in_time_to_submit(story.record, story.now, LIMITS)
        assert not in_time_to_submit(story.record, story.now + timedelta(milliseconds=1), LIMITS)

    def test_a_submission_without_an_answer_should_keep_it(self) -> None:
        story = submitting()
        until = story.attempt.submit_lease_until
        decision = story.see(SILENT)
        assert decision.next_step == NextStep("advance", LIMITS.unanswered_poll)
        assert (story.attempt.submit_lease_until, story.attempt.state) == (until, AttemptState.SUBMITTING)
        assert story.wait(LIMITS.unanswered_poll).act() == Decide()

    def test_submissions_that_are_never_answered_should_be_given_up_in_the_end(self) -> None:
        story = submitting()
        while not story.reasons:
            story.tell(SILENT).wait(LIMITS.submit_lease).see(TICK)
        assert story.reasons == [Reason.PROVISIONING_TIMEOUT]
        assert (story.now - story.record.created_at).total_seconds() < LIMITS.provisioning + 2 * LIMITS.submit_lease

    def test_a_look_should_not_fit_an_attempt_that_is_being_submitted(self) -> None:
        assert not submitting().decide(looked(NodeState.ABSENT)).changed

    def test_a_tick_should_not_disturb_an_attempt_that_is_submitted(self) -> None:
        assert not submitted().decide(TICK).changed

    def test_a_refusal_should_end_it_so_that_the_next_offer_need_not_wait(self) -> None:
        story = submitting().wait(1).tell(refused(Reason.NO_CAPACITY), GONE)
        assert [attempt.state for attempt in story.record.attempts] == [AttemptState.GONE, AttemptState.SUBMITTING]


class TestFailover:
    @pytest.mark.parametrize("reason", OF_OFFERS)
    def test_an_offer_that_can_t_be_had_should_lead_to_the_next(self, reason: Reason) -> None:
        story = submitting().wait(4)
        decision = story.see(refused(reason))
        assert decision.next_step == NextStep("advance", 0.0)
        assert (story.attempt.state, story.phase) == (AttemptState.RELEASING, Phase.PROVISIONING)
        (failed,) = story.of(EventType.ATTEMPT_FAILED)
        assert (failed.reason, failed.duration_seconds, failed.attempt) == (reason, 4.0, 1)
        assert failed.data == {"region": "eastus", "offer": SPOT.key}
        again = story.see(GONE)
        assert again.claimed
        assert (story.attempt.number, story.attempt.offer) == (2, WEST)

    @pytest.mark.parametrize("reason", OF_OFFERS)
    def test_a_launch_that_fails_after_it_was_taken_should_lead_to_the_next(self, reason: Reason) -> None:
        story = submitted().tell(looked(NodeState.PENDING, failure=failure(reason)), GONE)
        assert (story.reasons, story.attempt.offer) == ([reason], WEST)

    def test_nothing_should_be_tried_before_the_failed_attempt_is_gone(self) -> None:
        story = releasing()
        assert not story.decide(TICK).changed
        assert len(story.record.attempts) == 1

    @pytest.mark.parametrize(
        "reason", [Reason.INVALID_TASK, Reason.INSTALL_FAILED, Reason.MODEL_FETCH_FAILED, Reason.SERVER_FAILED]
    )
    def test_what_would_fail_anywhere_should_end_the_instance(self, reason: Reason) -> None:
        story = submitting()
        decision = story.see(refused(reason))
        assert (story.phase, story.ending, story.reasons) == (Phase.TERMINATING, reason, [reason])
        assert decision.next_step == NextStep("teardown", 0.0)
        assert story.tell(GONE).phase is Phase.FAILED

    @pytest.mark.parametrize("reason", [Reason.PORT_TAKEN, Reason.PROVIDER_UNAVAILABLE])
    def test_what_says_nothing_against_the_offer_should_be_tried_on_it_again(self, reason: Reason) -> None:
        story = submitting().tell(refused(reason), GONE)
        assert (story.attempt.number, story.attempt.offer) == (2, SPOT)
        assert (story.record.next_offer, story.record.tried_in_round) == (1, 1)

    def test_the_last_offer_of_the_list_should_be_tried_again_as_well(self) -> None:
        story = submitting(offers=(SPOT,)).tell(refused(Reason.PORT_TAKEN), GONE)
        assert (story.attempt.number, story.attempt.offer) == (2, SPOT)

    def test_one_offer_should_not_be_tried_more_than_three_times_in_a_row(self) -> None:
        story = submitting()
        for _ in range(LIMITS.same_offer):
            assert story.attempt.offer == SPOT
            story.tell(refused(Reason.PORT_TAKEN), GONE)
        assert story.attempt.offer == WEST

    def test_a_try_of_another_offer_in_between_should_begin_the_count_again(self) -> None:
        story = submitting()
        for reason in (Reason.PORT_TAKEN, Reason.PORT_TAKEN, Reason.NO_CAPACITY, Reason.PORT_TAKEN, Reason.PORT_TAKEN):
            story.tell(refused(reason), GONE)
        assert [attempt.offer for attempt in story.record.attempts] == [SPOT] * 3 + [WEST] * 3

    def test_a_launch_whose_every_port_is_taken_should_end(self) -> None:
        story = submitting(offers=(SPOT, WEST))
        while not story.phase.ended:
            story.tell(refused(Reason.PORT_TAKEN), GONE)
        assert (story.ending, len(story.record.attempts)) == (Reason.NO_OFFERS_LEFT, 2 * LIMITS.same_offer)


class TestEnough:
    def test_every_offer_should_have_one_turn_then_the_launch_has_failed(self) -> None:
        story = submitting()
        for _ in OFFERS:
            story.tell(refused(Reason.NO_CAPACITY), GONE)
        assert [attempt.offer for attempt in story.record.attempts] == [SPOT, WEST, ON_DEMAND]
        assert (story.phase, story.ending) == (Phase.FAILED, Reason.NO_OFFERS_LEFT)
        assert story.record.ending is not None
        assert story.record.ending.message == ("All 3 planned offers failed. The last one failed: it did not work")

    def test_the_number_of_attempts_should_be_limited(self) -> None:
        story = submitting(timeouts=replace(LIMITS, max_attempts=2))
        story.tell(refused(Reason.NO_CAPACITY), GONE, refused(Reason.QUOTA_EXCEEDED), GONE)
        assert (story.phase, story.ending) == (Phase.FAILED, Reason.TOO_MANY_ATTEMPTS)
        assert len(story.record.attempts) == 2

    def test_another_try_of_the_same_offer_should_not_count(self) -> None:
        story = submitting(timeouts=replace(LIMITS, max_attempts=2)).tell(refused(Reason.PORT_TAKEN), GONE)
        story.tell(refused(Reason.NO_CAPACITY), GONE)
        assert (story.attempt.number, story.attempt.offer) == (3, WEST)

    def test_a_round_should_have_a_try_for_every_offer_of_the_longest_plan(self) -> None:
        assert LIMITS.max_attempts == MAX_OFFERS

    def test_the_last_attempt_allowed_should_be_made(self) -> None:
        story = submitting(timeouts=replace(LIMITS, max_attempts=2)).tell(refused(Reason.NO_CAPACITY), GONE)
        assert story.attempt.number == 2

    def test_an_offer_whose_submission_dies_every_time_should_be_given_up(self) -> None:
        story = submitting()
        for _ in range(int(LIMITS.provisioning / LIMITS.submit_lease) - 1):
            assert story.wait(LIMITS.submit_lease).see(TICK).claimed
        story.wait(LIMITS.submit_lease).see(TICK)
        assert (story.reasons, story.act()) == ([], Describe()), "it may have been submitted all the same"
        story.see(looked(NodeState.ABSENT))
        assert (story.reasons, story.act()) == ([Reason.PROVISIONING_TIMEOUT], Release())

    def test_a_node_of_a_submission_without_an_answer_should_be_found_before_it_is_given_up(self) -> None:
        story = submitting().wait(LIMITS.provisioning)
        story.see(TICK)
        story.see(looked(NodeState.UP, NodePhase.INSTALLING))
        assert (story.phase, story.reasons) == (Phase.INSTALLING, [])

    def test_a_provider_that_is_not_set_up_should_end_the_launch(self) -> None:
        story = submitting().tell(NotEnabled("run az login"))
        assert (story.phase, story.ending) == (Phase.TERMINATING, Reason.PROVIDER_UNAVAILABLE)


class TestNodeLostOnItsWay:
    @pytest.mark.parametrize("phase", ON_NODE)
    def test_it_should_lead_back_to_provisioning(self, phase: Phase) -> None:
        story = node_in(phase)
        epoch = story.record.epoch
        story.tell(looked(NodeState.ABSENT))
        assert (story.phase, story.reasons, story.record.epoch) == (Phase.PROVISIONING, [Reason.NODE_LOST], epoch)
        assert story.events[-1].reason is Reason.NODE_LOST
        assert story.tell(GONE).attempt.offer == WEST

    def test_a_request_that_was_forgotten_should_be_made_again(self) -> None:
        story = submitted().tell(looked(NodeState.ABSENT), GONE)
        assert (story.reasons, story.attempt.offer) == ([Reason.PROVIDER_UNAVAILABLE], SPOT)

    @pytest.mark.parametrize(("offers", "reason"), [(OFFERS, Reason.EVICTED), ((ON_DEMAND, SPOT), Reason.NODE_LOST)])
    def test_a_stopped_machine_should_be_an_eviction_only_on_spot(
        self, offers: tuple[object, ...], reason: Reason
    ) -> None:
        story = node_in(Phase.INSTALLING, offers=offers).tell(looked(NodeState.STOPPED, detail="deallocated"))
        assert story.reasons == [reason]
        assert (
            story.of(EventType.ATTEMPT_FAILED)[0].message == "The machine was stopped before it was ready. deallocated"
        )

    @pytest.mark.parametrize("phase", [Phase.PROVISIONING, *ON_NODE])
    def test_a_notice_should_not_be_waited_out(self, phase: Phase) -> None:
        story = in_phase(phase).tell(noticed())
        assert (story.phase, story.reasons) == (Phase.PROVISIONING, [Reason.EVICTED])
        assert story.act() == Release()

    def test_a_notice_before_the_submission_was_answered_should_count(self) -> None:
        assert submitting().tell(noticed()).attempt.state is AttemptState.RELEASING

    @pytest.mark.parametrize("notice", list(NodeNotice))
    def test_a_notice_in_a_status_should_count(self, notice: NodeNotice) -> None:
        story = node_in(Phase.LOADING_MODEL).tell(reported(NodePhase.LOADING_MODEL, notice=notice))
        assert (story.phase, len(story.reasons)) == (Phase.PROVISIONING, 1)


class TestRoundsAfterRecovery:
    def test_a_lost_node_should_begin_a_new_round_with_the_offer_after_its_own(self) -> None:
        story = in_phase(Phase.RECOVERING).tell(GONE)
        assert (story.phase, story.attempt.offer, story.record.tried_in_round) == (Phase.PROVISIONING, WEST, 1)
        story.tell(refused(Reason.NO_CAPACITY), GONE, refused(Reason.NO_CAPACITY), GONE)
        assert story.attempt.offer == SPOT
        story.tell(refused(Reason.NO_CAPACITY), GONE)
        assert (story.phase, story.ending) == (Phase.FAILED, Reason.NO_OFFERS_LEFT)

    def test_attempts_of_one_round_should_not_count_in_the_next(self) -> None:
        story = in_phase(Phase.READY, timeouts=replace(LIMITS, max_attempts=2, max_recoveries=9))
        number = 1
        while not story.phase.ended:
            story.tell(noticed(attempt=number), GONE)
            number += 1
            if not story.phase.ended:
                story.tell(TAKEN, registered(number), looked(NodeState.UP, NodePhase.SERVING, probe=IDLE))
        assert (len(story.record.attempts), story.ending) == (10, Reason.TOO_MANY_RECOVERIES)

    def test_attempts_of_a_recovery_should_be_limited_as_those_of_the_launch(self) -> None:
        story = in_phase(Phase.RECOVERING, timeouts=replace(LIMITS, max_attempts=2)).tell(GONE)
        story.tell(refused(Reason.NO_CAPACITY), GONE, refused(Reason.NO_CAPACITY), GONE)
        assert (len(story.record.attempts), story.ending) == (3, Reason.TOO_MANY_ATTEMPTS)


@pytest.mark.parametrize("emptied", [True, False])
def test_a_record_between_two_attempts_should_go_on_with_the_next(emptied: bool) -> None:
    story = submitting()
    gone = story.attempt.model_copy(update={"state": AttemptState.GONE, "gone_at": story.now})
    story.record = story.record.model_copy(update={"attempts": [] if emptied else [gone], "due_at": story.now})
    assert story.act() == Decide()
    assert story.see(TICK).claimed
    assert story.attempt.state is AttemptState.SUBMITTING


def test_a_new_attempt_should_cost_from_its_start_and_its_agent_prove_itself() -> None:
    story = submitting()
    assert (story.attempt.billed_from, story.attempt.started_at, story.attempt.proves) == (story.now, story.now, True)


@pytest.mark.parametrize("again", [(False, True), (True, False)])
def test_whether_the_latest_attempt_was_submitted_twice_should_decide_what_a_refusal_costs(
    again: tuple[bool, bool],
) -> None:
    """Of one that was submitted again, the first submission may have made a machine."""
    story = submitted().tell(looked(NodeState.PENDING, failure=failure(Reason.NO_CAPACITY)), GONE)
    attempts = [
        one.model_copy(update={"submitted_again": twice})
        for one, twice in zip(story.record.attempts, again, strict=True)
    ]
    story.record = story.record.model_copy(update={"attempts": attempts})
    story.tell(refused(Reason.NO_CAPACITY))
    assert (story.record.attempts[1].billed_from is not None) is again[1]
