import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import azure.functions as func
import pytest

from devhost.app import TimerFunction
from devhost.invoke import Invoker
from devhost.timers import Schedule, TimerListener

# A Thursday.
START = datetime(2026, 1, 1, 12, 0, 30, tzinfo=UTC)
EVERY_MINUTE = "0 * * * * *"


@pytest.mark.parametrize(
    ("expression", "first", "second"),
    [
        ("*/30 * * * * *", "2026-01-01 12:01:00", "2026-01-01 12:01:30"),
        ("0 30 9 * * 1-5", "2026-01-02 09:30:00", "2026-01-05 09:30:00"),
        # Both day fields have to match: the first Monday that is a 5th or a 12th.
        ("0 0 0 5,12 * 1", "2026-01-05 00:00:00", "2026-01-12 00:00:00"),
    ],
)
def test_a_schedule_should_occur_as_ncrontab_says(expression: str, first: str, second: str) -> None:
    schedule = Schedule(expression)
    one = schedule.following(START)
    assert [one, schedule.following(one)] == [
        datetime.fromisoformat(text).replace(tzinfo=UTC) for text in (first, second)
    ]


@pytest.mark.parametrize(
    "expression",
    [
        "",
        "* * * * *",
        "* * * * * * *",
        "60 * * * * *",
        "0 0 0 L * *",
        "@hourly",
        "*/x * * * * *",
        "0 0 0 30 2 *",
        "1, * * * * *",
    ],
)
def test_what_the_host_cannot_read_should_be_refused(expression: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        Schedule(expression)


class World:
    """A clock that moves only when somebody sleeps on it; stops the listener at `end`."""

    def __init__(self, end: timedelta) -> None:
        self.now = START
        self.end = START + end
        self.runs: list[str] = []

    def clock(self) -> datetime:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)
        if self.now > self.end:
            raise asyncio.CancelledError

    def record(self, timer: func.TimerRequest) -> None:
        assert not timer.past_due
        self.runs.append(self.now.strftime("%H:%M:%S"))


def listen(world: World, body: Callable[[func.TimerRequest], None]) -> None:
    function = TimerFunction(name="sweep", call=body, argument="timer", schedule=Schedule(EVERY_MINUTE))
    listener = TimerListener(function, Invoker(1), world.clock, world.sleep)
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(listener.run())


def test_a_timer_should_fire_at_each_occurrence() -> None:
    world = World(timedelta(minutes=3))
    listen(world, world.record)
    assert world.runs == ["12:01:00", "12:02:00", "12:03:00"]


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
