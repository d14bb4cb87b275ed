"""Gateways as they run in a cloud: two of them behind one address, replaced one after the other."""

from __future__ import annotations

import asyncio
import contextlib
import re
import signal
import subprocess
import sys
import threading
from collections import Counter
from dataclasses import dataclass, field

import httpx
from pydantic import SecretStr

from shared.auth import Deriver
from tests.e2e.stack.azurite import ROOT, Azurite
from tests.e2e.stack.processes import Processes, StackError, free_port, wait_until

START_SECONDS, END_SECONDS = 60, 60


@dataclass
class Front:
    """One address for several ports: a connection goes to the first that takes it, in turn. Nothing is read or kept."""

    ports: list[int]
    port: int = field(default_factory=free_port)
    _turn: int = 0
    _loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.new_event_loop)
    _thread: threading.Thread | None = None

    def start(self) -> None:
        listening = threading.Event()

        async def run() -> None:
            server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
            listening.set()
            async with server:
                await server.serve_forever()

        def main() -> None:
            with contextlib.suppress(asyncio.CancelledError), contextlib.closing(self._loop):
                self._loop.run_until_complete(run())

        self._thread = threading.Thread(target=main, name="front", daemon=True)
        self._thread.start()
        if not listening.wait(START_SECONDS):
            raise StackError("the gateways' address did not open")

    def stop(self) -> None:
        def cancel() -> None:
            for task in asyncio.all_tasks(self._loop):
                task.cancel()

        if self._thread is not None:
            self._loop.call_soon_threadsafe(cancel)
            self._thread.join(START_SECONDS)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._turn += 1
        with contextlib.closing(writer):
            for offset in range(len(self.ports)):
                port = self.ports[(self._turn + offset) % len(self.ports)]
                with contextlib.suppress(ConnectionRefusedError):
                    answers, questions = await asyncio.open_connection("127.0.0.1", port)
                    with contextlib.closing(questions):
                        await _both(reader, questions, answers, writer)
                    return


async def _both(
    reader: asyncio.StreamReader,
    questions: asyncio.StreamWriter,
    answers: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
) -> None:
    """Pass bytes on in both directions until either side hangs up."""
    ways = [asyncio.ensure_future(_pass(reader, questions)), asyncio.ensure_future(_pass(answers, writer))]
    try:
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while chunk := await reader.read(64 * 1024):
            writer.write(chunk)
            await writer.drain()


@dataclass
class Gateways:
    """Two gateway processes and their address."""

    processes: Processes
    azurite: Azurite
    master_key: str
    front: Front = field(default_factory=lambda: Front([free_port(), free_port()]))
    _running: dict[int, subprocess.Popen[bytes]] = field(default_factory=dict[int, subprocess.Popen[bytes]])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.front.port}"

    def start(self) -> None:
        for port in self.front.ports:
            self._start(port)
        self.front.start()

    def restart(self) -> None:
        """Replace one after the other: each ends when its requests are answered, and another one takes its place.

        Raises StackError if one does not end by itself, or not without an error.
        """
        for port in self.front.ports:
            process = self._running.pop(port)
            process.send_signal(signal.SIGTERM)
            try:
                code = process.wait(END_SECONDS)
            except subprocess.TimeoutExpired as error:
                raise StackError(f"a gateway did not end: {self.processes.last_words(f'gateway-{port}')}") from error
            if code != 0:
                raise StackError(f"a gateway ended with {code}: {self.processes.last_words(f'gateway-{port}')}")
            self._start(port)

    def count(self, name: str) -> int:
        """The sum of a counter of the gateways that run now."""
        texts = [httpx.get(f"http://127.0.0.1:{port}/metrics", timeout=10).text for port in self.front.ports]
        found = [re.findall(rf"^gpulaunch_gateway_{name}(?:{{.*}})? (\d+)$", text, re.MULTILINE) for text in texts]
        return sum(int(number) for numbers in found for number in numbers)

    def answers(self) -> Counter[int]:
        """How often each status was answered, by the logs of all gateways that have run."""
        logs = [path.read_text() for path in self.processes.logs.glob("gateway-*.log")]
        return Counter(int(status) for log in logs for status in re.findall(r" answered (\d+) in ", log))

    def stop(self) -> None:
        self.front.stop()
        for process in self._running.values():
            self.processes.stop(process)
        self._running.clear()

    def _start(self, port: int) -> None:
        environment = {
            "AzureWebJobsStorage": self.azurite.connection_string,
            "GPULAUNCH_GATEWAY_KEY": Deriver(SecretStr(self.master_key)).gateway_key(),
            "GATEWAY_PORT": str(port),
        }
        process = self.processes.start(
            f"gateway-{port}",
            [sys.executable, "-m", "gateway"],
            env=self.processes.environment(environment),
            cwd=ROOT,
        )
        self._running[port] = process

        def ready() -> bool:
            if process.poll() is not None:
                raise StackError(f"the gateway ended: {self.processes.last_words(f'gateway-{port}')}")
            try:
                return httpx.get(f"http://127.0.0.1:{port}/readyz", timeout=5).is_success
            except httpx.TransportError:
                return False

        wait_until(ready, seconds=START_SECONDS, what="the gateway")
