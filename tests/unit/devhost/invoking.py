"""Calls functions in threads of the test's own process, where devhost has another one for it."""

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from devhost.app import Function
from devhost.worker import call


class InThreads:
    def __init__(self, bodies: Mapping[str, Callable[..., Any]], threads: int = 8) -> None:
        self._bodies, self._pool = bodies, ThreadPoolExecutor(threads)

    async def __call__(self, function: Function, value: object) -> Any:
        body = self._bodies[function.name]
        return await asyncio.get_running_loop().run_in_executor(self._pool, call, function, body, value)
