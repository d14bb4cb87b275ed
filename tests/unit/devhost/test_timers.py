import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import azure.functions as func
import pytest

from devhost.app import TimerFunction
from devhost.timers import TimerListener
from tests.unit.devhost.invoking import InThreads

START = datetime(2026, 1, 1, 12, 0, 30, tzinfo=UTC)


class World:
    """A clock that moves only when somebody sleeps on it; stops the listener at `end`."""

    def __init__(self, end: timedelta) -> None:
        self.now = START
        self.end = START + end
        self.runs: list[str] = []

    def clock(self) -> float:
        return self.now.timestamp()

    async def sleep(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)
        if self.now > self.end:
            raise asyncio.CancelledError

    def record(self, timer: func.TimerRequest) -> None:
        assert not timer.past_due
        self.runs.append(self.now.strftime("%H:%M:%S"))


def listen(world: World, body: Callable[[func.TimerRequest], None], seconds: int = 60, offset: int = 0) -> None:
    function = TimerFunction(name="sweep", argument="timer", seconds=seconds, offset=offset)
    listener = TimerListener(function, InThreads({"sweep": body}), world.clock, world.sleep)
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(listener.run())


def test_a_timer_should_fire_at_each_occurrence() -> None:
    world = World(timedelta(minutes=3))
    listen(world, world.record)
    assert world.runs == ["12:01:00", "12:02:00", "12:03:00"]


def test_occurrences_should_be_counted_from_the_full_minute() -> None:
    world = World(timedelta(seconds=95))
    world.now += timedelta(seconds=2.5)
    listen(world, world.record, seconds=30)
    assert world.runs == ["12:01:00", "12:01:30", "12:02:00"]


def test_a_daily_timer_should_fire_at_its_time_of_day() -> None:
    world = World(timedelta(days=2))
    listen(world, world.record, seconds=86_400, offset=3 * 3600 + 15 * 60)
    assert world.runs == ["03:15:00", "03:15:00"]


def test_an_overrun_should_fire_once_at_once_and_missed_ticks_should_collapse() -> None:
    world = World(timedelta(minutes=8))

    def body(timer: func.TimerRequest) -> None:
        world.record(timer)
        if len(world.runs) == 1:
            world.now += timedelta(minutes=3, seconds=20)

    listen(world, body)
    assert world.runs == ["12:01:00", "12:04:20", "12:05:00", "12:06:00", "12:07:00", "12:08:00"]


def test_a_failure_should_not_stop_the_schedule() -> None:
    world = World(timedelta(minutes=2))

    def body(timer: func.TimerRequest) -> None:
        world.record(timer)
        raise RuntimeError("on purpose")

    listen(world, body)
    assert len(world.runs) == 2
