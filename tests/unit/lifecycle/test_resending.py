"""Which overdue steps are sent again: what is lost, and not what waits for its turn."""

from datetime import datetime, timedelta

import pytest

from gpulaunch.models.instances import Phase
from shared.lifecycle.resending import (
    FIRST_PAUSE,
    GRACE,
    LONGEST_PAUSE,
    Resent,
    counts_still,
    is_lost,
    is_overdue,
    sent_again,
    unanswered,
)
from tests.twins.clock import START
from tests.twins.factories import make_record

SECOND = timedelta(seconds=1)
NOW = START + timedelta(hours=1)
LATE = make_record(phase=Phase.PROVISIONING, due_at=START)


@pytest.mark.parametrize(
    ("late", "phase", "overdue"),
    [
        (GRACE - SECOND, Phase.QUEUED, False),
        (GRACE, Phase.QUEUED, True),
        (-SECOND, Phase.READY, False),
        (timedelta(), Phase.READY, True),
    ],
)
def test_a_step_should_be_overdue_after_its_grace_and_a_deadline_at_once(
    late: timedelta, phase: Phase, overdue: bool
) -> None:
    assert is_overdue(make_record(phase=phase, due_at=START), START + late) is overdue


def test_a_record_without_a_step_should_never_be_overdue() -> None:
    record = make_record(due_at=None)
    assert not is_overdue(record, NOW)
    assert not is_lost(record, None, None, NOW)


@pytest.mark.parametrize(
    ("waiting_since", "lost"),
    [
        (None, True),
        (START - timedelta(hours=5), False),
        (START, False),
        (START + GRACE, False),
        (START + GRACE + SECOND, True),
    ],
)
def test_a_step_should_be_lost_once_all_that_waits_was_sent_after_it(
    waiting_since: datetime | None, lost: bool
) -> None:
    assert is_lost(LATE, None, waiting_since, NOW) is lost


@pytest.mark.parametrize(
    ("waiting_since", "lost"), [(None, True), (NOW - timedelta(minutes=10), False), (NOW - SECOND, True)]
)
def test_what_was_sent_again_should_count_from_then(waiting_since: datetime | None, lost: bool) -> None:
    resent = Resent(due_at=START, at=NOW - timedelta(minutes=9), count=1)
    assert is_lost(LATE, resent, waiting_since, NOW) is lost


@pytest.mark.parametrize("waiting_since", [None, START, NOW])
def test_a_deadline_should_wait_for_no_message_before_its_first(waiting_since: datetime | None) -> None:
    assert is_lost(make_record(phase=Phase.READY, due_at=START), None, waiting_since, NOW)


def test_a_deadline_should_be_sent_again_like_any_step() -> None:
    ready = make_record(phase=Phase.READY, due_at=START)
    resent = Resent(due_at=START, at=NOW - timedelta(minutes=9), count=1)
    assert not is_lost(ready, resent, NOW - timedelta(minutes=10), NOW)
    assert is_lost(ready, resent, None, NOW)


def test_pauses_should_double_up_to_the_longest() -> None:
    pauses, resent = list[timedelta](), None
    for _ in range(12):
        resent = sent_again(START, resent, NOW)
        pauses.append(resent.pause)
        assert not is_lost(LATE, resent, None, NOW + resent.pause - SECOND)
        assert is_lost(LATE, resent, None, NOW + resent.pause)
    assert pauses[:6] == [FIRST_PAUSE] * 4 + [2 * FIRST_PAUSE, 4 * FIRST_PAUSE]
    assert pauses == sorted(pauses)
    assert pauses[-1] == LONGEST_PAUSE
    assert Resent(due_at=START, at=NOW, count=10_000).pause == LONGEST_PAUSE


def test_what_storage_did_not_answer_should_make_no_pause_longer() -> None:
    resent: Resent | None = None
    for _ in range(12):
        resent = unanswered(START, resent, NOW)
        assert (resent.at, resent.pause) == (NOW, FIRST_PAUSE)
    assert not is_lost(LATE, resent, NOW - SECOND, NOW + FIRST_PAUSE)
    assert is_lost(LATE, resent, None, NOW + FIRST_PAUSE)
    assert unanswered(START, Resent(due_at=START, at=START, count=6), NOW).count == 6
    assert sent_again(START, unanswered(START, None, NOW), NOW) == sent_again(START, None, NOW)


@pytest.mark.parametrize(
    ("due", "later", "counts"),
    [
        ({"inst-1": START}, timedelta(hours=1), True),
        ({"inst-1": START + SECOND}, SECOND, False),
        ({"inst-1": None}, SECOND, False),
        ({"inst-2": None}, 2 * LONGEST_PAUSE - SECOND, True),
        ({}, 2 * LONGEST_PAUSE, False),
    ],
)
def test_what_was_sent_should_count_until_its_record_is_seen_with_another_step_or_not_for_long(
    due: dict[str, datetime | None], later: timedelta, counts: bool
) -> None:
    assert counts_still(Resent(due_at=START, at=NOW, count=1), due, "inst-1", NOW + later) is counts
