"""The table of phases, the draft of a change, and acceptance."""

import re
from datetime import timedelta
from typing import Any, get_type_hints

import pytest
from pydantic import BaseModel

from gpulaunch.models.instances import EventType, Phase, Reason
from shared.domain.instance import Attempt, AttemptState, Failure, Health, InstanceRecord
from shared.domain.text import DETAIL_UNITS, FAILURE_UNITS, MESSAGE_UNITS
from shared.lifecycle.acceptance import accept
from shared.lifecycle.transition import (
    LEGAL,
    AttemptChange,
    IllegalTransitionError,
    NextStep,
    RecordChange,
    Transition,
    unchanged,
)
from tests.twins.clock import START
from tests.twins.factories import make_attempt, make_instance_id, make_record, make_request
from tests.unit.lifecycle.story import OFFERS

LATER = START + timedelta(seconds=30)
PAIRS = [(here, there) for here in Phase for there in Phase]


class TestPhases:
    def test_every_phase_should_be_in_the_table(self) -> None:
        assert set(LEGAL) == set(Phase)

    @pytest.mark.parametrize(("here", "there"), [pair for pair in PAIRS if pair[1] in LEGAL[pair[0]]])
    def test_a_legal_move_should_be_made_and_told(self, here: Phase, there: Phase) -> None:
        transition = Transition(make_record(phase=here, event_count=7), LATER)
        transition.move(there, "on it goes", Reason.EVICTED)
        decision = transition.wait_until(LATER)
        assert (decision.record.phase, decision.record.phase_since) == (there, LATER)
        (event,) = decision.events
        assert (event.type, event.phase, event.sequence, event.at) == (EventType.PHASE, there, 7, LATER)
        assert (event.duration_seconds, event.reason) == (30.0, Reason.EVICTED)
        assert event.data == {"from": here.value, "to": there.value}

    @pytest.mark.parametrize(("here", "there"), [pair for pair in PAIRS if pair[1] not in LEGAL[pair[0]]])
    def test_an_illegal_move_should_raise_and_change_nothing(self, here: Phase, there: Phase) -> None:
        record = make_record(phase=here)
        transition = Transition(record, LATER)
        with pytest.raises(IllegalTransitionError, match=f"{here.value} is not followed by {there.value}"):
            transition.move(there, "never")
        assert transition.record == record

    @pytest.mark.parametrize("phase", [Phase.TERMINATED, Phase.FAILED])
    def test_nothing_should_follow_an_end(self, phase: Phase) -> None:
        assert LEGAL[phase] == ()

    @pytest.mark.parametrize("phase", [phase for phase in Phase if not phase.ended and phase is not Phase.TERMINATING])
    def test_every_live_phase_should_be_able_to_end(self, phase: Phase) -> None:
        assert Phase.TERMINATING in LEGAL[phase]

    @pytest.mark.parametrize("phase", [phase for phase in Phase if phase is not Phase.TERMINATING])
    def test_only_terminating_should_lead_to_an_end(self, phase: Phase) -> None:
        assert not {Phase.TERMINATED, Phase.FAILED} & set(LEGAL[phase])


class TestDraft:
    def test_events_that_leave_a_gap_should_be_refused(self) -> None:
        transition = Transition(make_record(event_count=3), LATER)
        transition.event(EventType.HEALTH, "one")
        transition.record = transition.record.model_copy(update={"event_count": 5})
        with pytest.raises(IllegalTransitionError, match="leave gaps"):
            transition.wait_until(LATER)

    @pytest.mark.parametrize(("value", "legal"), [(1, True), ("1", False), (True, False)])
    def test_a_value_of_another_type_should_be_refused_and_not_converted(self, value: Any, *, legal: bool) -> None:
        transition = Transition(make_record(), LATER)
        transition.change(recoveries=value)
        if legal:
            assert transition.wait_until(LATER).record.recoveries == 1
        else:
            with pytest.raises(IllegalTransitionError):
                transition.wait_until(LATER)

    def test_the_record_it_began_with_should_stay_as_it_was(self) -> None:
        record = make_record(attempts=[make_attempt()])
        transition = Transition(record, LATER)
        transition.change_attempt(detail="new")
        transition.event(EventType.HEALTH, "something")
        assert transition.before is record
        assert (record.attempts[0].detail, record.event_count) == ("", 0)

    def test_only_the_latest_attempt_should_be_changed(self) -> None:
        transition = Transition(make_record(attempts=[make_attempt(), make_attempt(number=2)]), LATER)
        transition.change_attempt(detail="new")
        assert [attempt.detail for attempt in transition.record.attempts] == ["", "new"]

    def test_events_should_be_numbered_on_without_gaps(self) -> None:
        transition = Transition(make_record(event_count=3), LATER)
        for _ in range(3):
            transition.event(EventType.HEALTH, "something")
        decision = transition.wait_until(None)
        assert [event.sequence for event in decision.events] == [3, 4, 5]
        assert decision.record.event_count == 6

    def test_an_event_should_name_the_latest_attempt(self) -> None:
        attempts = [make_attempt(state=AttemptState.GONE), make_attempt(number=2)]
        transition = Transition(make_record(attempts=attempts), LATER)
        transition.event(EventType.HEALTH, "something")
        assert transition.wait_until(None).events[0].attempt == 2

    def test_a_duration_should_be_rounded_to_milliseconds_and_never_be_negative(self) -> None:
        transition = Transition(make_record(phase_since=LATER + timedelta(seconds=5)), LATER)
        transition.move(Phase.VALIDATING, "a clock went back")
        transition.event(EventType.ATTEMPT_FAILED, "failed", duration=1.23456)
        assert [event.duration_seconds for event in transition.wait_until(None).events] == [0.0, 1.235]

    def test_a_follow_should_be_due_when_its_message_is(self) -> None:
        decision = Transition(make_record(), LATER).requeue_after("teardown", 8.0)
        assert decision.next_step == NextStep("teardown", 8.0)
        assert (decision.record.due_at, decision.record.updated_at) == (LATER + timedelta(seconds=8), LATER)
        assert (decision.claimed, decision.changed) == (False, True)

    def test_a_rest_should_send_nothing(self) -> None:
        decision = Transition(make_record(), LATER).wait_until(LATER + timedelta(hours=1))
        assert decision.next_step is None
        assert (decision.record.due_at, decision.record.updated_at) == (LATER + timedelta(hours=1), LATER)

    def test_unchanged_should_write_and_send_nothing(self) -> None:
        record = make_record()
        decision = unchanged(record)
        assert decision.record is record
        assert (decision.events, decision.next_step, decision.claimed, decision.changed) == ((), None, False, False)


class TestNonsense:
    @pytest.mark.parametrize(
        ("kind", "change"), [(InstanceRecord, RecordChange), (Attempt, AttemptChange)], ids=["record", "attempt"]
    )
    def test_what_may_change_should_be_fields_of_their_types(self, kind: type[BaseModel], change: type[Any]) -> None:
        fields, hints = get_type_hints(kind), get_type_hints(change)
        assert hints.keys() < fields.keys()
        assert {name: fields[name] for name in hints} == hints

    @pytest.mark.parametrize("name", ["deadline_att", "phase", "deadline_at", "instance_id", "event_count", "due_at"])
    def test_a_field_that_does_not_exist_or_is_not_to_be_set_should_be_refused(self, name: str) -> None:
        fields: Any = {name: None}
        with pytest.raises(IllegalTransitionError, match=f"a record has no {name} to change"):
            Transition(make_record(), LATER).change(**fields)

    @pytest.mark.parametrize("name", ["node_fase", "number", "offer", "cluster_name", "started_at"])
    def test_so_should_one_of_an_attempt(self, name: str) -> None:
        fields: Any = {name: None}
        with pytest.raises(IllegalTransitionError, match=f"an attempt has no {name} to change"):
            Transition(make_record(attempts=[make_attempt()]), LATER).change_attempt(**fields)

    @pytest.mark.parametrize(
        ("of_record", "of_attempt", "message"),
        [
            ({"ends_as": "no-such-phase"}, {}, "InstanceRecord: .*ends_as"),
            ({"recoveries": "two"}, {}, "InstanceRecord: .*recoveries"),
            ({}, {"port": "not a port"}, "Attempt: .*port"),
            ({}, {"state": "no-such-state"}, "Attempt: .*state"),
            ({}, {"gone_at": "today"}, "Attempt: .*gone_at"),
            ({"epoch": 0}, {}, "the epoch went back"),
            ({"attempts": []}, {}, "an attempt was lost"),
            ({"attempts": [make_attempt(number=2)]}, {}, r"attempts are numbered \[2\]"),
            ({"attempts": [make_attempt(), make_attempt(number=2)]}, {}, r"attempt \[1\] may still have a node"),
        ],
    )
    def test_a_value_that_makes_no_sense_should_never_become_a_decision(
        self, of_record: Any, of_attempt: Any, message: str
    ) -> None:
        transition = Transition(make_record(attempts=[make_attempt()]), LATER)
        transition.change_attempt(**of_attempt)
        transition.change(**of_record)
        with pytest.raises(IllegalTransitionError, match=re.compile(message, re.DOTALL)):
            transition.wait_until(None)

    def test_a_phase_that_does_not_exist_should_be_refused(self) -> None:
        with pytest.raises(IllegalTransitionError, match="queued is not followed by no-such-phase"):
            Transition(make_record(), LATER).move(Phase("no-such-phase"), "never")

    def test_an_end_should_be_refused_while_a_node_may_be_left(self) -> None:
        record = make_record(phase=Phase.TERMINATING, attempts=[make_attempt(state=AttemptState.RELEASING)])
        transition = Transition(record, LATER)
        transition.move(Phase.TERMINATED, "too early")
        with pytest.raises(IllegalTransitionError, match=r"in terminated, attempt \[1\] may still have a node"):
            transition.wait_until(None)

    def test_fields_of_a_later_version_should_survive(self) -> None:
        attempt = Attempt.model_validate(make_attempt().model_dump() | {"disk_id": "d-1"})
        record = InstanceRecord.model_validate(make_record().model_dump() | {"paused": True, "attempts": [attempt]})
        transition = Transition(record, LATER)
        transition.change_attempt(detail="new")
        stored = transition.wait_until(None).record.model_dump()
        assert (stored["paused"], stored["attempts"][0]["disk_id"]) == (True, "d-1")


class TestTexts:
    def texts(self, text: str) -> list[str]:
        """What is stored of a text in each place that a node, a provider or a probe can fill."""
        transition = Transition(make_record(attempts=[make_attempt()], phase=Phase.READY), LATER)
        failure = Failure(reason=Reason.SERVER_FAILED, message=text)
        attempt = transition.change_attempt(detail=text, failure=failure)
        transition.change(ending=failure, health=Health(since=START, message=text))
        transition.event(EventType.HEALTH, text)
        (event,) = transition.wait_until(LATER).events
        record = transition.record
        assert attempt.failure is not None
        assert record.health is not None
        assert record.ending is not None
        return [attempt.detail, attempt.failure.message, record.health.message, record.ending.message, event.message]

    def test_long_ones_should_be_cut_wherever_they_enter(self) -> None:
        most = [DETAIL_UNITS, FAILURE_UNITS, DETAIL_UNITS, MESSAGE_UNITS, MESSAGE_UNITS]
        assert [len(text) <= limit for text, limit in zip(self.texts("x" * 9_000), most, strict=True)] == [True] * 5

    def test_short_ones_should_stay(self) -> None:
        assert self.texts("a port is taken") == ["a port is taken"] * 5


class TestAcceptance:
    def test_a_new_instance_should_be_queued_and_due_at_once(self) -> None:
        record, events = accept(
            make_request(),
            instance_id=make_instance_id(),
            now=START,
            offers=OFFERS,
            mode="simulation",
            mode_reason="asked for",
            lifetime_minutes=90,
            estimated_hourly_usd=0.64,
            worst_case_usd=0.96,
            excluded={"an-offer": "no quota"},
            traceparent="00-aa-bb-01",
        )
        assert (record.mode, record.mode_reason, record.traceparent) == ("simulation", "asked for", "00-aa-bb-01")
        assert (record.created_at, record.updated_at, record.phase_since) == (START, START, START)
        assert (record.phase, record.due_at, record.epoch, record.attempts) == (Phase.QUEUED, START, 1, [])
        assert record.deadline_at == START + timedelta(minutes=90)
        assert record.offers == list(OFFERS)
        assert (record.estimated_hourly_usd, record.worst_case_usd) == (0.64, 0.96)
        (event,) = events
        assert (event.sequence, event.type, event.phase) == (0, EventType.ACCEPTED, Phase.QUEUED)
        assert event.message == "Launch of meta-llama/Llama-3.1-8B-Instruct on azure accepted (simulation)."
        assert event.data.get("offers") == [offer.key for offer in OFFERS]
        assert event.data.get("left_out") == {"an-offer": "no quota"}
        assert record.event_count == 1
