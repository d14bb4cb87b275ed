"""One request from an application to a node: wait for a place, send, try another node, stream, release."""

import logging
import math
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from functools import partial

from gateway.answer import NodeAnswer
from gateway.balance import Balancer, NodeLease
from gateway.events import Cutter
from gateway.hold import FullError, TooLateError, WaitingRoom
from gateway.load import Load
from gateway.reply import Exchange, Reply, Send, error_event, node_error_event
from gateway.snapshot import Endpoint, openai_error
from gateway.upstream import UnreachableError, Upstream, UpstreamError, UpstreamTimeoutError
from gateway.usage import Meter

log = logging.getLogger("gpulaunch.gateway")

MOST_NODES = 3
"""Nodes that get one request, one after the other: what it does to them may be its own fault."""
_TRIED_AGAIN = frozenset({502, 503, 504})
"""Answers after which another node may do better; a 429 of vLLM and what is wrong with the request would repeat."""
LONGEST_RETRY_AFTER = 120
"""Seconds; the official clients do not retry at all when they are asked to wait longer."""
MOST_ERROR = 64 * 1024
"""Bytes of a node's error that are turned into an event."""


@dataclass
class Counts:
    """What `/metrics` shows."""

    answers: Counter[tuple[str, int]] = field(default_factory=Counter[tuple[str, int]])
    failovers: Counter[str] = field(default_factory=Counter[str])
    broken_streams: Counter[str] = field(default_factory=Counter[str])
    client_aborts: Counter[str] = field(default_factory=Counter[str])
    tokens: Counter[tuple[str, str, str]] = field(default_factory=Counter[tuple[str, str, str]])
    """By endpoint, id of the key, and `prompt` or `completion`."""


class BrokenStreamError(Exception):
    """The answer broke off after it had begun; the connection is closed, so that the client notices."""


@dataclass(frozen=True)
class Proxy:
    room: WaitingRoom
    balancer: Balancer
    upstream: Upstream
    find: Callable[[str], Endpoint | None]
    counts: Counts
    clock: Callable[[], float]
    """Seconds."""
    used: Callable[[str, int], None]
    """Counts tokens of a key for its limits."""
    load: Load

    async def serve(self, exchange: Exchange, send: Send) -> None:
        """Answer a request; a client that leaves cancels this, which releases the node's place."""
        reply = Reply(exchange, send, landing=partial(self._landing, exchange.endpoint))
        self._arrived(exchange)
        excluded: set[tuple[str, int]] = set()
        """Nodes that answered with an error; those that cannot be reached rest, and may be tried again."""
        refusal = "All nodes are busy."
        while exchange.sent < MOST_NODES:
            try:
                lease = await self._place(exchange, excluded, reply)
            except FullError:
                await self._unavailable(reply, "Too many requests wait for this endpoint already.")
                return
            except TooLateError:
                break
            exchange.attempts += 1
            exchange.sent += 1
            exchange.node = lease.node.instance_id
            self.counts.failovers[exchange.endpoint] += exchange.attempts > 1
            began, outstanding = self.clock(), self.balancer.outstanding(lease.node)
            try:
                failed_with = await self._try(lease, reply)
            except UpstreamError as error:
                log.warning("%s could not be reached: %s; request %s", exchange.node, error, exchange.request_id)
                self.balancer.failed(lease.node, connection=True)
                exchange.sent -= isinstance(error, UnreachableError)
                refusal = "No node could be reached."
            except UpstreamTimeoutError:
                self.balancer.failed(lease.node, connection=False)
                await reply.refuse(504, "The node did not answer in time.", "timeout")
                return
            else:
                if failed_with is None:
                    self._served(exchange, self.clock() - began, outstanding)
                    return
                excluded.add(lease.node.name)
                refusal = f"A node answered {failed_with}."
            finally:
                lease.release()
        await self._unavailable(reply, refusal)

    def _arrived(self, exchange: Exchange) -> None:
        endpoint = self.find(exchange.endpoint)
        if endpoint is not None:
            self.load.arrived(endpoint.endpoint_id)

    def _served(self, exchange: Exchange, seconds: float, outstanding: int) -> None:
        endpoint = self.find(exchange.endpoint)
        if endpoint is not None and exchange.status < 400:
            self.load.served(endpoint.endpoint_id, seconds, outstanding, endpoint.target)

    def _landing(self, name: str) -> float | None:
        """In how many seconds a node is expected for a request that waits; None: there is one, and it is busy."""
        endpoint = self.find(name)
        return None if endpoint is None or endpoint.nodes else endpoint.landing

    async def _place(self, exchange: Exchange, excluded: Collection[tuple[str, int]], reply: Reply) -> NodeLease:
        lease = self.room.lease_at_once(exchange.endpoint, excluded)
        if lease is not None:
            return lease
        began = self.clock()
        notice = reply.waiting if exchange.is_stream else None
        try:
            return await self.room.lease(exchange.endpoint, excluded, self._patience(exchange, excluded), notice)
        finally:
            exchange.held += self.clock() - began

    def _patience(self, exchange: Exchange, excluded: Collection[tuple[str, int]]) -> float:
        """How long to wait for a node: not at all if only those are left that answered this request with an error.

        A node that cannot be reached is replaced, or comes back.
        """
        endpoint = self.find(exchange.endpoint)
        if endpoint is None or not endpoint.replicas:
            return 0.0
        others = any(node.name not in excluded and not node.draining for node in endpoint.nodes)
        return max(0.0, exchange.hold_seconds - exchange.held) if others or not excluded or endpoint.starting else 0.0

    async def _try(self, lease: NodeLease, reply: Reply) -> int | None:
        """Have a node answer. Returns the status for which another one should, or None if it has answered.

        Raises:
            UpstreamError: It could not be reached, or broke off before the first byte of its answer.
            UpstreamTimeoutError: It did not begin in time, and may be working on the request.
        """
        exchange = reply.exchange
        answer: NodeAnswer | None = None
        try:
            answer = await self.upstream.send(
                lease.node, exchange.path, exchange.headers, exchange.body(lease.node.model)
            )
            if answer.status in _TRIED_AGAIN and exchange.sent < MOST_NODES:
                self.balancer.failed(lease.node, connection=False)
                return answer.status
            first = await anext(answer.chunks, b"")
            if answer.status >= 500:
                self.balancer.failed(lease.node, connection=False)
            else:
                self.balancer.succeeded(lease.node)
            await self._pass_on(answer, first, lease, reply)
        finally:
            if answer is not None:
                answer.close()
        return None

    async def _pass_on(self, answer: NodeAnswer, first: bytes, lease: NodeLease, reply: Reply) -> None:
        """Send the answer on as it comes. From here on nothing can be tried again."""
        exchange = reply.exchange
        meter = Meter(answer.is_stream, exchange.hides_usage)
        try:
            if reply.begun and not (answer.is_stream and answer.status < 400):
                exchange.status = answer.status
                await reply.end(node_error_event(answer.status, await _start_of(answer, first)))
                return
            if not reply.begun:
                await reply.begin(answer.status, answer.headers)
            if answer.is_whole and not answer.is_stream:
                await reply.end(meter.add(first))
                return
            cutter = Cutter() if answer.is_stream else None
            cut = _as_it_is if cutter is None else cutter.add
            if whole := meter.add(cut(first)):
                await reply.chunk(whole)
            async for chunk in answer.chunks:
                if whole := meter.add(cut(chunk)):
                    await reply.chunk(whole)
            await reply.end(b"" if cutter is None else cutter.rest)
        except (UpstreamError, UpstreamTimeoutError) as error:
            self.balancer.failed(lease.node, connection=True)
            self.counts.broken_streams[exchange.endpoint] += 1
            log.warning("%s broke off: %s; request %s", exchange.node, error, exchange.request_id)
            if not answer.is_stream:
                raise BrokenStreamError from error
            message = "The node broke the stream off; send the request again."
            await reply.end(error_event(openai_error(message, "server_error", "broken")))
        finally:
            tokens = meter.tokens
            for kind, count in tokens.items():
                self.counts.tokens[exchange.endpoint, exchange.key_id, kind] += count
            self.used(exchange.key_id, sum(tokens.values()))

    async def _unavailable(self, reply: Reply, why: str) -> None:
        """503 with the time after which to come back, never longer than clients are willing to wait."""
        endpoint = self.find(reply.exchange.endpoint)
        if endpoint is None or not endpoint.replicas:
            why, after = "The endpoint is paused; resume it.", LONGEST_RETRY_AFTER
        elif (endpoint.starting or endpoint.scales) and not endpoint.nodes:
            nodes = "1 node is" if endpoint.starting <= 1 else f"{endpoint.starting} nodes are"
            first = "" if endpoint.starting <= 1 else "the first "
            why = f"{nodes} being started, {first}ready in about {endpoint.landing:.0f} s."
            after = min(LONGEST_RETRY_AFTER, math.ceil(endpoint.landing))
        else:
            after = 5
        await reply.refuse(503, why, "unavailable", after)


def _as_it_is(chunk: bytes) -> bytes:
    return chunk


async def _start_of(answer: NodeAnswer, first: bytes) -> bytes:
    body = first
    async for chunk in answer.chunks:
        body += chunk
        if len(body) > MOST_ERROR:
            break
    return body
