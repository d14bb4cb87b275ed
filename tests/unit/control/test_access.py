"""The memory of failed attempts: whose are counted, for how long, and whom it forgets first."""

import logging
from datetime import timedelta

import pytest

from shared.control.access import ADDRESSES, FAILURES, WINDOW, FailedAttempts, RecentEvents
from tests.twins.clock import ManualClock

ONE = ("203.0.113.1", "")


def filled(events: RecentEvents, count: int = ADDRESSES) -> None:
    for number in range(count):
        events.add((f"address {number}", ""))


@pytest.mark.parametrize(
    ("apart", "reached"),
    [(timedelta(0), True), (WINDOW - timedelta(seconds=1), True), (WINDOW, False)],
)
def test_events_should_count_within_the_window_alone(apart: timedelta, *, reached: bool) -> None:
    clock = ManualClock()
    events = RecentEvents(clock, 2)
    assert not events.add(ONE)
    clock.advance(apart.total_seconds())
    assert events.add(ONE) is reached


def test_whoever_was_seen_longest_ago_should_be_forgotten_first() -> None:
    events = RecentEvents(ManualClock(), 2)
    filled(events)
    events.add(("new", ""))
    assert len(events) == ADDRESSES
    assert events.add(("new", ""))
    assert not events.add(("address 0", ""))


def test_whoever_comes_again_should_count_as_seen_just_now() -> None:
    events = RecentEvents(ManualClock(), 3)
    events.add(ONE)
    filled(events, ADDRESSES - 1)
    events.add(ONE)
    events.add(("new", ""))
    assert events.add(ONE)


@pytest.mark.parametrize("about", ["", "inst-1"])
def test_a_failure_s_line_should_name_whom_it_is_about(about: str, caplog: pytest.LogCaptureFixture) -> None:
    attempts = FailedAttempts(ManualClock(), lambda _: None)
    with caplog.at_level(logging.WARNING):
        attempts.failed("203.0.113.1", "A wrong token", "request-1", about)
    (line,) = caplog.records
    assert vars(line)["instance_id"] == (about or None)
    assert FAILURES > 1
