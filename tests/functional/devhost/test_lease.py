import asyncio
import signal
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, cast

import pytest
from azure.core.exceptions import ResourceNotFoundError, ServiceRequestError
from azure.data.tables import TableClient

from devhost.azurite import Azurite
from devhost.lease import TABLE, TimerLease, lease_table

from .conftest import Host, wait_for


class World:
    """A clock that moves only when a host sleeps on it, and who runs the timers when."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.runs: list[tuple[str, float]] = []

    def clock(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        for _ in range(9):
            await asyncio.sleep(0)
        self.now += seconds


def run(storage: Azurite, test: Callable[[World, TimerLease, TimerLease], Awaitable[None]]) -> None:
    async def limited() -> None:
        world = World()
        async with lease_table({"AzureWebJobsStorage": storage.connection_string}) as table, asyncio.timeout(60):
            # Hosts of other tests, on the same storage, were killed with their lease.
            with suppress(ResourceNotFoundError):
                await table.delete_entity("timers", "lease")
            first, second = (TimerLease(table, 60, world.clock, world.sleep) for _ in range(2))
            await test(world, first, second)
            for one in (first, second):
                await one.give_back()

    asyncio.run(limited())


def test_one_host_at_a_time_should_have_the_timers_and_renew_its_lease(storage: Azurite) -> None:
    async def test(world: World, first: TimerLease, second: TimerLease) -> None:
        assert sorted(await asyncio.gather(first.take(), second.take())) == [False, True]
        holder, other = (first, second) if await first.take() else (second, first)
        for _ in range(3):
            world.now += 40
            assert await holder.take()
            assert not await other.take()

    run(storage, test)


@pytest.mark.parametrize(("given_back", "seconds"), [(True, 0), (False, 60)])
def test_the_next_host_should_begin_at_once_after_a_stop_and_after_the_lease_of_one_that_was_killed(
    storage: Azurite, given_back: bool, seconds: float
) -> None:
    async def test(world: World, first: TimerLease, second: TimerLease) -> None:
        assert await first.take()
        if given_back:
            await first.give_back()
        began = world.now

        async def timers() -> None:
            world.runs.append(("second", world.now - began))
            holding.cancel()

        holding = asyncio.ensure_future(second.hold(timers))
        await asyncio.gather(holding, return_exceptions=True)
        assert world.runs == [("second", seconds)]

    run(storage, test)


class Away:
    """A table that no other host uses, and that cannot be reached while it is `down`."""

    def __init__(self) -> None:
        self.down = False

    async def get_entity(self, *_: str) -> dict[str, Any]:
        if self.down:
            raise ServiceRequestError("refused")
        raise ResourceNotFoundError

    async def create_table(self) -> None: ...

    async def create_entity(self, row: dict[str, Any]) -> None: ...


@pytest.mark.parametrize("seconds", [30, 600])
def test_a_host_that_cannot_renew_its_lease_should_stop_its_timers_once_it_is_over(seconds: float) -> None:
    async def test() -> None:
        world, table = World(), Away()
        stopped: list[float] = []
        lease = TimerLease(cast("Any", table), 60, world.clock, world.sleep)

        async def timers() -> None:
            table.down = True
            try:
                await asyncio.Event().wait()
            finally:
                stopped.append(world.now - began)

        began = world.now
        holding = asyncio.ensure_future(lease.hold(timers))
        while world.now - began < seconds:
            await asyncio.sleep(0)
        assert stopped == ([60] if seconds > 60 else [])
        holding.cancel()
        await asyncio.gather(holding, return_exceptions=True)

    asyncio.run(test())


@pytest.mark.parametrize(("number", "left"), [(signal.SIGTERM, 0), (signal.SIGKILL, 1)])
def test_a_host_that_is_killed_should_leave_its_lease_behind(
    storage: Azurite, host: Host, number: signal.Signals, left: int
) -> None:
    host.start()
    wait_for(lambda: host.recorded("tick"), "the timer")
    host.stop(number)
    table: Any = TableClient.from_connection_string(storage.connection_string, TABLE)
    with table:
        rows = list(table.list_entities())
        for row in rows:
            table.delete_entity(row)
    assert len(rows) == left
