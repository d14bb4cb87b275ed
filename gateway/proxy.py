"""One request from an application to a node: wait for a place, send, try another node, stream, release."""

import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from gateway.answer import NodeAnswer
from gateway.balance import Balancer, NodeLease
from gateway.hold import FullError, TooLateError, WaitingRoom
from gateway.snapshot import Endpoint, openai_error
from gateway.upstream import Upstream, UpstreamError, UpstreamTimeoutError

log = logging.getLogger("gpulaunch.gateway")

Send = Callable[[dict[str, Any]], Awaitable[None]]

MOST_NODES = 3
"""Different nodes that one request is tried on."""
_TRIED_AGAIN = frozenset({502, 503, 504})
"""Answers after which another node may do better; a 429 of vLLM and what is wrong with the request would repeat."""
LONGEST_RETRY_AFTER = 120
"""Seconds; the official clients do not retry at all when they are asked to wait longer."""


@dataclass
class Counts:
    """What `/metrics` shows."""

    answers: Counter[tuple[str, int]] = field(default_factory=Counter[tuple[str, int]])
    failovers: Counter[str] = field(default_factory=Counter[str])
    broken_streams: Counter[str] = field(default_factory=Counter[str])
    client_aborts: Counter[str] = field(default_factory=Counter[str])


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
    attempts: int = 0
    held: float = 0.0
    node: str = ""
    status: int = 0


class BrokenStreamError(Exception):
    """The answer broke off after it had begun; the connection is closed, so that the client notices."""


@dataclass(frozen=True)
class Proxy:
    room: WaitingRoom
    balancer: Balancer
    upstream: Upstream
    find: Callable[[str], Endpoint | None]
    counts: Counts

    async def serve(self, exchange: Exchange, send: Send) -> None:
        """Answer a request; a client that leaves cancels this, which releases the node's place."""
        excluded: set[tuple[str, int]] = set()
        refusal = "No node could be reached."
        while exchange.attempts < MOST_NODES:
            began = time.monotonic()
            try:
                seconds = self._patience(exchange, excluded)
                lease = await self.room.lease(exchange.endpoint, excluded, seconds)
            except FullError:
                await self._unavailable(exchange, send, "Too many requests wait for this endpoint already.")
                return
            except TooLateError:
                break
            finally:
                exchange.held += time.monotonic() - began
            exchange.attempts += 1
            exchange.node = lease.node.instance_id
            answer: NodeAnswer | None = None
            try:
                answer = await self._begin(exchange, lease)
                if answer is not None and (answer.status not in _TRIED_AGAIN or exchange.attempts == MOST_NODES):
                    await self._pass_on(exchange, answer, lease, send)
                    return
                if answer is not None:
                    refusal = f"A node answered {answer.status}."
            except UpstreamTimeoutError:
                self.balancer.failed(lease.node, connection=False)
                await self._respond(exchange, send, 504, "The node did not answer in time.", "timeout")
                return
            finally:
                lease.release()
                if answer is not None:
                    answer.close()
            excluded.add(lease.node.name)
            self.counts.failovers[exchange.endpoint] += 1
        await self._unavailable(exchange, send, refusal if excluded else "All nodes are busy.")

    def _patience(self, exchange: Exchange, excluded: Collection[tuple[str, int]]) -> float:
        """How long to wait for a node: not at all if only those are left that have failed this request."""
        endpoint = self.find(exchange.endpoint)
        if endpoint is None or not endpoint.replicas:
            return 0.0
        others = any(node.name not in excluded and not node.draining for node in endpoint.nodes)
        return max(0.0, exchange.hold_seconds - exchange.held) if others or not excluded or endpoint.starting else 0.0

    async def _begin(self, exchange: Exchange, lease: NodeLease) -> NodeAnswer | None:
        """The node's answer, or None if it could not be reached."""
        body = exchange.body(lease.node.model)
        try:
            answer = await self.upstream.send(lease.node, exchange.path, exchange.headers, body)
        except UpstreamError as error:
            log.warning("%s could not be reached: %s; request %s", exchange.node, error, exchange.request_id)
            self.balancer.failed(lease.node, connection=True)
            return None
        if answer.status >= 500:
            self.balancer.failed(lease.node, connection=False)
        else:
            self.balancer.succeeded(lease.node)
        return answer

    async def _pass_on(self, exchange: Exchange, answer: NodeAnswer, lease: NodeLease, send: Send) -> None:
        """Send the answer on, byte by byte as it comes. From here on nothing can be tried again."""
        headers = [*answer.headers, *self._own_headers(exchange)]
        begun = False
        try:
            async for chunk in answer.chunks:
                if not begun:
                    begun = True
                    exchange.status = answer.status
                    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
        except (UpstreamError, UpstreamTimeoutError) as error:
            self.balancer.failed(lease.node, connection=True)
            if not begun:
                await self._respond(exchange, send, 502, "The node broke its answer off.", "bad_gateway")
                return
            self.counts.broken_streams[exchange.endpoint] += 1
            log.warning("%s broke off: %s; request %s", exchange.node, error, exchange.request_id)
            if not answer.is_stream:
                raise BrokenStreamError from error
            message = openai_error("The node broke the stream off; send the request again.", "server_error", "broken")
            event = b"\n\ndata: " + message + b"\n\n"
            await send({"type": "http.response.body", "body": event, "more_body": False})
            return
        if not begun:
            exchange.status = answer.status
            await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _unavailable(self, exchange: Exchange, send: Send, why: str) -> None:
        """503 with the time after which to come back, never longer than clients are willing to wait."""
        endpoint = self.find(exchange.endpoint)
        if endpoint is None or not endpoint.replicas:
            why, after = "The endpoint is paused; resume it.", LONGEST_RETRY_AFTER
        elif endpoint.starting and not endpoint.nodes:
            nodes = "1 node is" if endpoint.starting == 1 else f"{endpoint.starting} nodes are"
            why, after = f"{nodes} being started.", LONGEST_RETRY_AFTER
        else:
            after = 5
        await self._respond(exchange, send, 503, why, "unavailable", after)

    async def _respond(
        self, exchange: Exchange, send: Send, status: int, message: str, code: str, retry_after: int = 0
    ) -> None:
        exchange.status = status
        extra = self._own_headers(exchange)
        if retry_after:
            extra.append((b"retry-after", str(retry_after).encode()))
        await respond(send, status, openai_error(message, "server_error", code), extra)

    def _own_headers(self, exchange: Exchange) -> list[tuple[bytes, bytes]]:
        return [
            (b"x-request-id", exchange.request_id.encode()),
            (b"x-gpulaunch-instance", exchange.node.encode()),
            (b"x-gpulaunch-held-ms", str(round(exchange.held * 1000)).encode()),
            (b"x-gpulaunch-attempts", str(exchange.attempts).encode()),
        ]


async def respond(
    send: Send, status: int, body: bytes, headers: list[tuple[bytes, bytes]], kind: bytes = b"application/json"
) -> None:
    lengths = [(b"content-type", kind), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": [*lengths, *headers]})
    await send({"type": "http.response.body", "body": body, "more_body": False})
