"""An event loop on the simulated clock: asyncio's own code runs on it unchanged, and a seed decides everything.

Callbacks run between two operations of others and never wait. What a program hands to a thread is a task of the
scheduler, where faults are met, and which dies with its process.
"""

import asyncio
import math
from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, cast

from tests.simulation.scheduler import Process, Scheduler, Task

_CLOSES = 5
"""How often a coroutine may have to be closed that waits again while it is closed."""
_running: Any = asyncio


class SimulatedLoop(asyncio.AbstractEventLoop):
    """The part of a loop that is used by code without sockets of its own."""

    def __init__(self, scheduler: Scheduler, process: Process, failed: Callable[[str], None]) -> None:
        self._scheduler = scheduler
        self._process = process
        self._failed = failed
        self._ready: deque[asyncio.Handle] = deque()
        self._announced = False
        self._closed = False
        self._tasks: dict[asyncio.Task[Any], None] = {}

    def time(self) -> float:
        return self._scheduler.seconds

    def call_soon(self, callback: Any, *args: Any, context: Any = None) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        if not self._closed:
            self._ready.append(handle)
            if not self._announced:
                self._announced = True
                self._scheduler.after(0, self._turn)
        return handle

    call_soon_threadsafe = call_soon

    def call_later(self, delay: float, callback: Any, *args: Any, context: Any = None) -> asyncio.TimerHandle:
        return self.call_at(self.time() + delay, callback, *args, context=context)

    def call_at(self, when: float, callback: Any, *args: Any, context: Any = None) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        # Whole milliseconds, at least one: whoever is called looks at the clock, and would wait for the rest of it.
        milliseconds = max(1, math.ceil(when * 1000) - self._scheduler.milliseconds)

        def due() -> None:
            if not self._closed and not handle.cancelled():
                self._ready.append(handle)
                self._turn()

        self._scheduler.after((milliseconds + 0.5) / 1000, due)
        return handle

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(self, coro: Any, *, name: str | None = None, context: Any = None) -> asyncio.Task[Any]:
        task: asyncio.Task[Any] = asyncio.Task(coro, loop=self, name=name, context=context)
        self._tasks[task] = None
        task.add_done_callback(lambda done: self._tasks.pop(done, None))
        return task

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> asyncio.Future[Any]:
        """Do it in a task of the scheduler, which may wait."""
        del executor
        future = self.create_future()

        def ended(task: Task) -> None:
            if future.done() or task.died or self._closed:
                return
            if task.error is not None:
                future.set_exception(task.error)
            else:
                future.set_result(task.result)

        self._scheduler.spawn(f"{self._process.name} thread", self._process, lambda: func(*args), ended)
        return future

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return not self._closed

    def is_closed(self) -> bool:
        return self._closed

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """Nothing: what is cancelled is left out when it is due."""

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        if not self._closed:
            self._failed(f"{context.get('message')}: {context.get('exception')!r}")

    def kill(self) -> None:
        """End everything at once, as SIGKILL does: nothing of it is called any more, in whatever order it is freed."""
        self._closed = True
        self._ready.clear()
        for task in list(self._tasks):
            cast("Any", task)._log_destroy_pending = False
            coroutine = cast("Coroutine[Any, Any, Any]", task.get_coro())
            for _ in range(_CLOSES):
                with suppress(RuntimeError):  # it waits once more, in a `finally`
                    coroutine.close()
                    break
        self._tasks.clear()

    def _turn(self) -> None:
        self._announced = False
        if self._closed or not self._process.alive:
            return
        _running._set_running_loop(self)
        try:
            while self._ready:
                handle: Any = self._ready.popleft()
                if not handle.cancelled():
                    handle._run()
        finally:
            _running._set_running_loop(None)
