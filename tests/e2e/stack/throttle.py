"""A slow way to a server: whatever comes from it passes one token bucket, however many connections there are."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from dataclasses import dataclass, field

from tests.e2e.stack.processes import StackError, free_port

CHUNK = 64 * 1024
BURST_SECONDS = 0.1
"""How much may be caught up after a pause: enough for a busy machine's hiccups, too little to be seen in a figure."""
START_SECONDS = 10


@dataclass
class Bucket:
    """A token bucket that lends: bytes are promised in order, each lot with the moment at which it may pass."""

    rate: float
    """Bytes per second; infinite: no limit."""
    burst_seconds: float = BURST_SECONDS
    _free_at: float = 0.0

    def take(self, count: int, now: float) -> float:
        """Seconds from `now` until `count` bytes may pass."""
        begins = max(self._free_at, now - self.burst_seconds)
        self._free_at = begins + count / self.rate
        return max(0.0, self._free_at - now)


@dataclass
class Throttle:
    """Passes connections on to `upstream`, a loopback port; `bucket.rate` may be changed while it runs."""

    upstream: int
    bucket: Bucket
    port: int = field(default_factory=free_port)
    _loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.new_event_loop)
    _thread: threading.Thread | None = None
    _connections: set[asyncio.Task[None]] = field(default_factory=set[asyncio.Task[None]])

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Throttle:
        listening = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(listening,), name="throttle", daemon=True)
        self._thread.start()
        if not listening.wait(START_SECONDS):
            raise StackError("the slow way to the server did not open")
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        if self._thread is not None:
            self._thread.join(START_SECONDS)

    def _run(self, listening: threading.Event) -> None:
        server = self._loop.run_until_complete(asyncio.start_server(self._accept, "127.0.0.1", self.port))
        listening.set()
        self._loop.run_forever()
        server.close()
        # A list of its own: whoever has ended leaves the set before it is waited for.
        connections = list(self._connections)
        for connection in connections:
            connection.cancel()
        if connections:
            self._loop.run_until_complete(asyncio.wait(connections))
        self._loop.close()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = self._loop.create_task(self._serve(reader, writer))
        self._connections.add(connection)
        connection.add_done_callback(self._connections.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # One of the two hangs up, or the throttle closes: the other end is hung up on as well.
        with contextlib.suppress(OSError, asyncio.CancelledError), contextlib.closing(writer):
            answers, questions = await asyncio.open_connection("127.0.0.1", self.upstream)
            with contextlib.closing(questions):
                asking = self._loop.create_task(_pass(reader, questions))
                try:
                    while chunk := await answers.read(CHUNK):
                        delay = self.bucket.take(len(chunk), time.monotonic())
                        if delay > 0:
                            await asyncio.sleep(delay)
                        writer.write(chunk)
                        await writer.drain()
                finally:
                    asking.cancel()


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while chunk := await reader.read(CHUNK):
            writer.write(chunk)
            await writer.drain()
        writer.write_eof()
