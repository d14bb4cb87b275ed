"""Runs functions in a thread pool, as the Python worker does with synchronous ones."""

import asyncio
import os
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

from devhost.app import Function, HttpFunction
from devhost.config import HostError

# The worker's own context is not a func.Context either; this holds what the app reads of it.
_CONTEXT = SimpleNamespace(trace_context=SimpleNamespace(trace_parent="", trace_state=""))


def thread_count(settings: Mapping[str, str]) -> int:
    """Return PYTHON_THREADPOOL_THREAD_COUNT, else the worker's default: cores + 4, at most 32."""
    text = settings.get("PYTHON_THREADPOOL_THREAD_COUNT")
    if text is None:
        return min(32, (os.cpu_count() or 1) + 4)
    if not text.isdigit() or int(text) < 1:
        raise HostError(f"PYTHON_THREADPOOL_THREAD_COUNT={text!r} must be a number from 1")
    return int(text)


class Invoker:
    def __init__(self, threads: int) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="function")
        self._running: set[Future[Any]] = set()

    @property
    def busy(self) -> int:
        """How many threads are inside a function."""
        return sum(future.running() for future in self._running)

    async def __call__(self, function: Function, value: object) -> Any:
        """Call the function with its trigger's value; its exceptions pass through.

        Raises:
            RuntimeError: a function without an HTTP trigger returned a value, which the worker refuses as well.
        """
        arguments = {function.argument: value, **({"context": _CONTEXT} if function.takes_context else {})}
        future = self._pool.submit(function.call, **arguments)
        self._running.add(future)
        future.add_done_callback(self._running.discard)
        result = await asyncio.wrap_future(future)
        if result is not None and not isinstance(function, HttpFunction):
            raise RuntimeError(f"function '{function.name}' without a $return binding returned a non-None value")
        return result
