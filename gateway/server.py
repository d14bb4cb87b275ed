"""The HTTP server in front, with limits on what a client does before the application sees any of it."""

import asyncio

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MOST_HEADERS = 64 * 1024
"""Bytes of a request's address and headers, which uvicorn collects without a limit."""
HEADER_SECONDS = 30.0
"""In which a request's headers must have come, from the connection's or the request's first byte on."""
KEEP_ALIVE_SECONDS = 75
"""For which an idle connection is kept: longer than by clients (httpx 5 s, aiohttp 15 s), or one is closed just as its
client sends the next request."""
_TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
_TOO_SLOW = b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


class LimitedProtocol(HttpToolsProtocol):
    """Closes a connection whose headers do not end, or do not come."""

    _ahead = 0
    """Bytes since the last headers, body or message ended."""
    _hurry: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._expect_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        self._relax()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        self._ahead += len(data)
        super().data_received(data)
        if self._ahead > MOST_HEADERS:
            self._refuse(_TOO_LARGE)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._expect_headers()

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        self._ahead = 0
        self._relax()

    def on_body(self, body: bytes) -> None:
        super().on_body(body)
        self._ahead = 0

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._ahead = 0

    def _expect_headers(self) -> None:
        if self._hurry is None:
            self._hurry = self.loop.call_later(HEADER_SECONDS, self._refuse, _TOO_SLOW)

    def _relax(self) -> None:
        if self._hurry is not None:
            self._hurry.cancel()
            self._hurry = None

    def _refuse(self, answer: bytes) -> None:
        if not self.transport.is_closing():
            self.transport.write(answer)
            self.transport.close()
