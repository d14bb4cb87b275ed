"""Time limits that are hardly ever exceeded, on one shared timer: a timer for each costs more than what it guards."""

import asyncio
from collections.abc import Callable
from types import TracebackType

PRECISION_SECONDS = 0.05
"""How late what is late may be noticed."""


class Late:
    """Calls functions that are not cancelled in time. It belongs to one loop, and has no timer when nothing is due."""

    def __init__(self) -> None:
        self._acts: dict[object, tuple[float, Callable[[], object]]] = {}
        """When each is to be called, by the object that cancels it."""
        self._timer: asyncio.TimerHandle | None = None

    def after(self, seconds: float, act: Callable[[], object]) -> object:
        """Call `act` in about so many seconds, unless what is returned is given to `forget` before."""
        loop, name = asyncio.get_running_loop(), object()
        at = loop.time() + seconds
        self._acts[name] = (at, act)
        if self._timer is None or at < self._timer.when():
            self._look_at(loop, at)
        return name

    def forget(self, name: object) -> None:
        """Cancel a call; harmless if it was made already."""
        self._acts.pop(name, None)

    def limit(self, seconds: float) -> "Limit":
        """Raise TimeoutError inside `with` after so many seconds, as `asyncio.timeout` does."""
        return Limit(self, seconds)

    def _look_at(self, loop: asyncio.AbstractEventLoop, at: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = loop.call_at(at, self._look, loop)

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer, now = None, loop.time()
        for name in [name for name, (at, _) in self._acts.items() if at <= now]:
            _, act = self._acts.pop(name)
            act()
        if self._acts:
            soonest = min(at for at, _ in self._acts.values())
            self._look_at(loop, max(soonest, now + PRECISION_SECONDS))


class Limit:
    def __init__(self, late: Late, seconds: float) -> None:
        self._late, self._seconds = late, seconds
        self._over = False

    def __enter__(self) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - a coroutine runs in a task
        self._task, self._cancelling = task, task.cancelling()
        self._name = self._late.after(self._seconds, self._end)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._late.forget(self._name)
        # Whoever else cancelled the task meanwhile goes first.
        if self._over and self._task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise TimeoutError from error

    def _end(self) -> None:
        self._over = True
        self._task.cancel()
