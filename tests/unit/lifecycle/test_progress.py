"""provisioning → installing → loading_model → starting_server → registering → ready."""

from collections.abc import Callable
from datetime import timedelta

import pytest

from gpulaunch.models.instances import EventType, Phase, Reason
from shared.domain.instance import AttemptState
from shared.domain.node import NodeNotice, NodePhase, NodeStatus
from shared.domain.provider import NodeState, NodeView, Probe
from shared.lifecycle.observations import (
    Decide,
    Describe,
    Nothing,
    Observation,
    Observed,
    ProviderUnavailable,
    Reported,
)
from shared.lifecycle.timeouts import Timeouts
from shared.lifecycle.transition import NextStep
from shared.storage.rows import MAX_DOC_UNITS
from tests.unit.lifecycle.story import (
    DEAD,
    ENABLED,
    GONE,
    IDLE,
    LIMITS,
    ON_NODE,
    TAKEN,
    TICK,
    USER,
    Story,
    failure,
    in_phase,
    looked,
    node_in,
    noticed,
    probed,
    refused,
    registered,
    releasing,
    reported,
    submitted,
    submitting,
)

SILENT = ProviderUnavailable("The SkyPilot server does not answer.")
REPORTED = {
    NodePhase.INSTALLING: Phase.INSTALLING,
    NodePhase.LOADING_MODEL: Phase.LOADING_MODEL,
    NodePhase.STARTING_SERVER: Phase.STARTING_SERVER,
    NodePhase.SERVING: Phase.REGISTERING,
}
TIMES = {
    Phase.PROVISIONING: (LIMITS.provisioning, Reason.PROVISIONING_TIMEOUT),
    Phase.INSTALLING: (LIMITS.installing, Reason.INSTALL_TIMEOUT),
    Phase.LOADING_MODEL: (LIMITS.loading_model, Reason.MODEL_TIMEOUT),
    Phase.STARTING_SERVER: (LIMITS.starting_server, Reason.SERVER_TIMEOUT),
    Phase.REGISTERING: (LIMITS.registering, Reason.REGISTRATION_TIMEOUT),
}
SAME: dict[Phase, Observed] = {
    Phase.PROVISIONING: looked(NodeState.PENDING),
    Phase.INSTALLING: looked(NodeState.UP),
    Phase.LOADING_MODEL: looked(NodeState.UP, NodePhase.LOADING_MODEL),
    Phase.STARTING_SERVER: looked(NodeState.UP, NodePhase.STARTING_SERVER),
    Phase.REGISTERING: looked(NodeState.UP, NodePhase.SERVING, probe=DEAD),
}
"""A look that finds the phase as it was."""
ORDER = [Phase.PROVISIONING, *ON_NODE]


class TestForward:
    @pytest.mark.parametrize("here", [Phase.PROVISIONING, *ON_NODE])
    @pytest.mark.parametrize("said", REPORTED)
    @pytest.mark.parametrize("pushed", [True, False])
    def test_a_phase_should_follow_the_node_and_never_go_back(self, here: Phase, said: NodePhase, pushed: bool) -> None:
        story = in_phase(here).wait(7)
        story.see(reported(said) if pushed else looked(NodeState.UP, said))
        assert story.phase is max(here, REPORTED[said], key=ORDER.index)
        if story.phase is not here:
            assert story.events[-1].duration_seconds == 7.0

    def test_a_node_that_can_t_be_asked_yet_should_be_installing(self) -> None:
        assert submitted().tell(looked(NodeState.UP)).phase is Phase.INSTALLING

    def test_a_node_that_can_t_be_asked_any_more_should_stay_where_it_was(self) -> None:
        assert node_in(Phase.STARTING_SERVER).tell(looked(NodeState.UP)).phase is Phase.STARTING_SERVER

    def test_a_pending_request_should_stay_in_provisioning(self) -> None:
        story = submitted().tell(looked(NodeState.PENDING, detail="Instance is up."))
        assert (story.phase, story.attempt.detail, story.attempt.node_up_at) == (
            Phase.PROVISIONING,
            "Instance is up.",
            None,
        )

    def test_every_phase_should_be_told_once_with_its_duration(self) -> None:
        story = submitted()
        for phase in REPORTED:
            story.wait(10).tell(looked(NodeState.UP, phase))
            story.wait(5).tell(looked(NodeState.UP, phase))
        story.wait(10).tell(looked(NodeState.UP, NodePhase.SERVING, probe=IDLE))
        moves = [(event.phase, event.duration_seconds) for event in story.of(EventType.PHASE)[2:]]
        assert moves == [
            (Phase.INSTALLING, 10.0),
            (Phase.LOADING_MODEL, 15.0),
            (Phase.STARTING_SERVER, 15.0),
            (Phase.REGISTERING, 15.0),
            (Phase.READY, 15.0),
        ]
        assert [event.sequence for event in story.events] == list(range(len(story.events)))


class TestFacts:
    @pytest.mark.parametrize("seen", [True, False])
    def test_that_the_provider_s_records_have_shown_a_node_should_never_be_forgotten(self, *, seen: bool) -> None:
        story = submitted().tell(looked(NodeState.PENDING, listed=seen))
        assert story.attempt.listed is seen
        story.tell(looked(NodeState.PENDING, listed=False))
        assert story.attempt.listed is seen

    def test_a_look_should_keep_what_it_saw(self) -> None:
        said = NodeStatus(
            phase=NodePhase.LOADING_MODEL,
            detail="2 of 16 GB",
            fetched_bytes=2,
            total_bytes=16,
            port=8001,
            log_tail=["a", "b"],
        )
        story = (
            submitted()
            .wait(40)
            .tell(Observed(NodeView(state=NodeState.UP, detail="running", address="10.0.0.4"), said))
        )
        attempt = story.attempt
        assert (attempt.address, attempt.port, attempt.detail) == ("10.0.0.4", 8001, "2 of 16 GB")
        assert (attempt.fetched_bytes, attempt.total_bytes, attempt.node_phase) == (2, 16, NodePhase.LOADING_MODEL)
        assert (attempt.node_up_at, story.record.log_tail) == (story.now, ["a", "b"])

    def test_what_a_later_look_does_not_see_should_stay(self) -> None:
        said = NodeStatus(phase=NodePhase.LOADING_MODEL, fetched_bytes=2, total_bytes=16, port=8001, log_tail=["a"])
        story = submitted().tell(Observed(NodeView(state=NodeState.UP, address="10.0.0.4"), said))
        up_at = story.attempt.node_up_at
        story.wait(9).tell(looked(NodeState.UP, NodePhase.LOADING_MODEL, detail="running"))
        attempt = story.attempt
        assert (attempt.fetched_bytes, attempt.total_bytes, attempt.port) == (2, 16, 8001)
        assert (attempt.address, attempt.node_up_at, attempt.detail) == ("10.0.0.4", up_at, "running")
        assert story.record.log_tail == ["a"]

    def test_a_log_should_be_cut_to_its_last_lines(self) -> None:
        story = submitted().tell(reported(NodePhase.INSTALLING, log_tail=[str(number) for number in range(200)]))
        assert story.record.log_tail == [str(number) for number in range(100, 200)]

    @pytest.mark.parametrize("character", ["x", '"', "🚀", "\x00", "\x9b"])
    def test_no_log_should_make_a_record_too_large_for_its_row(self, character: str) -> None:
        status = NodeStatus(phase=NodePhase.INSTALLING, log_tail=[character * 2000] * 200)
        story = submitted().tell(Reported(1, status))
        document = story.record.model_dump_json()
        assert len(document.encode("utf-16-le")) // 2 < MAX_DOC_UNITS - 50_000
        assert story.record.log_tail[-1] == ("" if character in "\x00\x9b" else character * 2000)
        assert not story.see(Reported(1, status)).changed

    def test_control_characters_should_be_removed(self) -> None:
        status = NodeStatus(
            phase=NodePhase.INSTALLING, detail="\x1b[1;32mok\x1b[0m\x00", log_tail=["\r 5 %\x1b[K\ta\n"]
        )
        assert (status.detail, status.log_tail) == ("ok", [" 5 % a "])

    def test_a_record_of_the_largest_size_should_still_end(self) -> None:
        story = submitted()
        story.record = story.record.model_copy(update={"log_tail": ["x" * 490_000]})
        story.tell(USER)
        assert (story.phase, story.record.log_tail) == (Phase.TERMINATING, [])

    def test_a_node_that_speaks_should_cost_from_then_on(self) -> None:
        story = submitted().wait(20).tell(reported(NodePhase.INSTALLING))
        assert story.attempt.node_up_at == story.now

    @pytest.mark.parametrize("found", [reported(NodePhase.INSTALLING), registered()])
    def test_a_node_that_speaks_first_should_have_been_submitted_but_keep_the_lease(self, found: Observation) -> None:
        story = submitting()
        until = story.attempt.submit_lease_until
        story.wait(1).tell(found)
        assert (story.attempt.state, story.attempt.submit_lease_until) == (AttemptState.SUBMITTED, until)
        story.tell(USER)
        assert story.tell(GONE).phase is Phase.TERMINATING
        assert story.wait(LIMITS.submit_lease).tell(GONE).phase is Phase.TERMINATED


class TestRegistration:
    @pytest.mark.parametrize("phase", [Phase.PROVISIONING, *ON_NODE])
    def test_it_should_lead_to_a_look_at_once(self, phase: Phase) -> None:
        story = in_phase(phase)
        address = story.attempt.address
        decision = story.see(registered(port=8123, address="node.example"))
        assert (story.phase, decision.next_step) == (Phase.REGISTERING, NextStep("advance", 0.0))
        assert (story.attempt.port, story.attempt.address) == (8123, address)
        assert story.act() == Describe()

    def test_it_should_not_forget_the_address_that_the_provider_knows(self) -> None:
        assert node_in(Phase.STARTING_SERVER).tell(registered()).attempt.address == "10.0.0.4"

    def test_it_should_not_make_an_instance_ready_by_itself(self) -> None:
        assert node_in(Phase.REGISTERING).tell(registered()).attempt.ready_at is None

    def test_a_ready_instance_should_not_be_changed_by_it(self) -> None:
        assert not in_phase(Phase.READY).decide(registered(port=9999)).changed


class TestReady:
    @pytest.mark.parametrize("here", [Phase.PROVISIONING, *ON_NODE])
    def test_a_good_probe_of_a_serving_node_should_make_it_ready_from_any_phase(self, here: Phase) -> None:
        story = in_phase(here).wait(3)
        decision = story.see(looked(NodeState.UP, NodePhase.SERVING, probe=IDLE))
        assert (story.phase, story.attempt.ready_at, story.attempt.detail) == (Phase.READY, story.now, "")
        assert decision.next_step is None
        assert story.record.due_at == story.record.deadline_at

    @pytest.mark.parametrize("probe", [DEAD, None])
    def test_a_serving_node_should_not_be_ready_before_its_address_answers(self, probe: Probe | None) -> None:
        story = node_in(Phase.STARTING_SERVER)
        decision = story.see(looked(NodeState.UP, NodePhase.SERVING, probe=probe))
        assert (story.phase, decision.next_step) == (Phase.REGISTERING, NextStep("advance", LIMITS.registering_poll))

    def test_a_good_probe_of_a_node_that_does_not_say_it_serves_should_not_do(self) -> None:
        assert node_in(Phase.INSTALLING).tell(looked(NodeState.UP, probe=IDLE)).phase is Phase.INSTALLING

    @pytest.mark.parametrize(
        ("probe", "idle"),
        [
            (IDLE, True),
            (Probe(alive=True, running_requests=1, waiting_requests=0), False),
            (Probe(alive=True, running_requests=0, waiting_requests=2), False),
            (Probe(alive=True), False),
        ],
    )
    def test_the_idle_time_should_begin_only_when_vllm_says_so(self, probe: Probe, idle: bool) -> None:
        story = submitted().tell(looked(NodeState.UP, NodePhase.SERVING, probe=probe))
        assert story.record.health is not None
        assert story.record.health.idle_since == (story.now if idle else None)

    def test_its_load_should_be_known_from_the_first_probe(self) -> None:
        probe = Probe(alive=True, running_requests=3, waiting_requests=2, finished_requests=7)
        health = submitted().tell(looked(NodeState.UP, NodePhase.SERVING, probe=probe)).record.health
        assert health is not None
        assert (health.running_requests, health.waiting_requests, health.finished_requests) == (3, 2, 7)

    @pytest.mark.parametrize(
        ("request_fields", "seconds"),
        [({}, 43_200), ({"idle_minutes": 5}, 43_200), ({"budget_usd": 0.16}, 900), ({"budget_usd": 1e6}, 43_200)],
    )
    def test_it_should_be_due_when_a_rule_may_first_end_it(
        self, request_fields: dict[str, float], seconds: float
    ) -> None:
        story = in_phase(Phase.READY, **request_fields)
        assert story.record.due_at == story.record.created_at + timedelta(seconds=seconds)
        assert story.act() == Nothing()
        assert story.wait(seconds).act() == Decide()


class TestTimeLimits:
    @pytest.mark.parametrize("phase", TIMES)
    @pytest.mark.parametrize("silent", [True, False])
    def test_a_phase_that_takes_too_long_should_end_the_attempt(self, phase: Phase, silent: bool) -> None:
        seconds, reason = TIMES[phase]
        story = in_phase(phase).wait(seconds)
        decision = story.see(SILENT if silent else SAME[phase])
        assert (story.reasons, story.phase, story.attempt.state) == (
            [reason],
            Phase.PROVISIONING,
            AttemptState.RELEASING,
        )
        assert decision.next_step == NextStep("advance", 0.0)
        assert story.of(EventType.ATTEMPT_FAILED)[0].message.startswith(
            f"{phase.value} took more than {seconds / 60:.0f} minutes."
        )

    @pytest.mark.parametrize("phase", TIMES)
    @pytest.mark.parametrize("silent", [True, False])
    def test_a_phase_should_not_end_a_moment_before(self, phase: Phase, silent: bool) -> None:
        story = in_phase(phase).wait(TIMES[phase][0] - 0.001)
        story.tell(SILENT if silent else SAME[phase])
        assert (story.reasons, story.phase) == ([], phase)

    @pytest.mark.parametrize("phase", ON_NODE)
    def test_progress_to_the_next_phase_should_begin_a_new_time(self, phase: Phase) -> None:
        story = node_in(phase).wait(TIMES[phase][0] - 1)
        story.tell(looked(NodeState.UP, NodePhase.SERVING)).wait(2).see(looked(NodeState.UP, NodePhase.SERVING))
        assert bool(story.reasons) is (phase is Phase.REGISTERING)

    def test_the_second_attempt_should_have_provisioning_s_whole_time(self) -> None:
        story = releasing().wait(LIMITS.provisioning).tell(GONE, TAKEN)
        story.wait(LIMITS.provisioning - 1).tell(looked(NodeState.PENDING))
        assert story.reasons == [Reason.NO_CAPACITY]
        story.wait(1).tell(looked(NodeState.PENDING))
        assert story.reasons == [Reason.NO_CAPACITY, Reason.PROVISIONING_TIMEOUT]

    @pytest.mark.parametrize("phase", ON_NODE)
    def test_a_node_that_reports_all_the_time_should_not_put_off_its_end(self, phase: Phase) -> None:
        said = next(node for node, there in REPORTED.items() if there is phase)
        story = node_in(phase)
        number = 0
        while not story.reasons:
            number += 1
            assert (story.now - story.record.phase_since).total_seconds() <= TIMES[phase][0] + LIMITS.poll_max
            story.wait(1.5).see(reported(said, detail=f"{number} lines"))
            # A step is sent again by the sweep when it is overdue; here it comes on time.
            if story.act() == Describe():
                story.see(SAME[phase])
        assert story.reasons == [TIMES[phase][1]]

    def test_a_report_that_says_nothing_new_should_not_be_written(self) -> None:
        story = node_in(Phase.INSTALLING).tell(reported(NodePhase.INSTALLING, detail="wheels"))
        assert not story.wait(1).decide(reported(NodePhase.INSTALLING, detail="wheels")).changed

    def test_a_node_that_reports_should_be_looked_at_as_often_as_a_sweep_would(self) -> None:
        story = node_in(Phase.INSTALLING)
        assert story.see(reported(NodePhase.LOADING_MODEL)).next_step == NextStep("advance", LIMITS.reporting_poll)
        story.wait(LIMITS.reporting_poll)
        assert story.see(looked(NodeState.UP)).next_step == NextStep("advance", LIMITS.reporting_poll)

    def test_a_node_that_has_to_be_asked_should_not(self) -> None:
        story = node_in(Phase.INSTALLING)
        assert story.see(looked(NodeState.UP, NodePhase.LOADING_MODEL)).next_step == NextStep(
            "advance", LIMITS.poll_min
        )
        story.wait(LIMITS.poll_min)
        assert story.see(looked(NodeState.UP)).next_step == NextStep("advance", LIMITS.poll_min)

    def test_a_node_that_reports_that_it_serves_should_be_looked_at_at_once(self) -> None:
        story = node_in(Phase.STARTING_SERVER).tell(reported(NodePhase.STARTING_SERVER))
        assert story.see(registered()).next_step == NextStep("advance", 0.0)
        assert story.see(looked(NodeState.UP, probe=DEAD)).next_step == NextStep("advance", LIMITS.registering_poll)


class TestPolling:
    def test_looks_should_come_further_apart_within_bounds(self) -> None:
        assert [LIMITS.poll(elapsed) for elapsed in (0, 36, 60, 120, 180, 3600)] == [3, 3, 5, 10, 15, 15]

    @pytest.mark.parametrize(("elapsed", "delay"), [(0, 3), (120, 10), (600, 15)])
    def test_the_delay_should_follow_from_the_phase_s_age(self, elapsed: float, delay: float) -> None:
        story = node_in(Phase.INSTALLING).wait(elapsed)
        assert story.see(looked(NodeState.UP)).next_step == NextStep("advance", delay)

    def test_a_provider_that_knows_better_should_decide(self) -> None:
        story = node_in(Phase.INSTALLING).wait(600)
        assert story.see(looked(NodeState.UP, look_again_seconds=0.25)).next_step == NextStep("advance", 0.25)

    def test_whether_it_calls_should_be_known_of_the_latest_attempt_and_not_of_an_earlier_one(self) -> None:
        story = releasing().tell(GONE, TAKEN)
        earlier, latest = story.record.attempts
        attempts = [earlier.model_copy(update={"calls_us": True}), latest]
        story.record = story.record.model_copy(update={"attempts": attempts})
        assert story.wait(60).see(looked(NodeState.PENDING)).next_step != NextStep("advance", LIMITS.reporting_poll)
        attempts = [earlier, latest.model_copy(update={"calls_us": True})]
        story.record = story.record.model_copy(update={"attempts": attempts})
        assert story.wait(60).see(looked(NodeState.PENDING)).next_step == NextStep("advance", LIMITS.reporting_poll)

    def test_a_serving_node_should_be_looked_at_every_second(self) -> None:
        assert node_in(Phase.REGISTERING).wait(100).see(SAME[Phase.REGISTERING]).next_step == NextStep("advance", 1.0)

    @pytest.mark.parametrize("phase", [Phase.PROVISIONING, *ON_NODE])
    def test_a_provider_that_does_not_answer_should_be_given_time(self, phase: Phase) -> None:
        story = in_phase(phase)
        assert story.see(SILENT).next_step == NextStep("advance", LIMITS.unanswered_poll)
        assert (story.phase, story.reasons) == (phase, [])

    def test_limits_should_be_given_whole(self) -> None:
        assert submitted(timeouts=Timeouts(poll_min=7)).see(looked(NodeState.PENDING)).next_step == NextStep(
            "advance", 7
        )


class TestNodeFailures:
    @pytest.mark.parametrize(
        ("said", "reason"),
        [
            ("install_failed", Reason.INSTALL_FAILED),
            ("model_fetch_failed", Reason.MODEL_FETCH_FAILED),
            ("server_failed", Reason.SERVER_FAILED),
            ("port_taken", Reason.PORT_TAKEN),
            ("something_new", Reason.SETUP_FAILED),
            (None, Reason.SETUP_FAILED),
        ],
    )
    @pytest.mark.parametrize("pushed", [True, False])
    def test_the_node_s_word_should_decide_the_reason(self, said: str | None, reason: Reason, pushed: bool) -> None:
        status = NodeStatus(phase=NodePhase.FAILED, failure=said, detail="no space left", log_tail=["E"])
        found = Reported(1, status) if pushed else Observed(NodeView(state=NodeState.UP), status)
        story = node_in(Phase.INSTALLING).tell(found)
        (failed,) = story.of(EventType.ATTEMPT_FAILED)
        assert (failed.reason, failed.message) == (reason, "no space left")
        assert (story.attempt.state, story.record.log_tail) == (AttemptState.RELEASING, ["E"])

    def test_a_failure_without_words_should_be_told_all_the_same(self) -> None:
        story = node_in(Phase.INSTALLING).tell(reported(NodePhase.FAILED))
        assert story.of(EventType.ATTEMPT_FAILED)[0].message == "The node failed without giving a reason."

    def test_the_node_s_word_should_come_before_the_provider_s(self) -> None:
        status = NodeStatus(phase=NodePhase.FAILED, failure="model_fetch_failed", detail="404")
        view = NodeView(state=NodeState.UP, failure=failure(Reason.SETUP_FAILED, "job failed"))
        assert node_in(Phase.LOADING_MODEL).tell(Observed(view, status)).reasons == [Reason.MODEL_FETCH_FAILED]

    def test_the_provider_s_word_should_do_where_the_node_s_is_missing(self) -> None:
        story = node_in(Phase.LOADING_MODEL).tell(looked(NodeState.UP, failure=failure(Reason.SETUP_FAILED)))
        assert story.reasons == [Reason.SETUP_FAILED]

    @pytest.mark.parametrize(
        ("notice", "reason"),
        [
            (NodeNotice.EVICTION, Reason.EVICTED),
            (NodeNotice.SIGTERM, Reason.NODE_LOST),
            (NodeNotice.DEADLINE, Reason.NODE_LOST),
            (NodeNotice.LEASE_LOST, Reason.NODE_LOST),
        ],
    )
    @pytest.mark.parametrize("phase", [Phase.INSTALLING, Phase.READY])
    def test_only_an_eviction_should_be_called_so(self, phase: Phase, notice: NodeNotice, reason: Reason) -> None:
        assert in_phase(phase).tell(noticed(notice)).reasons == [reason]
        assert in_phase(phase).tell(reported(NodePhase.STOPPING, notice=notice)).reasons == [reason]

    def test_a_node_that_stops_without_a_notice_should_be_lost(self) -> None:
        assert node_in(Phase.INSTALLING).tell(reported(NodePhase.STOPPING)).reasons == [Reason.NODE_LOST]


FOREIGN: list[Callable[[int], Observation]] = [
    lambda attempt: reported(NodePhase.SERVING, attempt),
    lambda attempt: reported(NodePhase.FAILED, attempt, failure="server_failed"),
    registered,
    lambda attempt: noticed(attempt=attempt),
]


class TestStrangers:
    @pytest.mark.parametrize("make", FOREIGN)
    @pytest.mark.parametrize("attempt", [1, 3])
    def test_another_attempt_s_word_should_change_nothing(
        self, make: Callable[[int], Observation], attempt: int
    ) -> None:
        story = releasing().tell(GONE, TAKEN)
        assert story.attempt.number == 2
        assert not story.decide(make(attempt)).changed

    @pytest.mark.parametrize("make", FOREIGN)
    def test_the_present_attempt_s_word_should_change_something(self, make: Callable[[int], Observation]) -> None:
        assert releasing().tell(GONE, TAKEN).decide(make(2)).changed

    @pytest.mark.parametrize("make", FOREIGN)
    @pytest.mark.parametrize("phase", [Phase.QUEUED, Phase.VALIDATING])
    def test_nobody_should_speak_before_there_is_an_attempt(
        self, make: Callable[[int], Observation], phase: Phase
    ) -> None:
        assert not in_phase(phase).decide(make(1)).changed

    @pytest.mark.parametrize("phase", ON_NODE)
    @pytest.mark.parametrize(
        "found",
        [TICK, ENABLED, TAKEN, refused(Reason.NO_CAPACITY), probed(IDLE), probed(state=NodeState.ABSENT)],
        ids=lambda found: type(found).__name__,
    )
    def test_what_does_not_belong_to_a_node_on_its_way_should_change_nothing(
        self, phase: Phase, found: Observation
    ) -> None:
        assert not node_in(phase).decide(found).changed


def test_a_story_should_be_led_to_every_phase() -> None:
    assert [in_phase(phase).phase for phase in Phase] == list(Phase)


def test_an_attempt_should_not_be_looked_at_before_it_is_due() -> None:
    story: Story = node_in(Phase.INSTALLING)
    assert story.act() == Nothing()
