"""Random lives: steps as they are due and anything else at any time, against what has to hold always."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from gpulaunch.models.instances import EventType, Phase, Reason
from shared.domain.instance import AttemptState, Failure, InstanceRecord
from shared.domain.node import JobResult, NodeNotice, NodePhase, NodeRegistration, NodeStatus
from shared.domain.provider import Availability, NodeState, NodeView, Probe
from shared.lifecycle.observations import (
    Act,
    Checked,
    CheckProvider,
    Decide,
    Describe,
    LaunchRefused,
    NotEnabled,
    Nothing,
    Noticed,
    Observation,
    Observed,
    Poisoned,
    Probed,
    ProviderUnavailable,
    Registered,
    Release,
    Released,
    Reported,
    Submit,
    Submitted,
    TerminationRequested,
)
from shared.lifecycle.timeouts import Timeouts
from shared.lifecycle.transition import LEGAL, Decision
from tests.unit.lifecycle.story import ENABLED, GONE, IDLE, OFFERS, STILL_THERE, TAKEN, TICK, Story

LIMITS = Timeouts(max_attempts=3, max_recoveries=2)
SILENT = ProviderUnavailable("no answer")
LOCKED_OUT = NotEnabled("not set up")
MOST_STEPS = 40
"""Steps after the deadline that any instance may need to end when every release succeeds."""

attempts = st.integers(1, 4)
counts = st.one_of(st.none(), st.integers(0, 3).map(float))
reasons = st.sampled_from(
    [
        Reason.NO_CAPACITY,
        Reason.QUOTA_EXCEEDED,
        Reason.SETUP_FAILED,
        Reason.PORT_TAKEN,
        Reason.PROVIDER_UNAVAILABLE,
        Reason.INVALID_TASK,
    ]
)
failures = st.builds(Failure, reason=reasons, message=st.just("it did not work"))
probes = st.builds(
    Probe, alive=st.booleans(), running_requests=counts, waiting_requests=counts, finished_requests=counts
)
views = st.builds(
    NodeView,
    state=st.sampled_from(list(NodeState)),
    address=st.sampled_from([None, "10.0.0.4"]),
    failure=st.one_of(st.none(), st.none(), st.none(), failures),
    look_again_seconds=st.sampled_from([None, None, 0.5, 20.0]),
)
statuses = st.builds(
    NodeStatus,
    phase=st.sampled_from(list(NodePhase)),
    failure=st.sampled_from([None, "install_failed", "port_taken", "unheard_of"]),
    notice=st.sampled_from([None, None, None, *NodeNotice]),
    job=st.sampled_from([None, None, None, JobResult(exit_code=0)]),
    fetched_bytes=st.one_of(st.none(), st.integers(0, 10)),
    log_tail=st.lists(st.just("line"), max_size=3),
)
looks = st.builds(Observed, views, st.one_of(st.none(), statuses), st.one_of(st.none(), probes))
checks = st.one_of(
    st.just(ENABLED),
    st.just(ENABLED),
    st.builds(
        Checked,
        st.builds(
            Availability,
            enabled=st.booleans(),
            reason=st.just("because"),
            wait_seconds=st.sampled_from([0.0, 2.0]),
        ),
    ),
)
trouble = st.sampled_from([SILENT, LOCKED_OUT])
told: st.SearchStrategy[Reported | Registered | Noticed | Probed] = st.one_of(
    st.builds(Reported, attempts, statuses),
    st.builds(Registered, attempts, st.just(NodeRegistration(port=8000))),
    st.builds(Noticed, attempts, st.sampled_from(list(NodeNotice)), st.none()),
    st.builds(Probed, probes, st.one_of(st.none(), views)),
)
anything: st.SearchStrategy[Observation] = st.one_of(
    st.just(TICK),
    checks,
    st.just(TAKEN),
    st.builds(Submitted, st.none()),
    st.builds(LaunchRefused, failures),
    trouble,
    looks,
    st.builds(Released, st.booleans()),
    st.builds(Poisoned, st.integers(0, 4), st.sampled_from(["message-0", "message-1", "message-2", "message-3"])),
    told,
)
GOOD: dict[type[Act], st.SearchStrategy[Observation]] = {
    Decide: st.just(TICK),
    CheckProvider: st.just(ENABLED),
    Submit: st.just(TAKEN),
    Describe: st.builds(
        Observed,
        st.just(NodeView(state=NodeState.UP, address="10.0.0.4")),
        st.builds(
            NodeStatus,
            phase=st.sampled_from(
                [NodePhase.INSTALLING, NodePhase.LOADING_MODEL, NodePhase.STARTING_SERVER, NodePhase.SERVING]
            ),
        ),
        st.just(IDLE),
    ),
    Release: st.just(GONE),
}
BAD: dict[type[Act], st.SearchStrategy[Observation]] = {
    Decide: st.just(TICK),
    CheckProvider: st.one_of(checks, trouble),
    Submit: st.one_of(st.builds(LaunchRefused, failures), trouble),
    Describe: st.one_of(looks, trouble),
    Release: st.one_of(st.just(STILL_THERE), trouble),
}
"""What a step may find; never something that belongs to another act."""
WORST: dict[type[Act], Observation] = {
    Decide: TICK,
    CheckProvider: Checked(Availability(enabled=False, reason="still checking", wait_seconds=2.0)),
    Submit: SILENT,
    Describe: SILENT,
    Release: GONE,
}
"""A provider that answers nothing but releases."""
pauses = st.sampled_from([0.0, 0.4, 3.0, 3.0, 30.0, 30.0, 95.0, 700.0])


def lives(machine: "Lives") -> bool:
    return not machine.story.record.ended


def in_ready(machine: "Lives") -> bool:
    return machine.story.phase is Phase.READY


def has_node(machine: "Lives") -> bool:
    return lives(machine) and machine.story.record.attempt is not None


class Lives(RuleBasedStateMachine):
    """One instance, led at random."""

    def __init__(self) -> None:
        super().__init__()
        self.story = Story()
        self.claimed = False

    @initialize(
        offers=st.sampled_from([3, 3, 2, 1, 0]),
        idle=st.sampled_from([None, 10]),
        budget=st.sampled_from([None, 1.0]),
    )
    def begin(self, offers: int, idle: int | None, budget: float | None) -> None:
        self.story = Story(offers=OFFERS[:offers], timeouts=LIMITS, lifetime=240, idle_minutes=idle, budget_usd=budget)

    def take(self, found: Observation) -> Decision:
        before = self.story.record
        decision = self.story.see(found)
        check(before, decision)
        self.claimed = decision.claimed
        return decision

    def step(self, answer: Callable[[Act], Observation]) -> None:
        """A step as the engine makes it, on time."""
        record = self.story.record
        if record.ended:
            return
        if not self.claimed and record.due_at is not None and record.due_at > self.story.now:
            self.story.now = record.due_at + timedelta(milliseconds=1)
        act = self.story.act(claimed=self.claimed)
        assert not isinstance(act, Nothing), "a step that is due has something to do"
        decision = self.take(answer(act))
        assert decision.changed, f"{act} in {record.phase} found something and left the record overdue"

    @precondition(lives)
    @rule(data=st.data(), steps=st.integers(1, 12))
    def steps_that_go_well(self, data: st.DataObject, steps: int) -> None:
        for _ in range(steps):
            if self.story.phase is Phase.READY:
                break
            self.step(lambda act: data.draw(GOOD[type(act)]))

    @precondition(lives)
    @rule(data=st.data())
    def a_step_that_finds_trouble(self, data: st.DataObject) -> None:
        self.step(lambda act: data.draw(BAD[type(act)]))

    @precondition(in_ready)
    @rule(probe=probes, view=st.one_of(st.none(), views))
    def a_ready_node_is_probed(self, probe: Probe, view: NodeView | None) -> None:
        self.take(Probed(probe, view))

    @rule(found=anything)
    def anything_at_all(self, found: Observation) -> None:
        self.take(found)

    @precondition(has_node)
    @rule(found=told)
    def the_present_node_speaks(self, found: Observation) -> None:
        self.take(found if isinstance(found, Probed) else replace(found, attempt=self.story.attempt.number))

    @precondition(lives)
    @rule(seconds=pauses)
    def time_passes(self, seconds: float) -> None:
        self.story.wait(seconds)
        # Whoever had claimed a submission has died meanwhile.
        self.claimed = self.claimed and seconds < 1

    @rule(reason=st.sampled_from([Reason.USER_REQUEST, Reason.POISON_MESSAGE]), luck=st.integers(0, 9))
    def an_end_is_asked_for(self, reason: Reason, luck: int) -> None:
        if luck == 7:
            self.take(TerminationRequested(Failure(reason=reason, message="asked for")))

    @invariant()
    def the_record_is_sound(self) -> None:
        record = self.story.record
        live = [attempt for attempt in record.attempts if attempt.state is not AttemptState.GONE]
        assert len(live) <= 1
        assert live == record.attempts[-1:] or not live
        assert record.tried_in_round <= LIMITS.max_attempts
        assert len(record.attempts) <= LIMITS.max_attempts * LIMITS.same_offer * (LIMITS.max_recoveries + 1)
        assert record.recoveries <= LIMITS.max_recoveries
        assert [attempt.number for attempt in record.attempts] == list(range(1, len(record.attempts) + 1))
        assert len({attempt.cluster_name for attempt in record.attempts}) == len(record.attempts)
        assert (record.due_at is None) is record.ended, "the sweep can revive every live record"
        assert (record.ended_at is not None) is record.ended
        assert (record.phase is Phase.TERMINATING or record.ended) is (record.ending is not None)
        if record.ended:
            assert live == []
            assert record.phase.value == record.ends_as
        if record.phase is Phase.READY:
            assert record.attempts[-1].state is AttemptState.SUBMITTED
            assert record.due_at is not None
            assert record.due_at <= record.deadline_at
        assert InstanceRecord.model_validate_json(record.model_dump_json()).phase is record.phase

    @invariant()
    def the_story_is_whole(self) -> None:
        events = self.story.events
        assert [event.sequence for event in events] == list(range(len(events)))
        assert self.story.record.event_count == len(events)
        assert all(earlier.at <= later.at for earlier, later in pairwise(events))
        assert all(event.duration_seconds is not None for event in events if event.type is EventType.PHASE)
        phases = [Phase.QUEUED, *(event.phase for event in events if event.type is EventType.PHASE)]
        assert all(there in LEGAL[here] for here, there in pairwise(phases))
        assert phases[-1] is self.story.phase
        alerts = [event.attempt for event in events if event.type is EventType.ALERT]
        assert len(alerts) == len(set(alerts)), "one alert for each attempt"
        failed = [event.attempt for event in events if event.type is EventType.ATTEMPT_FAILED]
        assert len(failed) == len(set(failed)), "an attempt fails once"

    def teardown(self) -> None:
        """Whatever happened, every instance ends after its deadline: no state hangs."""
        story = self.story
        story.now = max(story.now, story.record.deadline_at)
        self.claimed = False
        for _ in range(MOST_STEPS):
            if story.record.ended:
                break
            self.step(lambda act: WORST[type(act)])
            self.the_record_is_sound()
        assert story.record.ended


def check(before: InstanceRecord, decision: Decision) -> None:
    """What holds for every single decision."""
    after = decision.record
    if not decision.changed:
        assert after is before
        assert (decision.events, decision.next_step, decision.claimed) == ((), None, False)
        return
    assert not before.ended, "an ended record never changes"
    assert after.epoch >= before.epoch
    assert after.instance_id == before.instance_id
    assert after.deadline_at == before.deadline_at
    assert after.request == before.request
    begun = len(after.attempts) - len(before.attempts)
    assert begun in (0, 1)
    if begun == 1 or decision.claimed:
        assert decision.claimed, "an attempt is written by the step that submits it"
        assert after.attempts[-1].state is AttemptState.SUBMITTING
    for old, new in zip(before.attempts, after.attempts, strict=False):
        if old.state is AttemptState.GONE:
            assert new == old, "what is gone stays as it was"
        if new.state is AttemptState.GONE and old.state is not AttemptState.GONE:
            assert old.state is AttemptState.RELEASING
            assert new.gone_at is not None
            assert new.gone_at >= new.submit_lease_until
    if decision.next_step is not None:
        assert decision.next_step.delay_seconds >= 0
        assert (decision.next_step.step == "teardown") is (after.phase is Phase.TERMINATING)


TestLives = Lives.TestCase
TestLives.settings = settings(
    max_examples=150,
    stateful_step_count=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
