"""A gateway over an upstream that is scripted, on a clock of its own."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, cast

from gateway.answer import NodeAnswer
from gateway.app import Gateway
from gateway.snapshot import Endpoint, Node, Snapshot
from gpulaunch.models.routes import EndpointKey, hash_of_key
from tests.twins.clock import START

KEY, OTHER = "gl-key-of-chat", "gl-key-of-other"
CHAT: dict[str, Any] = {"model": "chat", "messages": []}
MODEL = "meta-llama/Llama-3.1-8B-Instruct"


def key(secret: str, **given: Any) -> EndpointKey:
    return EndpointKey(key_id=secret[-4:], name="app", key_hash=hash_of_key(secret), created_at=START, **given)


def node(number: int, **given: Any) -> Node:
    fields: dict[str, Any] = {
        "attempt": 1,
        "base": f"http://n{number}:8000",
        "key": f"node-key-{number}",
        "model": MODEL,
    }
    return Node(instance_id=f"inst-{number}", **(fields | given))


def endpoint(
    *nodes: Node,
    name: str = "chat",
    secret: str = KEY,
    starting: int = 0,
    replicas: int = 1,
    landing: float = 300.0,
    scales: bool = False,
    **given: Any,
) -> Endpoint:
    return Endpoint(
        name=name,
        model=MODEL,
        replicas=replicas,
        starting=starting,
        landing=landing,
        scales=scales,
        nodes=nodes,
        keys=(key(secret, **given),),
        endpoint_id=f"ep-{name}",
    )


class Scripted:
    """An upstream whose nodes do what is asked of them, in turn; what it was sent is kept."""

    def __init__(self) -> None:
        self.sent: list[tuple[Node, str, Mapping[str, str], bytes]] = []
        self.acts: dict[str, list[Any]] = {}
        self.bodies: dict[str, list[list[Any]]] = {}
        """Of answers that are no streams; else `{"ok": true}`."""
        self.open = 0
        self.closed = 0

    async def send(self, node: Node, path: str, headers: Mapping[str, str], body: bytes) -> NodeAnswer:
        self.sent.append((node, path, headers, body))
        acts = self.acts.get(node.instance_id, [])
        act: Any = acts.pop(0) if acts else 200
        if isinstance(act, Exception):
            raise act
        bodies = self.bodies.get(node.instance_id)
        given: list[Any] = bodies.pop(0) if bodies else [b'{"ok": true}']
        if isinstance(act, list):
            given = cast("list[Any]", act)
        status = act if isinstance(act, int) else 200
        kind = b"text/event-stream" if isinstance(act, list) else b"application/json"
        self.open += 1
        return NodeAnswer(status, [(b"content-type", kind)], self._chunks(given), kind.startswith(b"text"), self._close)

    def _close(self) -> None:
        self.closed += 1

    async def _chunks(self, chunks: list[Any]) -> AsyncIterator[bytes]:
        for one in chunks:
            if isinstance(one, Exception):
                raise one
            if isinstance(one, asyncio.Event):
                await one.wait()
                continue
            yield one


class Called:
    """One call of the application, whose client may go away."""

    def __init__(self, gateway: Gateway, path: str, body: bytes, headers: dict[str, str], method: str) -> None:
        self.messages: list[dict[str, Any]] = []
        self.left = asyncio.Event()
        self._parts = [{"type": "http.request", "body": body, "more_body": False}]
        raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
        scope = {"type": "http", "method": method, "path": path, "headers": raw}
        self.task = asyncio.create_task(gateway(scope, self._receive, self._send))

    async def _receive(self) -> dict[str, Any]:
        if self._parts:
            return self._parts.pop()
        await self.left.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: dict[str, Any]) -> None:
        self.messages.append(message)

    @property
    def status(self) -> int:
        return int(self.messages[0]["status"]) if self.messages else 0

    @property
    def headers(self) -> dict[str, str]:
        return {name.decode(): value.decode() for name, value in self.messages[0]["headers"]}

    @property
    def body(self) -> bytes:
        return b"".join(one.get("body", b"") for one in self.messages[1:])

    @property
    def code(self) -> str:
        return str(json.loads(self.body)["error"]["code"])


class Desk:
    """A gateway with its upstream, on a clock of its own."""

    def __init__(self) -> None:
        self.now = 0.0
        self.upstream = Scripted()
        self.gateway = Gateway(self.upstream, lambda: self.now)

    def list(self, *endpoints: Endpoint) -> None:
        self.gateway.update(Snapshot(endpoints={one.name: one for one in endpoints}))

    def begin(
        self, body: Any = CHAT, path: str = "/v1/chat/completions", method: str = "POST", **headers: str
    ) -> Called:
        sent = {"Authorization": f"Bearer {KEY}"} | {name.replace("_", "-"): value for name, value in headers.items()}
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        return Called(self.gateway, path, raw, sent, method)

    async def call(self, body: Any = CHAT, **more: Any) -> Called:
        called = self.begin(body, **more)
        await called.task
        return called

    def assert_at_rest(self) -> None:
        assert self.gateway.balancer.in_flight == 0
        assert self.gateway.room.held("chat") == 0
        assert self.upstream.open == self.upstream.closed


Story = Callable[[Desk], Awaitable[None]]


def play(story: Story) -> None:
    async def run() -> None:
        desk = Desk()
        await asyncio.wait_for(story(desk), 10)
        desk.assert_at_rest()

    asyncio.run(run())


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)
