"""Waiting that ends, whatever the other side does."""

import math
import threading
import time
from datetime import UTC, datetime

import pytest

from gpulaunch.deadlines import NoTimeLeftError, time_left, time_limit, within
from shared.cache import TTLCache
from shared.domain.provider import LaunchRefusedError
from shared.errors import StoreUnavailableError
from shared.turns import Turns


def test_work_should_be_left_when_its_time_is_over() -> None:
    over = threading.Event()
    with pytest.raises(TimeoutError):
        within(0.05, lambda: over.wait(30))
    over.set()
    assert within(5, lambda: 7) == 7
    with pytest.raises(ZeroDivisionError):
        within(5, lambda: 1 // 0)


def test_whoever_waits_for_anothers_reading_should_give_up_in_time() -> None:
    cache, now = TTLCache[int](60, 0.1), datetime(2026, 1, 1, tzinfo=UTC)
    reads, over = threading.Event(), threading.Event()

    def slow() -> int:
        reads.set()
        over.wait(30)
        return 1

    reader = threading.Thread(target=lambda: cache.get(now, slow))
    reader.start()
    reads.wait(5)
    with pytest.raises(TimeoutError):
        cache.get(now, lambda: 2)
    over.set()
    reader.join()
    assert cache.get(now, lambda: 3) == 1


def test_a_refusal_should_pass_as_it_is() -> None:
    def refuse() -> None:
        raise LaunchRefusedError.__new__(LaunchRefusedError)

    with pytest.raises(LaunchRefusedError):
        within(5, refuse)


def test_an_inner_deadline_should_never_be_later_than_the_outer_one() -> None:
    assert time_left() == math.inf
    with time_limit(60):
        assert 59 < time_left() <= 60
        with time_limit(600):
            assert time_left() <= 60
        with time_limit(5):
            assert time_left() <= 5
        assert time_left() > 5
    assert time_left() == math.inf


def test_work_in_its_thread_should_know_the_deadline() -> None:
    with time_limit(60):
        assert within(600, time_left) <= 60


def test_nothing_should_begin_once_the_deadline_is_over() -> None:
    begun: list[int] = []
    with time_limit(0), pytest.raises(NoTimeLeftError):
        within(5, lambda: begun.append(1))
    assert begun == []


def test_a_turn_should_not_be_waited_for_beyond_the_deadline() -> None:
    turns = Turns(1, 60, "the ledger")
    begun = time.monotonic()
    with turns, time_limit(0.05), pytest.raises(StoreUnavailableError, match="in use"), turns:
        pass
    assert time.monotonic() - begun < 5
    with turns, pytest.raises(ZeroDivisionError):
        raise ZeroDivisionError
