"""Clients on bare sockets, which cost less than what they measure: one request after the other, or many streams."""

import asyncio
import json
import statistics
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from bench.processes import BenchError

PATIENCE_SECONDS = 120.0
"""For an answer: some contenders take a minute at 32 clients."""
CHUNKS = 100
_CHUNK = b'"delta":'
"""In each event with text, whatever becomes of the spaces in it."""


@dataclass(frozen=True)
class Target:
    """A server and what it is asked."""

    port: int
    headers: Mapping[str, str]
    model: str

    def request(self, **more: object) -> bytes:
        asked = {"model": self.model, "messages": [{"role": "user", "content": "hello"}], "max_tokens": 1, **more}
        body = json.dumps(asked).encode()
        shown = {"Host": f"127.0.0.1:{self.port}", "Content-Type": "application/json", **self.headers}
        lines = "".join(f"{name}: {value}\r\n" for name, value in shown.items())
        head = f"POST /v1/chat/completions HTTP/1.1\r\n{lines}Content-Length: {len(body)}\r\n\r\n"
        return head.encode() + body


@dataclass(frozen=True)
class Rate:
    """Of requests that are answered at once."""

    seconds: list[float]
    """Of each answer."""
    per_second: float


@dataclass(frozen=True)
class Streamed:
    """Of streams that were opened together."""

    chunks: int
    first: float
    """Seconds until a stream's first chunk, median."""


class _Connection(asyncio.Protocol):
    """Asks, and resolves `answered` when the answer is complete."""

    def __init__(self, request: bytes) -> None:
        self._request = request
        self._loop = asyncio.get_running_loop()
        self.seconds: list[float] = []
        self.chunks = 0
        self.first: float | None = None
        self._received = bytearray()
        self._length: int | None = None
        self._asked = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - of a TCP connection
        self._transport = transport

    def ask(self) -> "asyncio.Future[None]":
        self.answered: asyncio.Future[None] = self._loop.create_future()
        self._received.clear()
        self._length = None
        self._asked = time.perf_counter()
        self._transport.write(self._request)
        return self.answered

    def data_received(self, data: bytes) -> None:
        self._received += data
        if _CHUNK in data:
            self.first = self.first or time.perf_counter() - self._asked
        if self._length is None and not self._read_head():
            return
        if self._length == -1 and self._received.endswith(b"0\r\n\r\n"):
            self.chunks += self._received.count(_CHUNK)
            self._complete()
        elif self._length is not None and 0 <= self._length <= len(self._received):
            self._complete()

    def _read_head(self) -> bool:
        end = self._received.find(b"\r\n\r\n")
        if end < 0:
            return False
        head = bytes(self._received[:end]).lower()
        if b" 200 " not in head[:16]:
            self._fail(f"answered {bytes(self._received[:300])!r}")
            return False
        _, found, rest = head.partition(b"content-length:")
        self._length = end + 4 + int(rest.split(b"\r\n")[0]) if found else -1
        return True

    def _complete(self) -> None:
        self.seconds.append(time.perf_counter() - self._asked)
        if not self.answered.done():
            self.answered.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - as asyncio calls it
        self._fail("closed the connection")

    def _fail(self, why: str) -> None:
        if not self.answered.done():
            self.answered.set_exception(BenchError(f"it {why}"))

    def close(self) -> None:
        self.answered.cancel()
        self._transport.close()


async def _connections(target: Target, request: bytes, count: int) -> list[_Connection]:
    loop, made = asyncio.get_running_loop(), list[_Connection]()
    for _ in range(count):
        _, connection = await loop.create_connection(lambda: _Connection(request), "127.0.0.1", target.port)
        made.append(connection)
    return made


async def _patiently(answer: Awaitable[object]) -> None:
    try:
        await asyncio.wait_for(answer, PATIENCE_SECONDS)
    except TimeoutError as error:
        raise BenchError(f"it did not answer within {PATIENCE_SECONDS:.0f} s") from error


def drive(target: Target, clients: int, seconds: float) -> Rate:
    """Ask for some seconds with that many clients. Raises BenchError if an answer is not 200."""

    async def run() -> Rate:
        connections = await _connections(target, target.request(), clients)
        began = time.perf_counter()

        async def client(connection: _Connection) -> None:
            while time.perf_counter() - began < seconds:
                await _patiently(connection.ask())

        await asyncio.gather(*map(client, connections))
        took = time.perf_counter() - began
        for connection in connections:
            connection.close()
        spent = [one for connection in connections for one in connection.seconds]
        return Rate(spent, len(spent) / took)

    return asyncio.run(run())


def stream(
    target: Target,
    streams: int,
    chunks: int = CHUNKS,
    pace: float | None = None,
    meanwhile: Callable[[], None] | None = None,
) -> Streamed:
    """Open that many streams at once and read all of them; `meanwhile` is called twice a second.

    Raises BenchError if one is cut.
    """
    more = {} if pace is None else {"pace": pace}
    asked = target.request(**{"stream": True, "max_tokens": chunks, **more})

    async def look() -> None:
        while meanwhile is not None:
            await asyncio.sleep(0.5)
            meanwhile()

    async def run() -> Streamed:
        connections = await _connections(target, asked, streams)
        looking = asyncio.create_task(look())
        answers = [connection.ask() for connection in connections]
        await _patiently(asyncio.gather(*answers))
        looking.cancel()
        for connection in connections:
            connection.close()
        short = [one.chunks for one in connections if one.chunks < chunks]
        if short:
            raise BenchError(f"{len(short)} of {streams} streams had fewer than {chunks} chunks: {short[:5]}")
        return Streamed(streams * chunks, statistics.median(one.first or 0.0 for one in connections))

    return asyncio.run(run())
