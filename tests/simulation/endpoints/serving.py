"""Nodes that work on clients' requests, as gateways reach them, for as long as both live."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING

from gateway.answer import NodeAnswer
from gateway.snapshot import Node as Routed
from gateway.upstream import CONNECT_SECONDS, UnreachableError, UpstreamError
from shared.domain.instance import cluster_name
from tests.simulation.nodes import Node
from tests.simulation.oracles.endpoint_facts import Request

if TYPE_CHECKING:
    from tests.simulation.endpoints.gateways import GatewayProcess
    from tests.simulation.endpoints.world import EndpointWorld

FIRST_SECONDS = 0.5
"""Until the first token of a stream."""
CHUNKS = 3
_BODY = 0.1
"""Of the time that an answer takes which is not streamed: while its body comes."""
_STREAM, _JSON = b"text/event-stream", b"application/json"


@dataclass(eq=False)
class Serving:
    """One request on its way to a node, or on it."""

    request: Request
    instance_id: str
    gateway: "GatewayProcess"
    broken: "asyncio.Future[None]"
    node: Node | None = None

    def release(self) -> None:
        self.gateway.serving.pop(self, None)
        if self.node is not None and self.node.under_way.pop(self, None) is not None:
            self.node.finished += 1

    def break_off(self) -> None:
        """The node is no more."""
        self.request.excuse = "its node died"
        if not self.broken.done():
            self.broken.set_result(None)


class SimulatedUpstream:
    """How one gateway reaches nodes."""

    def __init__(self, world: "EndpointWorld", gateway: "GatewayProcess") -> None:
        self._world = world
        self._gateway = gateway
        self._chaos = world.simulator.chaos

    async def send(self, node: Routed, path: str, headers: Mapping[str, str], body: bytes) -> NodeAnswer:
        random, world = self._chaos.random, self._world
        request = world.service.requests[int(json.loads(body)["user"])]
        name = cluster_name(node.instance_id, node.attempt)
        request.tried.append(name)
        request.excuse = ""
        serving = Serving(request, node.instance_id, self._gateway, asyncio.get_running_loop().create_future())
        self._gateway.serving[serving] = None
        world.routed(request, node.instance_id)
        try:
            await asyncio.sleep(random.uniform(0.001, 0.05))
            found = await self._reach(request, name)
            if node.key != world.key_of(node.instance_id, node.attempt):
                world.violated(f"{name} is sent another node's key")
            serving.node = found
            found.under_way[serving] = None
            request.got.append(name)
            if self._chaos.strikes(self._chaos.rates.node_hiccups / 10):
                found.troubled_at = world.now()
                request.excuse = "its node is too busy"
                request.errors.append(name)
                return NodeAnswer(503, [(b"content-type", _JSON)], _once(b"{}"), is_stream=False, close=serving.release)
            await self._works(serving, FIRST_SECONDS if request.is_stream else request.seconds)
        except BaseException:
            serving.release()
            raise
        kind = _STREAM if request.is_stream else _JSON
        chunks = self._chunks(serving)
        release = partial(Serving.release, serving)
        request.begun.append(name)
        return NodeAnswer(200, [(b"content-type", kind)], chunks, is_stream=request.is_stream, close=release)

    async def _reach(self, request: Request, name: str) -> Node:
        chaos, world = self._chaos, self._world
        found = world.simulator.fleet.nodes.get(name)
        if chaos.strikes(chaos.rates.call_lost / 4):
            request.excuse = "the network lost it"
            request.got.append(name)
            if found is not None:
                found.troubled_at = world.now()
            raise UpstreamError("connection reset")
        if found is None or not found.alive or not found.serving:
            request.excuse = "its node is not there"
            raise UnreachableError("connection refused")
        if chaos.scheduler.seconds < found.hiccup_until:
            found.troubled_at = world.now()
            request.excuse = "its node hangs"
            await asyncio.sleep(CONNECT_SECONDS)
            raise UnreachableError("no connection in time")
        return found

    async def _works(self, serving: Serving, seconds: float) -> None:
        await asyncio.wait({serving.broken}, timeout=seconds)
        if serving.broken.done():
            raise UpstreamError("connection reset by peer")

    async def _chunks(self, serving: Serving) -> AsyncIterator[bytes]:
        request = serving.request
        if not request.is_stream:
            yield b'{"usage": '
            await self._works(serving, request.seconds * _BODY)
            yield b"{}}"
            return
        for number in range(CHUNKS):
            yield b'data: {"choices": [%d]}\n\n' % number
            await self._works(serving, request.seconds / CHUNKS)
        yield b"data: [DONE]\n\n"


async def _once(body: bytes) -> AsyncIterator[bytes]:
    yield body


def used_directly(node: Node, now: datetime) -> datetime | None:
    """Since when a node's own address is used without a pause."""
    since = node.used_since
    return since if since is not None and node.alive and now >= since and node.busy else None
