"""The host's end of the worker process: calls its functions, and replaces it when it dies or a function hangs."""

import asyncio
import copyreg
import itertools
import logging
import pickle
import socket
import sys
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType
from typing import Any

from devhost.app import Function
from devhost.config import HostError
from devhost.worker import LENGTH, view_of

log = logging.getLogger("devhost.worker")

# Requests hold such views of their parameters.
copyreg.pickle(MappingProxyType, lambda view: (view_of, (dict(view),)))
_ROOT = Path(__file__).resolve().parent.parent


class InvocationError(Exception):
    """A function failed, with the worker's traceback, or its worker ended under it."""


class Worker:
    """A worker process for `folder`, in which functions may run for `timeout` seconds (`functionTimeout`)."""

    def __init__(self, folder: Path, threads: int, timeout: float) -> None:
        self._folder, self._threads, self._timeout = folder, threads, timeout
        self._numbers = itertools.count()
        self._calls: dict[int, asyncio.Future[Any]] = {}
        self._ready = asyncio.Event()

    async def start(self) -> list[Function]:
        """Start the process, and return the app's functions.

        Raises:
            HostError: The app can't be indexed; one line per fault.
        """
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "devhost.worker", str(self._folder), str(self._threads), str(theirs.fileno()),
                cwd=_ROOT, pass_fds=(theirs.fileno(),),
            )  # fmt: skip
        self._reader, self._writer = await asyncio.open_connection(sock=ours)
        try:
            functions: list[Function] | str = await self._receive()
        except EOFError:
            functions = f"the worker ended while it loaded the app (status {await self._process.wait()})"
        if isinstance(functions, str):
            await self.stop()
            raise HostError(functions)
        log.info("worker %d started", self._process.pid)
        self._ready.set()
        return functions

    async def run(self) -> None:
        """Take the worker's answers until cancelled; a worker that ends is replaced, and its calls fail.

        Raises:
            HostError: A new worker does not start.
        """
        while True:
            try:
                while True:
                    number, result, failure = await self._receive()
                    waiting = self._calls.pop(number)
                    if failure:
                        waiting.set_exception(InvocationError(failure))
                    else:
                        waiting.set_result(result)
            except (EOFError, ConnectionError):
                self._ready.clear()
                await self.stop()
                text = "worker %d ended (status %s) with %d calls under way; starting another one"
                log.warning(text, self._process.pid, self._process.returncode, len(self._calls))
                while self._calls:
                    self._calls.popitem()[1].set_exception(InvocationError("the worker ended under the call"))
                await self.start()

    async def __call__(self, function: Function, value: object) -> Any:
        """Call a function with its trigger's value.

        Raises:
            InvocationError: It failed or took too long, or the worker ended.
        """
        await self._ready.wait()
        number, waiting = next(self._numbers), asyncio.get_running_loop().create_future()
        # The caller may be cancelled before it ends.
        waiting.add_done_callback(asyncio.Future[Any].exception)
        self._calls[number] = waiting
        content = pickle.dumps((number, function, value))
        self._writer.write(len(content).to_bytes(LENGTH) + content)
        try:
            async with asyncio.timeout(self._timeout):
                return await asyncio.shield(waiting)
        except TimeoutError:
            log.warning("function '%s' runs longer than functionTimeout; its worker is replaced", function.name)
            self._ready.clear()
            self._process.kill()
            raise InvocationError("functionTimeout") from None

    async def drain(self, seconds: float) -> int:
        """Wait for the running functions; return how many did not end in time."""
        return len((await asyncio.wait(self._calls.values(), timeout=seconds))[1]) if self._calls else 0

    async def stop(self) -> None:
        """End the process and whatever runs in it."""
        with suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()
        self._writer.close()
        with suppress(ConnectionError):
            await self._writer.wait_closed()

    async def _receive(self) -> Any:
        try:
            length = int.from_bytes(await self._reader.readexactly(LENGTH))
            return pickle.loads(await self._reader.readexactly(length))  # noqa: S301 - from the process started here
        except asyncio.IncompleteReadError:
            raise EOFError from None
