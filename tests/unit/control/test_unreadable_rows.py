"""What the sweep does about rows that cannot be read: alerts now and then, and what a user has asked for."""

from datetime import datetime, timedelta
from typing import cast

import pytest

from shared.control.sweep.base import ALERT_EVERY, Walk
from shared.control.sweep.unreadable_rows import EVERY, TIDY_EVERY, UNREADABLE, UnreadableRows
from shared.control.termination import Terminator
from shared.domain.messages import UnreadableNotice
from shared.errors import StoreUnavailableError
from shared.storage.base import Marker, Unreadable
from tests.twins.clock import START
from tests.twins.factories import make_instance_id, make_unreadable
from tests.twins.store import MemoryInstanceStore

ONE, OTHER, THIRD = (make_instance_id(number) for number in (1, 2, 3))
SECOND = timedelta(seconds=1)
AWAY = StoreUnavailableError("no answer")


class Ending:
    """Stands for the terminator and for its part that ends unreadable rows; writes down what was asked of it."""

    def __init__(self) -> None:
        self.wanted: set[str] = set()
        self.reads = 0
        self.acts: list[str] = []
        self.done = True

    @property
    def unreadable(self) -> "Ending":
        return self

    def requested(self) -> set[str]:
        self.reads += 1
        return self.wanted

    def advance(self, row: Unreadable) -> bool:
        self.acts.append(f"advance {row.instance_id}")
        return self.done

    def terminate_again(self, instance_id: str) -> bool:
        self.acts.append(f"terminate {instance_id}")
        return self.done


class Rows:
    def __init__(self) -> None:
        self.store, self.ending = MemoryInstanceStore(), Ending()
        self.now = START
        self.notices: list[UnreadableNotice] = []
        self.taken = True
        """Whether the queue takes alerts."""
        self.task = UnreadableRows(self.store, cast("Terminator", self.ending), self._alert)

    def _alert(self, notice: UnreadableNotice) -> None:
        if not self.taken:
            raise AWAY
        self.notices.append(notice)

    def sweep(self, *unreadable: str, after: timedelta = timedelta(), complete: bool = True) -> int:
        self.now += after
        found = [make_unreadable(instance_id=instance_id) for instance_id in unreadable]
        return self.task.begin(self.now).finish(Walk(unreadable=found, complete=complete))

    def note(self, instance_id: str, at: datetime) -> None:
        self.store.put_marker(Marker(kind=UNREADABLE, key=instance_id, at=at))

    @property
    def noted(self) -> dict[str, datetime]:
        return {marker.key: marker.at for marker in self.store.markers(UNREADABLE)}


@pytest.fixture
def rows() -> Rows:
    return Rows()


def test_an_alert_should_be_repeated_after_some_hours_and_not_before(rows: Rows) -> None:
    rows.sweep(ONE)
    rows.sweep(ONE, after=ALERT_EVERY - SECOND)
    assert [notice.at for notice in rows.notices] == [START]
    rows.sweep(ONE, after=SECOND)
    assert [notice.at for notice in rows.notices] == [START, START + ALERT_EVERY]
    assert rows.noted == {ONE: START + ALERT_EVERY}


def test_each_row_should_have_an_alert_of_its_own_with_what_is_wrong(rows: Rows) -> None:
    rows.sweep(ONE)
    rows.sweep(ONE, OTHER, after=SECOND)
    assert [(notice.instance_id, notice.at) for notice in rows.notices] == [(ONE, START), (OTHER, START + SECOND)]
    assert rows.notices[0].message == f"{ONE} cannot be read: it is damaged. Its node is kept; DELETE terminates it."


def test_an_alert_that_is_refused_should_not_be_noted(rows: Rows) -> None:
    rows.taken = False
    with pytest.raises(StoreUnavailableError):
        rows.sweep(ONE)
    assert rows.noted == {}
    rows.taken = True
    rows.sweep(ONE)
    assert len(rows.notices) == 1


def test_the_note_of_a_row_that_can_be_read_again_should_go_once_no_alert_would_be_repeated(rows: Rows) -> None:
    rows.note(ONE, START - ALERT_EVERY)
    rows.note(OTHER, START - ALERT_EVERY + SECOND)
    rows.note(THIRD, START - ALERT_EVERY)
    rows.sweep(THIRD)
    assert set(rows.noted) == {OTHER, THIRD}


@pytest.mark.parametrize(("complete", "left"), [(True, 0), (False, 1)])
def test_a_note_should_go_only_where_all_records_were_seen(rows: Rows, complete: bool, left: int) -> None:
    rows.note(ONE, START - ALERT_EVERY)
    rows.sweep(complete=complete)
    assert len(rows.noted) == left


def test_old_notes_should_be_looked_for_once_an_hour(rows: Rows) -> None:
    rows.sweep()
    rows.note(ONE, START - ALERT_EVERY)
    rows.sweep(after=TIDY_EVERY - SECOND)
    assert set(rows.noted) == {ONE}
    rows.sweep(after=SECOND)
    assert rows.noted == {}


def test_what_a_user_has_terminated_should_go_on_and_nothing_else(rows: Rows) -> None:
    rows.ending.wanted = {ONE, THIRD}
    assert rows.sweep(ONE, OTHER) == 2
    assert rows.ending.acts == [f"advance {ONE}", f"terminate {THIRD}"]


def test_what_is_not_over_should_not_be_counted(rows: Rows) -> None:
    rows.ending.wanted, rows.ending.done = {ONE, THIRD}, False
    assert rows.sweep(ONE) == 0
    assert len(rows.ending.acts) == 2


def test_a_row_that_was_not_seen_should_not_count_as_readable(rows: Rows) -> None:
    rows.ending.wanted = {ONE, THIRD}
    assert rows.sweep(ONE, complete=False) == 1
    assert rows.ending.acts == [f"advance {ONE}"]


def test_what_a_user_wants_should_be_read_every_five_minutes_and_else_where_a_row_is_unreadable(rows: Rows) -> None:
    rows.sweep()
    assert (rows.sweep(after=EVERY - SECOND), rows.ending.reads) == (0, 1)
    rows.sweep(ONE)
    assert rows.ending.reads == 2
    rows.sweep(after=SECOND)
    assert rows.ending.reads == 3


def test_without_such_rows_no_notes_should_be_read(rows: Rows) -> None:
    rows.sweep()
    rows.store.calls.seen.clear()
    rows.sweep(after=SECOND)
    assert rows.store.calls.seen == []
