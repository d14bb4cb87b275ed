"""Applications that call models through a gateway, and the ledger of what becomes of each request."""

import asyncio
import json
from collections.abc import Mapping
from random import Random
from typing import TYPE_CHECKING, Any

from tests.simulation.oracles.endpoint_facts import Key, Request

if TYPE_CHECKING:
    from tests.simulation.endpoints.gateways import GatewayProcess
    from tests.simulation.endpoints.world import EndpointWorld

RATES = (8.0, 20.0, 60.0)
"""Seconds between two requests of a client, on average, by seed."""
CALM_SECONDS = 120.0
"""The same once nothing goes wrong any more."""
SECONDS = ((0.5, 3.0), (0.5, 3.0), (3.0, 30.0), (30.0, 400.0))
"""How long a node works on a request."""


class Call:
    """One request under way: the ASGI side of a client."""

    def __init__(self, world: "EndpointWorld", request: Request, gateway: "GatewayProcess", model: str) -> None:
        self.request = request
        self._world = world
        self._left = asyncio.Event()
        self._messages: list[dict[str, Any]] = []
        body: dict[str, Any] = {
            "model": model,
            "messages": [],
            "user": str(request.number),
            "stream": request.is_stream,
        }
        self._parts = [{"type": "http.request", "body": json.dumps(body).encode(), "more_body": False}]
        headers = [(b"authorization", f"Bearer {request.key.secret}".encode())]
        if request.hold_seconds is not None:
            headers.append((b"x-gpulaunch-max-hold", str(int(request.hold_seconds)).encode()))
        scope = {"type": "http", "method": "POST", "path": "/v1/chat/completions", "headers": headers}
        task = gateway.begin(scope, self._receive, self._send)
        task.add_done_callback(self._done)

    def leave(self) -> None:
        self.request.outcome = "left"
        self._left.set()

    async def _receive(self) -> Mapping[str, Any]:
        if self._parts:
            return self._parts.pop()
        await self._left.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: dict[str, Any]) -> None:
        self._messages.append(message)

    def _done(self, task: "asyncio.Task[None]") -> None:
        request = self.request
        error = None if task.cancelled() else task.exception()
        body = b"".join(one.get("body", b"") for one in self._messages)
        request.status = int(self._messages[0]["status"]) if self._messages else 0
        request.code = _code(body)
        if error is not None and type(error).__name__ != "BrokenStreamError":
            self._world.violated(f"request {request.number} to {request.gateway} failed: {error!r}")
        if not request.outcome:
            request.outcome = self._outcome(body, broken=error is not None)
        self._world.ended(request)

    def _outcome(self, body: bytes, *, broken: bool) -> str:
        if broken or self.request.code == "broken":
            return "broken"
        if self.request.status != 200 or self.request.code:
            return "refused"
        whole = body.endswith(b"data: [DONE]\n\n") if self.request.is_stream else body == b'{"usage": {}}'
        if not whole or self._messages[-1].get("more_body", True):
            self._world.violated(f"request {self.request.number} got {body[-80:]!r} as if it were complete")
        return "served"


def _code(body: bytes) -> str:
    """The code of an error, by itself or as an event of a stream."""
    text = body.rpartition(b"event: error\ndata: ")[2].strip()
    try:
        found: Any = json.loads(text)
    except ValueError:
        return ""
    return str(found["error"]["code"]) if "error" in found else ""


class Client:
    """Calls an endpoint now and then, with whichever of its keys it likes, old ones included."""

    def __init__(self, world: "EndpointWorld", endpoint: str, number: int) -> None:
        self._world = world
        self._endpoint = endpoint
        self._random = Random(f"client {world.simulator.seed} {endpoint} {number}")
        self._every = self._random.choice(RATES)
        self.done = False

    def begin(self) -> None:
        self._world.simulator.scheduler.after(self._random.uniform(30, 120), self._call)

    def _call(self) -> None:
        world, random = self._world, self._random
        if self.done:
            return
        mean = self._every if world.simulator.chaos.on else CALM_SECONDS
        world.simulator.scheduler.after(random.expovariate(1 / mean), self._call)
        keys = world.keys_of(self._endpoint)
        alive = world.gateways.alive
        if not keys or not alive:
            return
        # The newest one mostly; an application that was not told goes on with an old one.
        key = keys[-1] if random.random() < 0.8 else random.choice(keys)
        calls = [self._send(key, random.choice(alive)) for _ in range(random.choice((1, 1, 1, 4)))]
        for call in calls:
            if random.random() < 0.15:
                world.simulator.scheduler.after(random.uniform(0, 40), lambda one=call: _leave(one))

    def _send(self, key: Key, gateway: "GatewayProcess") -> Call:
        random = self._random
        low, high = random.choice(SECONDS)
        hold = random.choice((None, None, 0.0, 20.0, 100.0))
        return self._world.send(key, gateway, random.uniform(low, high), hold, is_stream=random.random() < 0.6)


def _leave(call: Call) -> None:
    if not call.request.outcome:
        call.leave()
