"""How records change: on the newest state, written before anything else follows, and told to whoever listens."""

import logging
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest

from gpulaunch.models.instances import Phase
from shared.billing.gate import LedgerGate
from shared.billing.ledger import AttemptCosts
from shared.catalog.snapshot import snapshot
from shared.control.records import Lifecycle, Records, RecordWriter, queue_of
from shared.domain.instance import AttemptState, Event, InstanceRecord
from shared.domain.money import Account, Reservation
from shared.errors import RowTooLargeError, StaleRecordError, StoreUnavailableError
from shared.lifecycle.observations import Poisoned, Released, TerminationRequested, TimerFired
from shared.lifecycle.rules import user_asked
from shared.observability.instances import InstanceTelemetry
from shared.queues import LAUNCHES, TEARDOWNS
from shared.storage.base import Booking, Versioned, VersionedLedger
from tests.twins.clock import START, ManualClock
from tests.twins.factories import make_attempt, make_event, make_instance_id, make_record
from tests.twins.queues import MemoryQueues
from tests.twins.store import MemoryInstanceStore

ASKED = TerminationRequested(user_asked())
ID = make_instance_id()


class Listener:
    def __init__(self, store: MemoryInstanceStore) -> None:
        self._store = store
        self.heard: list[tuple[Phase, Phase, Phase]] = []
        """Before, after, and what was stored by then."""

    def committed(self, before: InstanceRecord, after: InstanceRecord, events: Sequence[Event]) -> None:
        stored = self._store.load(after.instance_id)
        assert stored is not None
        assert events
        self.heard.append((before.phase, after.phase, stored.record.phase))


class Changing:
    def __init__(self, **given: Any) -> None:
        self.store, self.clock = MemoryInstanceStore(), ManualClock()
        self.queues = MemoryQueues(self.clock)
        self.paused: list[float] = []
        self.listener = Listener(self.store)
        gate = LedgerGate(self.store, self.paused.append)
        writer = RecordWriter(self.store, gate, AttemptCosts(snapshot()), InstanceTelemetry())
        self.lifecycle = Lifecycle(self.clock)
        self.records = Records(self.store, writer, self.lifecycle, self.queues, [self.listener], self.paused.append)
        self.store.create(make_record(**{"event_count": 1} | given), [make_event()], None)
        self.store.calls.seen.clear()

    @property
    def stored(self) -> Versioned:
        found = self.store.load(ID)
        assert found is not None
        return found

    def others_are_first(self, times: int) -> None:
        for _ in range(times):
            self.store.calls.fail_next("commit", StaleRecordError("somebody else was first"))


class TestChange:
    def test_it_should_be_written_told_and_followed_up(self) -> None:
        changing = Changing(attempts=[make_attempt()], phase=Phase.PROVISIONING)
        changed = changing.records.change(ID, ASKED)
        assert changed is not None
        assert (changed, changed.phase) == (changing.stored.record, Phase.TERMINATING)
        assert changing.listener.heard == [(Phase.PROVISIONING, Phase.TERMINATING, Phase.TERMINATING)]
        assert (changing.queues.depth(TEARDOWNS), changing.queues.depth(LAUNCHES)) == (1, 0)

    def test_an_observation_that_changes_nothing_should_do_nothing(self) -> None:
        changing = Changing()
        assert changing.records.change(ID, Poisoned(0, "message-0")) == changing.stored.record
        assert changing.store.calls.count("commit") == 0
        assert (changing.listener.heard, changing.queues.calls.seen) == ([], [])

    def test_an_end_without_a_node_should_need_no_further_step(self) -> None:
        changing = Changing()
        changed = changing.records.change(ID, ASKED)
        assert changed is not None
        assert (changed.phase, changing.queues.calls.seen) == (Phase.TERMINATED, [])

    def test_an_unknown_instance_should_be_none(self) -> None:
        assert Changing().records.change(make_instance_id(9), ASKED) is None

    def test_what_the_caller_has_read_should_not_be_read_again(self) -> None:
        changing = Changing()
        before = changing.stored
        changing.store.calls.seen.clear()
        changing.records.change(ID, ASKED, before)
        assert changing.store.calls.seen[0] == "commit"

    def test_a_stale_record_should_be_read_and_decided_on_anew(self) -> None:
        changing = Changing()
        old = changing.stored
        changing.records.change(ID, TimerFired())
        changed = changing.records.change(ID, ASKED, old)
        assert changed is not None
        assert changed == changing.stored.record
        assert changed.event_count > old.record.event_count + 2
        assert len(changing.paused) == 1

    @pytest.mark.parametrize("times", [1, 7])
    def test_others_who_are_first_should_be_outlasted(self, times: int) -> None:
        changing = Changing()
        changing.others_are_first(times)
        assert changing.records.change(ID, ASKED) is not None
        assert changing.stored.record.ended
        assert len(changing.paused) == times
        assert all(0 < seconds <= 0.5 for seconds in changing.paused)

    def test_others_who_are_always_first_should_be_told_and_nothing_follow(self) -> None:
        changing = Changing(attempts=[make_attempt()], phase=Phase.PROVISIONING)
        changing.others_are_first(8)
        with pytest.raises(StaleRecordError):
            changing.records.change(ID, ASKED)
        assert changing.store.calls.count("commit") == 8
        assert (changing.listener.heard, changing.queues.calls.seen) == ([], [])

    @pytest.mark.parametrize("applied", [True, False])
    def test_storage_without_an_answer_should_not_be_asked_again_here(self, *, applied: bool) -> None:
        changing = Changing(attempts=[make_attempt()], phase=Phase.PROVISIONING)
        changing.store.calls.fail_next("commit", StoreUnavailableError("no answer"), applied=applied)
        with pytest.raises(StoreUnavailableError):
            changing.records.change(ID, ASKED)
        assert (changing.listener.heard, changing.queues.calls.seen) == ([], [])

    def test_a_message_that_is_lost_should_not_undo_what_is_written(self) -> None:
        changing = Changing(attempts=[make_attempt()], phase=Phase.PROVISIONING)
        changing.queues.calls.fail_next("send", StoreUnavailableError("no answer"))
        with pytest.raises(StoreUnavailableError):
            changing.records.change(ID, ASKED)
        assert changing.stored.record.phase is Phase.TERMINATING

    def test_a_record_without_room_should_be_written_without_its_log(self) -> None:
        changing = Changing(log_tail=["a line"])
        changing.store.calls.fail_next("commit", RowTooLargeError("too large"))
        changing.records.change(ID, ASKED)
        assert (changing.stored.record.ended, changing.stored.record.log_tail) == (True, [])
        assert [after for _, after, _ in changing.listener.heard] == [Phase.TERMINATED]

    def test_what_is_returned_and_told_should_be_what_was_written(self) -> None:
        changing = Changing(log_tail=["a line"], attempts=[make_attempt()], phase=Phase.PROVISIONING)
        changing.store.calls.fail_next("commit", RowTooLargeError("too large"))
        changed = changing.records.change(ID, ASKED)
        assert changed == changing.stored.record
        assert changed is not None
        assert changed.log_tail == []

    def test_one_with_room_should_keep_it(self) -> None:
        changing = Changing(log_tail=["a line"])
        changing.records.change(ID, ASKED)
        assert changing.stored.record.log_tail == ["a line"]


class TestSettling:
    HELD = Reservation(month="2026-01", scopes=("simulation",), micro_usd=9, gpus=1)

    def reserved(self, **given: Any) -> Changing:
        changing = Changing(reservation=self.HELD, **given)
        ledger = changing.store.ledger().ledger
        held = ledger.model_copy(update={"accounts": {"2026-01/simulation": Account(reserved=9)}})
        changing.store.book(Booking(held, None))
        changing.store.calls.seen.clear()
        return changing

    def test_the_end_should_give_back_what_was_reserved(self) -> None:
        changing = self.reserved()
        changing.records.change(ID, ASKED)
        assert changing.store.ledger().ledger.accounts["2026-01/simulation"].reserved == 0

    def test_what_it_has_cost_by_its_end_should_be_spent(self) -> None:
        attempt = make_attempt(state=AttemptState.SUBMITTED, billed_from=START)
        changing = self.reserved(phase=Phase.PROVISIONING, attempts=[attempt])
        changing.records.change(ID, ASKED)
        changing.clock.advance(3600)
        changing.records.change(ID, Released(gone=True))
        account = changing.store.ledger().ledger.accounts["2026-01/simulation"]
        assert changing.stored.record.ended
        assert (account.spent, account.reserved) == (640_000, 0)

    @pytest.mark.parametrize("reserved", [False, True])
    def test_what_an_attempt_has_cost_should_be_kept_once_its_node_is_deleted(self, *, reserved: bool) -> None:
        attempt = make_attempt(state=AttemptState.SUBMITTED, billed_from=START)
        given: dict[str, Any] = {"phase": Phase.PROVISIONING, "attempts": [attempt], "mode": "real"}
        changing = self.reserved(**given) if reserved else Changing(**given)
        changing.records.change(ID, ASKED)
        assert changing.store.costs(START.date()) == []
        changing.clock.advance(3600)
        changing.records.change(ID, Released(gone=True))
        (entry,) = changing.store.costs(START.date())
        assert (entry.instance_id, entry.attempt, entry.gone_at) == (ID, 1, changing.clock.now())

    def test_each_event_should_be_a_line_of_the_log(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.INFO, "gpulaunch.lifecycle")
        changing = Changing(attempts=[make_attempt()], phase=Phase.PROVISIONING)
        changing.records.change(ID, ASKED)
        events = changing.store.events(ID)[1:]
        lines = [line for line in caplog.records if line.name == "gpulaunch.lifecycle"]
        assert events
        assert [line.getMessage() for line in lines] == [f"{ID} {one.phase.value}: {one.message}" for one in events]
        assert {vars(line)["instance_id"] for line in lines} == {ID}

    def test_a_node_that_went_before_the_end_should_cost_what_it_did_until_it_went(self) -> None:
        attempt = make_attempt(state=AttemptState.SUBMITTED, billed_from=START)
        changing = self.reserved(phase=Phase.TERMINATING, attempts=[attempt])
        before, half_an_hour = changing.stored, timedelta(minutes=30)
        gone = attempt.model_copy(update={"state": AttemptState.GONE, "gone_at": START + half_an_hour})
        change = {"phase": Phase.TERMINATED, "attempts": [gone], "updated_at": START + 2 * half_an_hour}
        record = InstanceRecord.model_validate({**dict(before.record), **change})
        changing.records.writer.write(before, record, [])
        account = changing.store.ledger().ledger.accounts["2026-01/simulation"]
        assert (account.spent, account.reserved) == (320_000, 0)

    def test_a_change_before_the_end_should_not_touch_the_ledger(self) -> None:
        changing = self.reserved()
        changing.records.change(ID, TimerFired())
        assert "ledger" not in changing.store.calls.seen
        assert changing.store.ledger().ledger.accounts["2026-01/simulation"].reserved == 9

    def test_another_who_changes_the_ledger_meanwhile_should_keep_the_change(self) -> None:
        changing = self.reserved()
        ledger = changing.store.ledger

        def and_others_change_it() -> VersionedLedger:
            found = ledger()
            changing.store.ledger = ledger
            more = found.ledger.model_copy(update={"accounts": {"2026-01/simulation": Account(reserved=20)}})
            changing.store.book(Booking(more, found.etag))
            return found

        changing.store.ledger = and_others_change_it
        changing.records.change(ID, ASKED)
        assert changing.store.ledger().ledger.accounts["2026-01/simulation"].reserved == 11


@pytest.mark.parametrize(("step", "queue"), [("advance", LAUNCHES), ("teardown", TEARDOWNS)])
def test_teardowns_should_not_wait_behind_launches(step: str, queue: str) -> None:
    assert queue_of(step) == queue


def test_a_submission_should_have_its_time_from_now_on() -> None:
    lifecycle = Lifecycle(ManualClock())
    assert (lifecycle.submit_until() - START).total_seconds() == lifecycle.timeouts.submit
