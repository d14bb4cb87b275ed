"""One step: which messages count, what is written before what, and when the next message is sent."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from gpulaunch.deadlines import time_limit
from gpulaunch.models.instances import Phase
from shared.billing.gate import LedgerGate
from shared.billing.ledger import AttemptCosts
from shared.catalog.snapshot import snapshot
from shared.control import step
from shared.control.observer import Observer
from shared.control.records import Lifecycle, Records, RecordWriter
from shared.control.step import StepRunner
from shared.domain.errors import MessageError
from shared.domain.instance import AttemptState, InstanceRecord
from shared.domain.messages import StepMessage
from shared.domain.provider import Availability, NodeState, NodeView
from shared.errors import StaleRecordError
from shared.lifecycle.observations import (
    Act,
    Checked,
    CheckProvider,
    Decide,
    Describe,
    Observation,
    Observed,
    ProviderUnavailable,
    Release,
    Released,
    Submit,
    Submitted,
    TimerFired,
)
from shared.lifecycle.transition import Decision, NextStep
from shared.observability.instances import InstanceTelemetry
from shared.queues import LAUNCHES, TEARDOWNS
from shared.storage import rows
from shared.storage.base import Versioned
from tests.contract.test_unreadable_rows import later_phase, rewrite
from tests.twins.clock import START, ManualClock
from tests.twins.factories import make_attempt, make_event, make_instance_id, make_record
from tests.twins.queues import MemoryQueues
from tests.twins.store import MemoryInstanceStore

ID = make_instance_id()
ENABLED = Checked(Availability(enabled=True, reason="it is enabled"))


@dataclass
class Seen:
    """Stands for the observer: what each act finds, and what was stored when it was carried out."""

    store: MemoryInstanceStore
    found: dict[type[Act], Observation] = field(default_factory=dict[type[Act], Observation])
    acts: list[tuple[type[Act], Phase, AttemptState | None]] = field(
        default_factory=list[tuple[type[Act], Phase, AttemptState | None]]
    )

    def perform(self, record: InstanceRecord, act: Act) -> Observation:
        stored = self.store.load(record.instance_id)
        assert stored is not None
        attempt = stored.record.attempt
        self.acts.append((type(act), stored.record.phase, None if attempt is None else attempt.state))
        return self.found.get(type(act), TimerFired())


class NeverDone(Lifecycle):
    """A lifecycle whose every step asks for the next one at once."""

    def decide(self, record: InstanceRecord, observed: Observation) -> Decision:
        return Decision(record=record, next_step=NextStep("advance", 0.0))


class Steps:
    def __init__(self, make: Callable[[ManualClock], Lifecycle] = Lifecycle, **given: Any) -> None:
        self.clock, self.store = ManualClock(), MemoryInstanceStore()
        self.queues, self.slept = MemoryQueues(self.clock), list[float]()
        self.seen = Seen(self.store)
        self.seen.found = {
            CheckProvider: ENABLED,
            Submit: Submitted("request-1"),
            Describe: Observed(NodeView(state=NodeState.PENDING)),
            Release: Released(gone=True),
        }
        gate = LedgerGate(self.store, self.slept.append)
        writer = RecordWriter(self.store, gate, AttemptCosts(snapshot()), InstanceTelemetry())
        lifecycle = make(self.clock)
        records = Records(self.store, writer, lifecycle, self.queues, [], self.slept.append)
        observer = cast("Observer", self.seen)
        self.steps = StepRunner(self.store, observer, records, lifecycle, InstanceTelemetry(), self._sleep)
        self.store.create(
            make_record(**{"event_count": 1, "mode": "real", "due_at": None} | given), [make_event()], None
        )
        self.store.calls.seen.clear()

    def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.clock.advance(seconds)

    def run(self, step: Any = "advance", epoch: int | None = None) -> None:
        self.steps.run(StepMessage(instanceId=ID, epoch=self.record.epoch if epoch is None else epoch, step=step))

    @property
    def stored(self) -> Versioned:
        found = self.store.load(ID)
        assert found is not None
        return found

    @property
    def record(self) -> InstanceRecord:
        return self.stored.record

    @property
    def acts(self) -> list[type[Act]]:
        return [act for act, _, _ in self.seen.acts]


def test_a_launch_should_go_as_far_as_it_goes_without_waiting() -> None:
    steps = Steps()
    steps.run()
    assert steps.acts == [Decide, CheckProvider, Submit, Describe]
    assert (steps.record.phase, steps.record.attempts[0].request_id) == (Phase.PROVISIONING, "request-1")
    assert (steps.queues.depth(LAUNCHES), steps.queues.depth(TEARDOWNS)) == (1, 0)


def test_an_attempt_should_be_stored_before_it_is_submitted_and_its_answer_before_it_is_looked_at() -> None:
    steps = Steps()
    steps.run()
    stored = {act: (phase, state) for act, phase, state in steps.seen.acts}
    assert stored[Submit] == (Phase.PROVISIONING, AttemptState.SUBMITTING)
    assert stored[Describe] == (Phase.PROVISIONING, AttemptState.SUBMITTED)


def test_events_of_steps_that_are_written_together_should_all_be_stored() -> None:
    steps = Steps()
    steps.run()
    events = steps.store.events(ID)
    assert [event.sequence for event in events] == list(range(steps.record.event_count))
    assert {Phase.VALIDATING, Phase.PROVISIONING} <= {event.phase for event in events}
    assert steps.store.calls.count("commit") == 3


def test_a_submission_without_an_answer_should_not_be_repeated_by_the_same_step() -> None:
    steps = Steps()
    steps.seen.found[Submit] = ProviderUnavailable("no answer")
    steps.run()
    assert steps.acts.count(Submit) == 1
    assert steps.record.attempts[0].state is AttemptState.SUBMITTING
    assert steps.queues.depth(LAUNCHES) == 1


def test_one_whose_lease_another_step_holds_should_not_be_submitted() -> None:
    steps = Steps(phase=Phase.PROVISIONING, attempts=[make_attempt()])
    steps.run()
    assert Submit not in steps.acts
    assert steps.record.attempts[0].state is AttemptState.SUBMITTING


def test_a_step_that_meets_another_one_should_stop_quietly() -> None:
    steps = Steps()
    steps.store.calls.fail_next("commit", StaleRecordError("another step was first"))
    steps.run()
    assert Submit not in steps.acts
    assert steps.queues.calls.seen == []


@pytest.mark.parametrize(("epoch", "acts"), [(0, 0), (1, 1), (2, 1)])
def test_a_message_of_an_earlier_epoch_should_be_dropped(epoch: int, acts: int) -> None:
    steps = Steps(phase=Phase.PROVISIONING, epoch=1, attempts=[make_attempt(state=AttemptState.SUBMITTED)])
    steps.run(epoch=epoch)
    assert len(steps.acts) == acts


def test_a_message_that_comes_early_should_do_nothing() -> None:
    steps = Steps()
    due = steps.clock.now()
    steps.run()
    assert steps.record.due_at is not None
    assert steps.record.due_at > due
    before = steps.stored
    steps.run()
    assert steps.stored == before
    assert steps.queues.depth(LAUNCHES) == 1


def test_a_message_about_nothing_should_be_an_error_and_one_about_a_row_that_cannot_be_read_none() -> None:
    steps = Steps()
    with pytest.raises(MessageError):
        steps.steps.run(StepMessage(instanceId=make_instance_id(9), epoch=0, step="advance"))
    rewrite(steps.store, rows.record_key(ID, ended=False), later_phase)
    steps.steps.run(StepMessage(instanceId=ID, epoch=0, step="advance"))
    assert (steps.acts, steps.store.calls.count("commit")) == ([], 0)


def test_a_failed_attempt_should_be_released_and_the_next_one_begun_by_one_step() -> None:
    steps = Steps(
        phase=Phase.PROVISIONING, tried_in_round=1, next_offer=1, attempts=[make_attempt(state=AttemptState.RELEASING)]
    )
    steps.clock.advance(300)
    steps.run()
    assert 0 not in steps.slept
    assert steps.acts == [Release, Submit, Describe]
    assert [attempt.state for attempt in steps.record.attempts] == [AttemptState.GONE, AttemptState.SUBMITTED]


def test_an_end_that_is_not_confirmed_should_go_on_among_the_teardowns() -> None:
    steps = Steps(phase=Phase.TERMINATING, ends_as="terminated", attempts=[make_attempt(state=AttemptState.RELEASING)])
    steps.seen.found[Release] = Released(gone=False)
    steps.run("teardown")
    assert steps.acts == [Release]
    assert (steps.queues.depth(TEARDOWNS), steps.queues.depth(LAUNCHES)) == (1, 0)
    assert steps.slept == []


def test_a_confirmed_end_should_send_nothing() -> None:
    steps = Steps(phase=Phase.TERMINATING, ends_as="terminated", attempts=[make_attempt(state=AttemptState.RELEASING)])
    steps.clock.advance(300)
    steps.run("teardown")
    assert (steps.record.phase, steps.queues.calls.seen) == (Phase.TERMINATED, [])


def test_an_end_that_begins_should_be_left_to_the_teardowns() -> None:
    steps = Steps(phase=Phase.PROVISIONING, deadline_at=START, attempts=[make_attempt(state=AttemptState.SUBMITTED)])
    steps.clock.advance(60)
    steps.run()
    assert (steps.record.phase, Release in steps.acts) == (Phase.TERMINATING, False)
    assert (steps.queues.depth(TEARDOWNS), steps.queues.depth(LAUNCHES)) == (1, 0)


def test_a_step_that_does_not_come_to_an_end_should_go_on_by_a_message() -> None:
    steps = Steps(NeverDone, phase=Phase.PROVISIONING, attempts=[make_attempt(state=AttemptState.SUBMITTED)])
    steps.run()
    assert len(steps.acts) == step._ROUNDS  # pyright: ignore[reportPrivateUsage]
    assert (steps.queues.depth(LAUNCHES), steps.slept) == (1, [])


class Once(Lifecycle):
    """A lifecycle whose first step asks for the next one after `delay`, and whose second one for nothing."""

    delay = 0.0
    asked = 0

    def decide(self, record: InstanceRecord, observed: Observation) -> Decision:
        self.asked += 1
        return Decision(record=record, next_step=NextStep("advance", self.delay) if self.asked == 1 else None)


@pytest.mark.parametrize(
    ("delay", "slept", "sent"), [(0.0, [], 0), (0.1, [0.1], 0), (0.9, [0.9], 0), (1.0, [], 1), (60.0, [], 1)]
)
def test_a_pause_of_less_than_a_second_should_be_made_here_and_a_longer_one_by_a_message(
    delay: float, slept: list[float], sent: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Once, "delay", delay)
    steps = Steps(Once, phase=Phase.PROVISIONING, attempts=[make_attempt(state=AttemptState.SUBMITTED)])
    steps.run()
    assert (steps.slept, steps.queues.depth(LAUNCHES), len(steps.acts)) == (slept, sent, 2 - sent)


@pytest.mark.parametrize(("left", "rounds"), [(step.ACT_SECONDS - 5, 1), (step.ACT_SECONDS + 60, step._ROUNDS)])  # pyright: ignore[reportPrivateUsage]
def test_a_round_should_begin_only_where_its_act_can_end_in_time(left: float, rounds: int) -> None:
    steps = Steps(NeverDone, phase=Phase.PROVISIONING, attempts=[make_attempt(state=AttemptState.SUBMITTED)])
    with time_limit(left):
        steps.run()
    assert (len(steps.acts), steps.queues.depth(LAUNCHES)) == (rounds, 1)


def test_a_record_that_waits_for_nothing_should_be_left_as_it_is() -> None:
    steps = Steps(phase=Phase.TERMINATED, ended_at=START)
    steps.run()
    assert (steps.acts, steps.store.calls.count("commit"), steps.queues.calls.seen) == ([], 0, [])
