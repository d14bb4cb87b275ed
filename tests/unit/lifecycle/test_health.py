"""A ready node: probes, idle counting, notices, its own reports, and recovery when it is lost."""

from dataclasses import replace
from datetime import timedelta

import pytest

from gpulaunch.models.instances import EventType, Phase, Reason
from shared.domain.instance import AttemptState, Health
from shared.domain.node import JobResult, NodeNotice, NodePhase, NodeStatus
from shared.domain.provider import NodeState, Probe
from shared.domain.request import StoredJobResult
from shared.lifecycle.observations import (
    Nothing,
    Observation,
    ProviderUnavailable,
    Release,
    Reported,
)
from shared.lifecycle.rules import idle_at
from shared.lifecycle.transition import NextStep
from tests.unit.lifecycle.story import (
    DEAD,
    ENABLED,
    GONE,
    IDLE,
    LIMITS,
    ON_DEMAND,
    SPOT,
    TAKEN,
    TICK,
    USER,
    Story,
    looked,
    noticed,
    probed,
    ready,
    refused,
    registered,
    reported,
    submitted,
)


def load(running: float | None = 0, waiting: float | None = 0, finished: float | None = 0) -> Probe:
    return Probe(alive=True, running_requests=running, waiting_requests=waiting, finished_requests=finished)


def health(story: Story) -> Health:
    assert story.record.health is not None
    return story.record.health


def idle_seconds(story: Story) -> float | None:
    since = health(story).idle_since
    return None if since is None else (story.now - since).total_seconds()


class TestProbes:
    def test_a_good_probe_that_tells_nothing_new_should_not_be_written(self) -> None:
        assert not ready().wait(60).decide(probed(IDLE)).changed

    def test_a_busy_node_should_not_be_written_again_and_again(self) -> None:
        story = ready().tell(probed(load(running=3)))
        assert not story.wait(60).decide(probed(load(running=5, finished=9))).changed

    def test_one_failed_probe_should_be_told_and_forgiven(self) -> None:
        story = ready().wait(60)
        decision = story.see(probed(DEAD))
        assert [event.message for event in decision.events] == ["The endpoint does not answer: no answer in time"]
        assert (health(story).state, health(story).failures, health(story).since) == ("unhealthy", 1, story.now)
        assert (story.phase, decision.next_step, story.record.due_at) == (Phase.READY, None, story.record.deadline_at)
        story.wait(60)
        back = story.see(probed(IDLE))
        assert [event.message for event in back.events] == ["The endpoint answers again."]
        assert (health(story).state, health(story).failures, health(story).since) == ("healthy", 0, story.now)

    def test_a_node_that_never_failed_should_not_be_said_to_answer_again(self) -> None:
        story = ready().tell(probed(load(running=1))).wait(60).tell(probed(load(finished=1)))
        assert story.of(EventType.HEALTH) == []

    def test_the_second_failure_should_not_be_told_again(self) -> None:
        story = ready().tell(probed(DEAD))
        since = health(story).since
        decision = story.wait(60).see(probed(DEAD))
        assert (decision.events, health(story).failures, health(story).since) == ((), 2, since)

    def test_three_failures_in_a_row_should_give_the_node_up(self) -> None:
        story = ready().tell(*[probed(DEAD)] * LIMITS.unhealthy_after)
        assert (story.phase, story.reasons, story.record.health) == (Phase.RECOVERING, [Reason.UNHEALTHY], None)
        assert "failed 3 probes in a row: no answer in time" in story.of(EventType.ATTEMPT_FAILED)[0].message

    def test_two_failures_and_an_answer_should_not(self) -> None:
        story = ready()
        for _ in range(10):
            story.tell(probed(DEAD), probed(DEAD), probed(IDLE))
        assert (story.phase, story.reasons) == (Phase.READY, [])

    @pytest.mark.parametrize("state", [NodeState.UP, NodeState.PENDING])
    def test_a_node_that_the_provider_still_sees_should_get_its_three_probes(self, state: NodeState) -> None:
        assert ready().tell(probed(DEAD, state), probed(DEAD, state)).phase is Phase.READY

    @pytest.mark.parametrize(
        ("state", "offer", "reason"),
        [
            (NodeState.ABSENT, SPOT, Reason.NODE_LOST),
            (NodeState.ABSENT, ON_DEMAND, Reason.NODE_LOST),
            (NodeState.STOPPED, SPOT, Reason.EVICTED),
            (NodeState.STOPPED, ON_DEMAND, Reason.NODE_LOST),
        ],
    )
    def test_a_node_that_the_provider_calls_lost_should_be_given_up_at_once(
        self, state: NodeState, offer: object, reason: Reason
    ) -> None:
        story = ready(offers=(offer,)).tell(probed(DEAD, state, "deallocated"))
        assert (story.phase, story.reasons) == (Phase.RECOVERING, [reason])

    @pytest.mark.parametrize("state", list(NodeState))
    def test_a_node_that_answers_should_be_kept_whatever_the_provider_says(self, state: NodeState) -> None:
        assert not ready().decide(probed(IDLE, state)).changed

    def test_a_record_without_health_should_be_probed_from_nothing(self) -> None:
        story = ready().wait(60)
        story.record = story.record.model_copy(update={"health": None})
        assert idle_seconds(story.tell(probed(IDLE))) == 0.0


class TestIdleCounting:
    def test_it_should_begin_when_the_last_request_is_done(self) -> None:
        story = ready().tell(probed(load(running=1))).wait(60).tell(probed(load(finished=1)))
        assert idle_seconds(story) == 0.0
        assert idle_seconds(story.wait(30)) == 30.0

    @pytest.mark.parametrize("probe", [load(running=1), load(waiting=1), load(running=2, waiting=5)])
    def test_a_running_or_waiting_request_should_stop_it(self, probe: Probe) -> None:
        story = ready(idle_minutes=5).wait(60).tell(probed(probe))
        assert idle_seconds(story) is None
        assert story.record.due_at == story.record.deadline_at

    def test_requests_between_two_probes_should_begin_it_anew(self) -> None:
        story = ready(idle_minutes=5).wait(60).tell(probed(load(finished=7)))
        assert (idle_seconds(story), health(story).finished_requests) == (0.0, 7)
        assert idle_at(story.record) == story.now + timedelta(minutes=5)

    def test_the_same_count_should_let_it_run_on(self) -> None:
        story = ready(idle_minutes=5).wait(1).tell(probed(load(finished=7))).wait(60)
        assert not story.decide(probed(load(finished=7))).changed
        assert idle_seconds(story) == 60.0

    def test_a_restarted_vllm_s_smaller_count_should_begin_it_anew(self) -> None:
        story = ready().wait(1).tell(probed(load(finished=7))).wait(60).tell(probed(load(finished=0)))
        assert idle_seconds(story) == 0.0

    def test_a_vllm_without_that_counter_should_be_counted_by_its_gauges(self) -> None:
        story = submitted().tell(looked(NodeState.UP, NodePhase.SERVING, probe=load(finished=None))).wait(60)
        assert not story.decide(probed(load(finished=None))).changed
        assert idle_seconds(story) == 60.0

    def test_unknown_load_should_never_count_as_idle(self) -> None:
        story = ready(idle_minutes=5).tell(probed(load(None, None, None))).wait(3600)
        story.see(TICK)
        assert (story.phase, idle_seconds(story)) == (Phase.READY, None)

    def test_one_known_gauge_should_do(self) -> None:
        story = ready().tell(probed(load(running=1))).tell(probed(load(running=0, waiting=None)))
        assert idle_seconds(story) == 0.0

    def test_a_failed_probe_should_not_begin_it_anew(self) -> None:
        story = ready(idle_minutes=5).wait(200).tell(probed(DEAD)).wait(60).tell(probed(IDLE))
        assert idle_seconds(story) == 260.0
        assert story.wait(40).tell(probed(IDLE)).ending is Reason.IDLE

    def test_requests_around_a_failed_probe_should_begin_it_anew(self) -> None:
        story = ready(idle_minutes=5).wait(200).tell(probed(DEAD)).wait(60).tell(probed(load(finished=3)))
        assert idle_seconds(story) == 0.0

    def test_a_node_that_does_not_answer_should_not_be_ended_as_idle(self) -> None:
        story = ready(idle_minutes=5).wait(299).tell(probed(DEAD)).wait(60)
        assert story.record.due_at == story.record.deadline_at
        story.see(TICK)
        assert story.phase is Phase.READY


class TestReports:
    def test_its_log_and_words_should_be_kept(self) -> None:
        lines = [str(number) for number in range(200)]
        story = ready().tell(reported(NodePhase.SERVING, detail="on port 8000", log_tail=lines))
        assert (story.attempt.detail, story.record.log_tail) == ("on port 8000", lines[100:])
        assert story.record.due_at == story.record.deadline_at

    def test_a_report_that_says_nothing_new_should_not_be_written(self) -> None:
        assert not ready().decide(reported(NodePhase.SERVING)).changed

    @pytest.mark.parametrize("phase", [NodePhase.INSTALLING, NodePhase.LOADING_MODEL, NodePhase.STARTING_SERVER])
    def test_a_late_report_of_an_earlier_phase_should_not_move_it(self, phase: NodePhase) -> None:
        story = ready()
        story.see(reported(phase, detail="late"))
        assert (story.phase, story.reasons) == (Phase.READY, [])

    @pytest.mark.parametrize("phase", [NodePhase.FAILED, NodePhase.STOPPING])
    def test_a_node_that_says_it_does_not_serve_any_more_should_be_given_up_at_once(self, phase: NodePhase) -> None:
        story = ready().tell(reported(phase, detail="out of memory", failure="server_failed"))
        assert (story.phase, story.reasons) == (Phase.RECOVERING, [Reason.UNHEALTHY])
        assert story.of(EventType.ATTEMPT_FAILED)[0].message.endswith(
            "stopped serving (" + phase.value + "). out of memory"
        )


class TestNotices:
    @pytest.mark.parametrize("notice", list(NodeNotice))
    def test_a_node_that_goes_away_should_not_be_waited_for(self, notice: NodeNotice) -> None:
        story = ready()
        decision = story.see(noticed(notice, leaves_at=story.now + timedelta(seconds=30)))
        assert [event.type for event in decision.events] == [
            EventType.NODE_NOTICE,
            EventType.ATTEMPT_FAILED,
            EventType.PHASE,
        ]
        assert decision.events[0].message == f"The machine is about to be shut down at 09:00:30 UTC: {notice.value}."
        assert story.phase is Phase.RECOVERING

    @pytest.mark.parametrize("notice", [NodeNotice.DEADLINE, NodeNotice.LEASE_LOST])
    def test_a_node_that_ends_itself_should_be_deleted_at_once(self, notice: NodeNotice) -> None:
        story = ready()
        story.tell(noticed(notice, leaves_at=story.now + timedelta(seconds=30)))
        assert story.act() == Release()

    @pytest.mark.parametrize(
        ("notice", "left", "drained"),
        [
            *(
                (NodeNotice.EVICTION, *times)
                for times in ((30, 25), (120, 25), (25, 25), (24, 24), (None, 25), (0, 0), (-5, 0))
            ),
            *((NodeNotice.SIGTERM, *times) for times in ((None, 10), (30, 10), (9, 9), (0, 0))),
        ],
    )
    def test_requests_on_a_machine_that_is_taken_away_should_have_until_then_to_end(
        self, notice: NodeNotice, left: int | None, drained: int
    ) -> None:
        story = ready()
        story.tell(noticed(notice, leaves_at=None if left is None else story.now + timedelta(seconds=left)))
        assert story.record.due_at == story.now + timedelta(seconds=drained)
        assert story.attempt.drains_until == (None if drained == 0 else story.record.due_at)
        if drained:
            assert story.act() == Nothing()
        story.wait(drained)
        assert story.act() == Release()

    def test_a_users_end_should_not_wait_for_them(self) -> None:
        story = ready().tell(noticed(leaves_at=None), USER)
        assert (story.phase, story.act()) == (Phase.TERMINATING, Release())

    def test_a_notice_without_a_time_should_do(self) -> None:
        message = ready().see(noticed(leaves_at=None)).events[0].message
        assert message == "The machine is about to be shut down: eviction."

    def test_a_notice_in_a_report_should_count_as_one(self) -> None:
        story = ready().tell(Reported(1, NodeStatus(phase=NodePhase.SERVING, notice=NodeNotice.EVICTION)))
        assert (story.phase, story.reasons) == (Phase.RECOVERING, [Reason.EVICTED])

    def test_an_earlier_attempt_s_job_should_not_be_taken_for_the_latest_one_s(self) -> None:
        story = ready().tell(noticed(), GONE, TAKEN, registered(2))
        story.tell(looked(NodeState.UP, NodePhase.SERVING, probe=IDLE))
        earlier, latest = story.record.attempts
        done = StoredJobResult.of(JobResult(exit_code=0))
        attempts = [earlier.model_copy(update={"job": done}), latest]
        story.record = story.record.model_copy(update={"attempts": attempts})
        story.tell(reported(NodePhase.SERVING, 2, detail="on port 8000"))
        assert (story.phase, story.attempt.job) == (Phase.READY, None)

    def test_a_second_notice_should_change_nothing(self) -> None:
        assert not ready().tell(noticed()).decide(noticed()).changed


class TestRecovery:
    def test_it_should_drop_messages_under_way_and_begin_a_new_round(self) -> None:
        story = ready()
        epoch = story.record.epoch
        decision = story.wait(100).see(noticed())
        assert decision.next_step == NextStep("advance", 0.0)
        record = story.record
        assert (record.epoch, record.recoveries, record.tried_in_round, record.health) == (epoch + 1, 1, 0, None)
        assert (story.attempt.state, story.attempt.release_since) == (AttemptState.RELEASING, story.now)
        assert story.of(EventType.ATTEMPT_FAILED)[0].duration_seconds == 100.0

    def test_the_lost_node_should_be_gone_before_another_is_asked_for(self) -> None:
        story = ready().tell(noticed())
        assert not story.decide(TICK).changed
        decision = story.see(GONE)
        assert (story.phase, decision.claimed) == (Phase.PROVISIONING, True)
        assert [attempt.state for attempt in story.record.attempts] == [AttemptState.GONE, AttemptState.SUBMITTING]

    def test_it_should_lead_to_a_ready_node_again(self) -> None:
        story = ready().tell(noticed(), GONE, TAKEN, registered(2))
        story.tell(looked(NodeState.UP, NodePhase.SERVING, address="10.0.0.5", probe=IDLE))
        assert (story.phase, story.attempt.number, story.attempt.address) == (Phase.READY, 2, "10.0.0.5")

    @pytest.mark.parametrize("losses", [1, 2, 3])
    def test_it_should_be_limited(self, losses: int) -> None:
        story = ready(timeouts=replace(LIMITS, max_recoveries=losses - 1))
        for number in range(1, losses):
            story.tell(noticed(attempt=number), GONE, TAKEN, registered(number + 1))
            story.tell(looked(NodeState.UP, NodePhase.SERVING, probe=IDLE))
            assert (story.phase, story.record.recoveries) == (Phase.READY, number)
        decision = story.see(noticed(attempt=losses))
        assert (story.phase, story.ending) == (Phase.TERMINATING, Reason.TOO_MANY_RECOVERIES)
        assert decision.next_step == NextStep("teardown", 0.0)
        assert story.record.ending is not None
        assert story.record.ending.message.startswith(f"The node was lost {losses} times. The last time: ")
        assert story.tell(GONE).phase is Phase.FAILED


class TestTicks:
    def test_a_tick_should_not_write_what_is_known(self) -> None:
        assert not ready().wait(5).decide(TICK).changed

    def test_a_tick_should_set_a_due_time_that_is_wrong(self) -> None:
        story = ready(lifetime=300, idle_minutes=1)
        story.record = story.record.model_copy(update={"due_at": story.now})
        decision = story.see(TICK)
        assert (story.record.due_at, decision.next_step) == (story.record.deadline_at, None)

    @pytest.mark.parametrize(
        "found",
        [
            ENABLED,
            TAKEN,
            refused(Reason.NO_CAPACITY),
            looked(NodeState.ABSENT),
            ProviderUnavailable("silent"),
            registered(),
        ],
        ids=lambda found: type(found).__name__,
    )
    def test_a_late_step_should_change_nothing(self, found: Observation) -> None:
        assert not ready().wait(1).decide(found).changed


class TestFlapping:
    def flap(self, story: Story, seconds: float) -> None:
        """Fail one probe and answer the next."""
        story.wait(seconds).tell(probed(DEAD))
        story.wait(30).tell(probed(IDLE))

    def test_what_is_not_told_should_be_counted_for_the_next_time(self) -> None:
        story = ready()
        for seconds in (60, 60, 60, LIMITS.flapping_quiet):
            self.flap(story, seconds)
        said = [event.message for event in story.of(EventType.HEALTH) if "does not answer" in event.message]
        assert said == [
            "The endpoint does not answer: no answer in time",
            "The endpoint does not answer: no answer in time (2 more times since 09:01 UTC)",
        ]

    def test_one_that_did_not_flap_should_be_told_without_a_count(self) -> None:
        story = ready()
        for seconds in (60, LIMITS.flapping_quiet):
            self.flap(story, seconds)
        assert {event.message for event in story.of(EventType.HEALTH)} == {
            "The endpoint does not answer: no answer in time",
            "The endpoint answers again.",
        }
