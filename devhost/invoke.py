"""Runs user functions: synchronous ones in a thread pool, asynchronous ones on the event loop."""

import asyncio
import os
import threading
import uuid
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

from devhost.app import Function, HttpFunction
from devhost.config import HostError

_local = threading.local()


def thread_count(settings: Mapping[str, str]) -> int:
    """PYTHON_THREADPOOL_THREAD_COUNT, else the worker's default of cores + 4, at most 32."""
    text = settings.get("PYTHON_THREADPOOL_THREAD_COUNT")
    if text is None:
        return min(32, (os.cpu_count() or 1) + 4)
    if not text.isdigit() or int(text) < 1:
        raise HostError(f"PYTHON_THREADPOOL_THREAD_COUNT={text!r} must be a number from 1")
    return int(text)


class Invoker:
    def __init__(self, threads: int, folder: str) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="function")
        self._folder = folder
        self._threaded: set[Future[Any]] = set()

    @property
    def busy(self) -> int:
        """How many threads are inside a function."""
        return sum(future.running() for future in self._threaded)

    async def __call__(self, function: Function, value: object) -> Any:
        """Call the function with its trigger's value and return what it returns; its exceptions pass through.

        Raises RuntimeError, as the worker does, when a function without an HTTP trigger returns a value.
        """
        arguments: dict[str, Any] = {function.argument: value}
        if function.takes_context:
            arguments["context"] = self._context(function)
        if function.is_async:
            result = await function.call(**arguments)
        else:
            future = self._pool.submit(function.call, **arguments)
            self._threaded.add(future)
            future.add_done_callback(self._threaded.discard)
            result = await asyncio.wrap_future(future)
        if result is not None and not isinstance(function, HttpFunction):
            raise RuntimeError(f"function '{function.name}' without a $return binding returned a non-None value")
        return result

    def _context(self, function: Function) -> SimpleNamespace:
        """The worker's own context is no subclass of func.Context either: it only has these attributes."""
        return SimpleNamespace(
            invocation_id=str(uuid.uuid4()),
            function_name=function.name,
            function_directory=self._folder,
            thread_local_storage=_local,
            trace_context=SimpleNamespace(trace_parent="", trace_state="", attributes={}),
            retry_context=SimpleNamespace(retry_count=0, max_retry_count=0, exception=None),
        )
