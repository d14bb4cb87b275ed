"""What a person confirms about nodes: for which of them, and for how long."""

from datetime import timedelta

import pytest

from shared.control.garbage_report import (
    CONFIRMED_FOR,
    GARBAGE,
    GarbageReport,
    GarbageReports,
    LostCluster,
    WaitingCluster,
)
from shared.domain.errors import InvalidFieldsError
from shared.lifecycle.garbage import UNRECORDED
from shared.storage.base import UNRECORDED_CALLER, Marker
from tests.twins.clock import START, ManualClock
from tests.twins.factories import DEPLOYMENT
from tests.twins.store import MemoryInstanceStore

ONE, OTHER = "gl-01k0000000000000000000000a-01", "gl-01k0000000000000000000000b-01"
LATER = timedelta(minutes=40)


class Reporting:
    def __init__(self) -> None:
        self.store, self.clock = MemoryInstanceStore(), ManualClock()
        self.reports = GarbageReports(self.store, self.clock, DEPLOYMENT)
        self.write(waiting=(ONE, OTHER), lost=(ONE, OTHER))

    def write(self, *, waiting: tuple[str, ...] = (), lost: tuple[str, ...] = ()) -> None:
        report = GarbageReport(
            waiting=tuple(WaitingCluster(cluster_name=name, since=START, why=UNRECORDED) for name in waiting),
            lost=tuple(LostCluster(cluster_name=name, since=START, why="it is not listed") for name in lost),
        )
        self.reports.write(self.reports.read().report, report, self.clock.now())

    def confirmed(self) -> list[str]:
        state = self.reports.read()
        return [name for name in (ONE, OTHER) if state.is_confirmed(name, self.clock.now())]

    def wait(self, time: timedelta) -> None:
        self.clock.set(self.clock.now() + time)


@pytest.fixture
def reporting() -> Reporting:
    return Reporting()


class TestGarbage:
    def test_a_confirmation_should_hold_for_the_named_node_and_for_an_hour(self, reporting: Reporting) -> None:
        (shown, _) = reporting.reports.confirm([ONE]).waiting
        assert shown.confirmed_until == START + CONFIRMED_FOR
        assert reporting.confirmed() == [ONE]
        reporting.wait(CONFIRMED_FOR - timedelta(seconds=1))
        assert reporting.confirmed() == [ONE]
        reporting.wait(timedelta(seconds=1))
        assert reporting.confirmed() == []
        assert [one.confirmed_until for one in reporting.reports.answer().waiting] == [None, None]

    def test_one_that_is_repeated_should_last_longer_only_while_the_node_waits(self, reporting: Reporting) -> None:
        reporting.reports.confirm([ONE, OTHER])
        reporting.write(waiting=(OTHER,))
        reporting.wait(LATER)
        reporting.reports.confirm([ONE, OTHER])
        reporting.wait(LATER)
        assert reporting.confirmed() == [OTHER]

    def test_what_does_not_wait_should_not_be_confirmed_nor_what_comes_with_it(self, reporting: Reporting) -> None:
        reporting.write(waiting=(OTHER,))
        with pytest.raises(InvalidFieldsError):
            reporting.reports.confirm([ONE, OTHER])
        assert reporting.confirmed() == []

    def test_one_that_was_dropped_should_not_hold(self, reporting: Reporting) -> None:
        reporting.reports.confirm([ONE, OTHER])
        reporting.reports.forget([ONE])
        assert reporting.confirmed() == [OTHER]
        assert len(reporting.reports.read().report.waiting) == 2


class TestDeleted:
    def test_a_person_s_word_should_hold_for_the_named_node_and_for_an_hour(self, reporting: Reporting) -> None:
        reporting.reports.confirm_deleted([ONE])
        assert [reporting.reports.is_deleted(name) for name in (ONE, OTHER)] == [True, False]
        reporting.wait(CONFIRMED_FOR - timedelta(seconds=1))
        assert reporting.reports.is_deleted(ONE)
        reporting.wait(timedelta(seconds=1))
        assert not reporting.reports.is_deleted(ONE)

    def test_of_nodes_that_are_not_lost_it_should_not_be_taken(self, reporting: Reporting) -> None:
        reporting.write(lost=(OTHER,))
        with pytest.raises(InvalidFieldsError):
            reporting.reports.confirm_deleted([ONE, OTHER])
        assert not reporting.reports.is_deleted(OTHER)


class TestReport:
    def test_what_is_not_news_should_not_be_written(self, reporting: Reporting) -> None:
        reporting.store.calls.seen.clear()
        reporting.write(waiting=(ONE, OTHER), lost=(ONE, OTHER))
        assert reporting.store.calls.count("put_marker") == 0
        reporting.write(waiting=(ONE,))
        assert reporting.store.calls.count("put_marker") == 1

    def test_one_that_cannot_be_read_should_be_none_and_cost_no_confirmation(self, reporting: Reporting) -> None:
        reporting.reports.confirm([ONE])
        reporting.store.put_marker(Marker(kind=GARBAGE, key="report", at=START, text="{"))
        assert reporting.reports.read().report == GarbageReport()
        assert reporting.confirmed() == [ONE]

    def test_a_waiting_node_that_calls_should_show_when(self, reporting: Reporting) -> None:
        reporting.wait(LATER)
        reporting.store.put_marker(Marker(kind=UNRECORDED_CALLER, key=OTHER, at=reporting.clock.now()))
        assert [one.heard_at for one in reporting.reports.answer().waiting] == [None, START + LATER]
