"""What a client gets: an answer, or an error in the shape that its kind of answer has by then."""

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from gateway.snapshot import openai_error

Send = Callable[[dict[str, Any]], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]


@dataclass
class Exchange:
    """A request under way, and what became of it."""

    endpoint: str
    path: str
    headers: Mapping[str, str]
    body: Callable[[str], bytes]
    """The body for a node's name of the model."""
    request_id: str
    hold_seconds: float
    is_stream: bool = False
    """Whether the client asked for a stream."""
    key_id: str = ""
    hides_usage: bool = False
    """Whether the gateway asked for the stream's usage, and the client did not."""
    attempts: int = 0
    """Nodes that it was tried on."""
    sent: int = 0
    """Of these, those that got it."""
    held: float = 0.0
    node: str = ""
    status: int = 0


@dataclass
class Reply:
    """The answer to one exchange. It begins once; what goes wrong later is an event of the stream."""

    exchange: Exchange
    send: Send
    landing: Callable[[], float | None]
    """In how many seconds a node is expected; None: there is one, and it is busy."""
    begun: bool = False

    async def waiting(self) -> None:
        """Keep the line open while the request waits: proxies in between end silent ones. Clients skip comments."""
        if not self.begun:
            await self.begin(200, [(b"content-type", b"text/event-stream; charset=utf-8")])
        landing = self.landing()
        about = "" if landing is None else f", about {landing:.0f} s"
        await self.chunk(f": waiting for a node{about}\n\n".encode())

    async def begin(self, status: int, headers: Headers) -> None:
        self.begun = True
        self.exchange.status = status
        shown = [*headers, *self._own_headers()]
        await self.send({"type": "http.response.start", "status": status, "headers": shown})

    async def chunk(self, chunk: bytes) -> None:
        await self.send({"type": "http.response.body", "body": chunk, "more_body": True})

    async def end(self, last: bytes = b"") -> None:
        await self.send({"type": "http.response.body", "body": last, "more_body": False})

    async def refuse(self, status: int, message: str, code: str, retry_after: int = 0) -> None:
        """End with an error of the gateway's own."""
        error = openai_error(message, "server_error", code)
        if self.begun:
            self.exchange.status = status
            await self.end(error_event(error))
            return
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(error)).encode())]
        if retry_after:
            headers.append((b"retry-after", str(retry_after).encode()))
        await self.begin(status, headers)
        await self.end(error)

    def _own_headers(self) -> Headers:
        exchange = self.exchange
        return [
            (b"x-request-id", exchange.request_id.encode()),
            (b"x-gpulaunch-instance", exchange.node.encode()),
            (b"x-gpulaunch-held-ms", str(round(exchange.held * 1000)).encode()),
            (b"x-gpulaunch-attempts", str(exchange.attempts).encode()),
        ]


def error_event(error: bytes) -> bytes:
    """An error as OpenAI's clients (`error`) and Anthropic's (the event's name, `type`) find it in a stream."""
    return b"event: error\ndata: " + json.dumps({"type": "error"} | json.loads(error)).encode() + b"\n\n"


def node_error_event(status: int, body: bytes) -> bytes:
    """A node's refusal of a request whose stream has begun already."""
    try:
        found: object = json.loads(body)
    except ValueError:
        found = None
    if isinstance(found, dict) and "error" in found:
        return error_event(body)
    return error_event(openai_error(f"The node answered {status}.", "server_error", "bad_gateway"))


async def respond(send: Send, status: int, body: bytes, headers: Headers, kind: bytes = b"application/json") -> None:
    lengths = [(b"content-type", kind), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": [*lengths, *headers]})
    await send({"type": "http.response.body", "body": body, "more_body": False})
