"""Workers whose clocks are apart."""

from datetime import timedelta

import pytest

from gpulaunch.models.instances import Phase
from shared.lifecycle.observations import Describe
from shared.lifecycle.provision import in_time_to_submit
from shared.lifecycle.rules import CLOCKS_APART, decision_time
from tests.twins.clock import START
from tests.twins.factories import make_record
from tests.unit.lifecycle.story import LIMITS, TICK, USER, ready, submitted, submitting

APART = CLOCKS_APART.total_seconds()
MOMENT = timedelta(milliseconds=1)


@pytest.mark.parametrize("apart", [timedelta(0), timedelta(seconds=1), CLOCKS_APART])
def test_a_decision_should_not_be_older_than_the_last_one(apart: timedelta) -> None:
    record = make_record(updated_at=START)
    assert decision_time(record, START - apart) == START
    assert decision_time(record, START + apart) == START + apart


def test_a_record_from_far_ahead_should_not_be_followed() -> None:
    record = make_record(updated_at=START + timedelta(days=400))
    assert decision_time(record, START) == START + CLOCKS_APART


@pytest.mark.parametrize("apart", [1, 30, APART])
def test_an_event_should_not_come_before_the_one_before_it(apart: float) -> None:
    story = submitted()
    last = story.record.updated_at
    decision = story.wait(-apart).see(USER)
    assert {event.at for event in decision.events} == {last}
    assert all(event.duration_seconds is None or event.duration_seconds >= 0 for event in decision.events)


def test_what_is_due_at_once_should_be_done_by_a_worker_whose_clock_is_behind() -> None:
    assert submitted().wait(-30).act() == Describe()


def test_a_ready_node_should_outlive_a_record_from_far_ahead() -> None:
    story = ready()
    story.record = story.record.model_copy(update={"updated_at": story.record.deadline_at + timedelta(days=1)})
    assert story.decide(TICK).record.phase is Phase.READY


def test_a_worker_whose_clock_is_ahead_should_not_submit_beside_another() -> None:
    story = submitting()
    latest = story.now + timedelta(seconds=LIMITS.submit_lease - LIMITS.submit) - CLOCKS_APART
    assert in_time_to_submit(story.record, latest, LIMITS)
    story.now = latest + timedelta(seconds=LIMITS.submit) + CLOCKS_APART - MOMENT
    assert not story.decide(TICK).claimed
    story.now += MOMENT
    assert story.decide(TICK).claimed
