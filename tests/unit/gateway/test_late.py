"""Time limits hold as asyncio's own do, whatever ends first."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from gateway.late import Late

SOON, NEVER = 0.01, 3600.0


@pytest.fixture
def late() -> Late:
    return Late()


def play(story: Callable[[], Awaitable[None]]) -> None:
    async def run() -> None:
        await asyncio.wait_for(story(), 10)

    asyncio.run(run())


async def for_ever() -> None:
    await asyncio.get_running_loop().create_future()


def test_what_does_not_end_in_time_should_end_with_a_timeout(late: Late) -> None:
    async def story() -> None:
        with pytest.raises(TimeoutError), late.limit(SOON):
            await for_ever()

    play(story)


def test_what_ends_in_time_should_not_be_ended_later(late: Late) -> None:
    async def story() -> None:
        with late.limit(SOON):
            await asyncio.sleep(0)
        with pytest.raises(TimeoutError), late.limit(SOON):
            await for_ever()
        with late.limit(NEVER):
            await asyncio.sleep(3 * SOON)

    play(story)


def test_a_failure_should_stay_what_it_is(late: Late) -> None:
    async def story() -> None:
        with pytest.raises(KeyError), late.limit(NEVER):
            raise KeyError

    play(story)


def test_whoever_is_cancelled_by_others_should_not_see_a_timeout(late: Late) -> None:
    async def waiting() -> None:
        with late.limit(NEVER):
            await for_ever()

    async def story() -> None:
        task = asyncio.create_task(waiting())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    play(story)


def test_a_limit_inside_another_should_end_itself_alone(late: Late) -> None:
    async def story() -> None:
        with late.limit(NEVER):
            with pytest.raises(TimeoutError), late.limit(SOON):
                await for_ever()
            await asyncio.sleep(0)

    play(story)


@pytest.mark.parametrize("order", [(1, 2, 3), (3, 2, 1), (2, 1, 3)])
def test_what_is_not_taken_back_should_be_called_in_time_whatever_came_before_it(
    late: Late, order: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.late.PRECISION_SECONDS", 0.0)
    called: list[int] = []

    async def story() -> None:
        late.after(NEVER, lambda: called.append(0))
        for turn in order:
            late.after(turn * SOON, lambda turn=turn: called.append(turn))
        forgotten = late.after(SOON, lambda: called.append(-1))
        late.forget(forgotten)
        while len(called) < len(order):
            await asyncio.sleep(SOON / 10)

    play(story)
    assert called == [1, 2, 3]


def test_a_thousand_limits_should_take_one_timer(late: Late) -> None:
    async def story() -> None:
        loop, timers = asyncio.get_running_loop(), list[float]()
        call_at = loop.call_at

        def counted(when: float, *given: object) -> asyncio.TimerHandle:
            timers.append(when)
            return call_at(when, *given)  # pyright: ignore[reportArgumentType]

        loop.call_at = counted  # pyright: ignore[reportAttributeAccessIssue]
        for _ in range(1000):
            with late.limit(NEVER):
                await asyncio.sleep(0)
        assert len(timers) == 1

    play(story)
