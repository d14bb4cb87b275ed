import asyncio
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import azure.functions as func
import pytest

from devhost.app import TimerFunction
from devhost.config import HostError
from devhost.invoke import Invoker
from devhost.schedule import parse
from devhost.timers import StateFile, TimerListener, zone

START = datetime(2026, 1, 1, 12, 0, 30, tzinfo=UTC)
EVERY_MINUTE = "0 * * * * *"


class World:
    """A clock that moves only when somebody sleeps on it; stops the listener at `end`."""

    def __init__(self, end: timedelta) -> None:
        self.now = START
        self.end = START + end
        self.runs: list[tuple[str, bool]] = []

    def clock(self) -> datetime:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)
        if self.now > self.end:
            raise asyncio.CancelledError

    def record(self, timer: func.TimerRequest) -> None:
        self.runs.append((self.now.strftime("%H:%M:%S"), timer.past_due))


Body = Callable[[func.TimerRequest], Coroutine[Any, Any, None]]


def listen(
    world: World, body: Body, *, schedule: str = EVERY_MINUTE, state: Path | None = None, startup: bool = False
) -> None:
    function = TimerFunction(
        name="sweep", call=body, argument="timer", is_async=True, takes_context=False, binary=False,
        expression=schedule, following=parse(schedule), run_on_startup=startup, use_monitor=True,
    )  # fmt: skip
    listener = TimerListener(function, Invoker(1, "."), StateFile(state), world.clock, world.sleep)
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(listener.run())


def test_a_timer_should_fire_at_each_occurrence() -> None:
    world = World(timedelta(minutes=3))

    async def body(timer: func.TimerRequest) -> None:
        world.record(timer)

    listen(world, body)
    assert world.runs == [("12:01:00", False), ("12:02:00", False), ("12:03:00", False)]


def test_an_overrun_should_fire_once_at_once_and_missed_ticks_should_collapse() -> None:
    world = World(timedelta(minutes=8))

    async def body(timer: func.TimerRequest) -> None:
        world.record(timer)
        if len(world.runs) == 1:
            world.now += timedelta(minutes=3, seconds=20)

    listen(world, body)
    assert [at for at, _ in world.runs] == ["12:01:00", "12:04:20", "12:05:00", "12:06:00", "12:07:00", "12:08:00"]


def test_a_failure_should_not_stop_the_schedule() -> None:
    world = World(timedelta(minutes=2))

    async def body(timer: func.TimerRequest) -> None:
        world.record(timer)
        raise RuntimeError("on purpose")

    listen(world, body)
    assert len(world.runs) == 2


def test_run_on_startup_should_fire_at_once() -> None:
    world = World(timedelta(minutes=1))

    async def body(timer: func.TimerRequest) -> None:
        world.record(timer)

    listen(world, body, startup=True)
    assert world.runs == [("12:00:30", False), ("12:01:00", False)]


def test_an_occurrence_missed_while_down_should_be_past_due(tmp_path: Path) -> None:
    state = tmp_path / "timers.json"
    world = World(timedelta(minutes=1))

    async def body(timer: func.TimerRequest) -> None:
        world.record(timer)

    listen(world, body, state=state)
    world.now += timedelta(hours=1)
    world.end = world.now + timedelta(minutes=1)
    listen(world, body, state=state)
    assert world.runs == [("12:01:00", False), ("13:02:00", True), ("13:03:00", False)]


def test_an_occurrence_missed_before_the_first_run_should_be_past_due(tmp_path: Path) -> None:
    state = tmp_path / "timers.json"
    world = World(timedelta(seconds=10))

    async def body(timer: func.TimerRequest) -> None:
        world.record(timer)

    listen(world, body, state=state)
    assert world.runs == []
    world.now += timedelta(hours=1)
    world.end = world.now + timedelta(seconds=10)
    listen(world, body, state=state)
    assert [past_due for _, past_due in world.runs] == [True]


def test_another_schedule_should_not_be_past_due(tmp_path: Path) -> None:
    state = tmp_path / "timers.json"
    world = World(timedelta(minutes=1))

    async def body(timer: func.TimerRequest) -> None:
        world.record(timer)

    listen(world, body, state=state)
    world.now += timedelta(hours=1)
    world.end = world.now + timedelta(minutes=1)
    listen(world, body, state=state, schedule="30 * * * * *")
    assert world.runs[1:] == [("13:02:30", False)]


def test_an_unreadable_state_file_should_start_afresh(tmp_path: Path) -> None:
    state = tmp_path / "timers.json"
    state.write_text("{", "utf-8")
    world = World(timedelta(minutes=1))

    async def body(timer: func.TimerRequest) -> None:
        world.record(timer)

    listen(world, body, state=state)
    assert world.runs == [("12:01:00", False)]


def test_the_zone_should_be_utc_unless_a_setting_names_another() -> None:
    assert zone({"TZ": "Asia/Tokyo"}) is UTC
    assert str(zone({"WEBSITE_TIME_ZONE": "Europe/Berlin"})) == "Europe/Berlin"
    with pytest.raises(HostError, match="Mars"):
        zone({"WEBSITE_TIME_ZONE": "Mars/Base"})
