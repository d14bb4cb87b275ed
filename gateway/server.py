"""The HTTP server in front, with limits on what a client does before the application sees any of it."""

import asyncio

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from gateway.snapshot import openai_error

MOST_HEADERS = 64 * 1024
"""Bytes of a request's address and headers, which uvicorn collects without a limit."""
HEADER_SECONDS = 30.0
"""In which a request's headers must have come, from the connection's or the request's first byte on."""
KEEP_ALIVE_SECONDS = 75
"""For which an idle connection is kept: longer than by clients (httpx 5 s, aiohttp 15 s), or one is closed just as its
client sends the next request."""
MOST_CORKED = 16 * 1024
"""Bytes held back at most; beyond, flow control has to take effect."""
BODY_SECONDS = 60.0
"""In which a request's body must have come, from the end of its headers on."""
_TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
_TOO_SLOW = b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
_BODY_ERROR = openai_error("The body did not come in time.", "invalid_request_error", "timeout")
_BODY_TOO_SLOW = (
    b"HTTP/1.1 408 Request Timeout\r\ncontent-type: application/json\r\n"
    b"content-length: %d\r\nconnection: close\r\n\r\n%b" % (len(_BODY_ERROR), _BODY_ERROR)
)


class Corked(asyncio.Transport):
    """Collects an answer's headers, and what follows them within the same turn of the loop, into one write.

    Headers, body and end then take one system call and one packet instead of three. Later parts of a stream are written
    directly."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self._transport, self._loop = transport, loop
        self._waiting: list[bytes] = []
        self._size = 0
        # Called often, so without a method in between.
        self.is_closing = transport.is_closing
        self.get_extra_info = transport.get_extra_info
        self.pause_reading, self.resume_reading = transport.pause_reading, transport.resume_reading

    def write(self, data: bytes) -> None:  # type: ignore[override] - uvicorn writes nothing else
        if not self._waiting:
            if not data.startswith(b"HTTP/"):
                self._transport.write(data)
                return
            self._loop.call_soon(self._flush)
        self._waiting.append(data)
        self._size += len(data)
        if self._size > MOST_CORKED:
            self._flush()

    def close(self) -> None:
        self._flush()
        self._transport.close()

    def abort(self) -> None:
        self._transport.abort()

    def _flush(self) -> None:
        waiting, self._waiting, self._size = self._waiting, [], 0
        if waiting and not self.is_closing():
            self._transport.write(waiting[0] if len(waiting) == 1 else b"".join(waiting))


class LimitedProtocol(HttpToolsProtocol):
    """Closes a connection whose headers do not end, or whose headers or body do not come."""

    _ahead = 0
    """Bytes since the last headers, body or message ended."""
    _requests = 0
    _awaits: tuple[int, bool] | None = None
    """Which request something is still to come of, and whether it is the body; None: it is complete."""
    _timed: tuple[int, bool] | None = None
    """What the timer is for: requests that come in one piece take none."""
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(Corked(transport, self.loop))
        self._awaits = (0, False)
        self._set_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        self._awaits = None
        self._set_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        self._ahead += len(data)
        super().data_received(data)
        if self._ahead > MOST_HEADERS:
            self._refuse(_TOO_LARGE)
        if self._awaits != self._timed:
            self._set_timer()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._requests += 1
        self._awaits = (self._requests, False)

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        self._ahead = 0
        self._awaits = (self._requests, True)

    def on_body(self, body: bytes) -> None:
        super().on_body(body)
        self._ahead = 0

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._ahead = 0
        self._awaits = None

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._timed = self._awaits
        if self._timed is not None:
            _, is_body = self._timed
            self._timer = self.loop.call_later(BODY_SECONDS if is_body else HEADER_SECONDS, self._too_slow, is_body)

    def _too_slow(self, is_body: bool) -> None:
        if self.flow.read_paused:  # the gateway itself is late: it is busy with an earlier request of this connection
            self._set_timer()
        elif is_body and self.cycle.response_started:
            self.transport.close()
        else:
            self._refuse(_BODY_TOO_SLOW if is_body else _TOO_SLOW)

    def _refuse(self, answer: bytes) -> None:
        if not self.transport.is_closing():
            self.transport.write(answer)
            self.transport.close()
