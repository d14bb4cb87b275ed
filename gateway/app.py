"""The gateway as an ASGI application: who calls, which endpoint, and everything that is not a model's answer."""

import asyncio
import json
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from random import getrandbits
from typing import Any, cast

from gateway.balance import Balancer
from gateway.bodies import Bodies, Body
from gateway.hold import WaitingRoom
from gateway.key_limits import KeyLimits, KeyRefusal
from gateway.late import Late
from gateway.load import Load
from gateway.proxy import BrokenStreamError, Counts, Proxy
from gateway.reply import Exchange, Send, respond
from gateway.snapshot import EMPTY, Endpoint, Snapshot, openai_error
from gateway.upstream import Upstream
from gateway.usage import asking
from gpulaunch.models.routes import EndpointKey, hash_of_key

log = logging.getLogger("gpulaunch.gateway")

Receive = Callable[[], Awaitable[dict[str, Any]]]

PATHS = frozenset(
    f"/v1/{name}"
    for name in ("chat/completions", "completions", "embeddings", "responses", "messages", "rerank", "score")
)
MOST_BODY = 20 * 1024 * 1024
"""Bytes; pictures come in requests."""
HOLD_SECONDS = 200.0
"""Below the 240 s after which Azure's ingress ends a request without an answer."""
HOLD_STREAM_SECONDS = 600.0
"""Streams get comments meanwhile, so nothing in between ends them; once these came, a client can't be sent away to
come back later, so it waits as long as three tries of the official client would."""
STALE_SECONDS = 600.0
"""How old the list of endpoints may be before the gateway reports that it is not ready; it goes on serving."""
LEFT_AFTER = 0.05
"""Seconds into a request before the gateway watches for its client leaving; shorter requests need no watch."""
_PASSED_ON = {name.encode(): name for name in ("content-type", "accept", "anthropic-version", "traceparent")}
"""Of a client's headers, those that a node gets. Never its key."""
_ENCODER = json.JSONEncoder(ensure_ascii=False)


class _RefusedError(Exception):
    def __init__(self, status: int, message: str, code: str, kind: str = "invalid_request_error") -> None:
        super().__init__(message)
        self.status, self.code, self.kind = status, code, kind
        self.retry_after = 0
        self.final = False
        """Whether the client is to be kept from trying again."""


@dataclass
class Gateway:
    upstream: Upstream
    clock: Callable[[], float] = time.monotonic
    snapshot: Snapshot = EMPTY
    read_at: float | None = None
    """When the list of endpoints was last read; None: never."""
    counts: Counts = field(default_factory=Counts)
    bodies: Bodies = field(default_factory=Bodies)
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    line: Callable[[str], None] = log.info
    """Logs what became of a request."""

    def __post_init__(self) -> None:
        self.balancer = Balancer(self.clock)
        self.room = WaitingRoom(self.balancer, self.find)
        self.limits = KeyLimits(self.clock, self.now)
        self.load = Load(self.clock)
        self.late = Late()
        self.proxy = Proxy(
            self.room, self.balancer, self.upstream, self.find, self.counts, self.clock, self.limits.used, self.load
        )

    def find(self, name: str) -> Endpoint | None:
        return self.snapshot.endpoints.get(name)

    def update(self, snapshot: Snapshot) -> None:
        """Take over a new list of endpoints; requests under way keep their nodes."""
        self.snapshot, self.read_at = snapshot, self.clock()
        self.balancer.forget_others({node.name for one in snapshot.endpoints.values() for node in one.nodes})
        self.load.forget_others(snapshot.endpoints)
        self.room.wake()

    def running(self, endpoint: Endpoint) -> int:
        """Requests of this gateway on the endpoint's nodes."""
        return sum(self.balancer.outstanding(node) for node in endpoint.nodes)

    @property
    def is_ready(self) -> bool:
        return self.read_at is not None and self.clock() - self.read_at < STALE_SECONDS

    async def __call__(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
            return
        if scope["type"] != "http":
            return  # websockets are refused by the server when nothing accepts them
        request_id = f"{getrandbits(128):032x}"
        try:
            await self._answer(scope, receive, send, request_id)
        except _RefusedError as error:
            extra = [(b"x-request-id", request_id.encode())]
            if error.retry_after:
                extra.append((b"retry-after", str(error.retry_after).encode()))
            if error.final:
                extra.append((b"x-should-retry", b"false"))
            if error.status == 401:
                extra.append((b"www-authenticate", b"Bearer"))
            self.counts.answers["", error.status] += 1
            await respond(send, error.status, openai_error(str(error), error.kind, error.code), extra)

    async def _answer(self, scope: Mapping[str, Any], receive: Receive, send: Send, request_id: str) -> None:
        path, method = str(scope["path"]), str(scope["method"])
        if path == "/readyz":
            age = None if self.read_at is None else round(self.clock() - self.read_at, 1)
            state = {"ready": self.is_ready, "seconds_since_read": age, "unreadable": dict(self.snapshot.unreadable)}
            await respond(send, 200 if self.is_ready else 503, json.dumps(state).encode(), [])
            return
        if path == "/metrics":
            await respond(send, 200, self._metrics().encode(), [], b"text/plain; version=0.0.4")
            return
        headers: dict[bytes, bytes] = dict(scope["headers"])
        endpoint, key = self._caller(headers)
        if path == "/v1/models" and method == "GET":
            await respond(send, 200, json.dumps(_models(endpoint)).encode(), [])
            return
        if path not in PATHS:
            raise _RefusedError(404, f"There is nothing at {path[:100]}.", "not_found")
        if method != "POST":
            raise _RefusedError(405, "Use POST.", "method_not_allowed")
        refusal = self.limits.take(key)
        if refusal is not None:
            raise _limited(refusal)
        try:
            with Body(self.bodies) as body:
                raw = await _read(receive, body)
                await self._served(_exchange(path, headers, endpoint, key, raw, request_id), receive, send)
        finally:
            self.limits.ended(key.key_id)

    async def _served(self, exchange: Exchange, receive: Receive, send: Send) -> None:
        """Serve until the answer is complete or the client has gone, whichever comes first."""
        began, mine = self.clock(), asyncio.current_task()
        assert mine is not None  # noqa: S101 - a coroutine runs in a task
        over = left = False

        def leave(_: object) -> None:
            nonlocal left
            if not over:
                left = True
                mine.cancel()

        leaving: asyncio.Task[None] | None = None

        def watch() -> None:
            nonlocal leaving
            leaving = asyncio.create_task(_gone(receive))
            leaving.add_done_callback(leave)

        later = self.late.after(LEFT_AFTER, watch)
        try:
            await self.proxy.serve(exchange, send)
        except asyncio.CancelledError:
            if not left:
                raise
            mine.uncancel()
            self.counts.client_aborts[exchange.endpoint] += 1
            exchange.status = 499
        except BrokenStreamError:
            raise
        except Exception:
            log.exception("request %s failed", exchange.request_id)
            raise
        finally:
            over = True
            self.late.forget(later)
            if leaving is not None:
                leaving.cancel()
            self.counts.answers[exchange.endpoint, exchange.status] += 1
            self.line(_line(exchange, self.clock() - began))

    def _caller(self, headers: Mapping[bytes, bytes]) -> tuple[Endpoint, EndpointKey]:
        scheme, _, token = headers.get(b"authorization", b"").decode("latin-1").partition(" ")
        key = token.strip() if scheme.lower() == "bearer" else headers.get(b"x-api-key", b"").decode("latin-1")
        if not key:
            raise _RefusedError(401, "Send the endpoint's key as `Authorization: Bearer …`.", "missing_api_key")
        found = self.snapshot.find_key(hash_of_key(key))
        if found is None:
            if self.read_at is None:
                refused = _RefusedError(503, "The gateway has just started; try again.", "unavailable", "server_error")
                refused.retry_after = 2
                raise refused
            raise _RefusedError(401, "The key is not known; it may have been revoked.", "invalid_api_key")
        return found

    def _metrics(self) -> str:
        lines: list[str] = []
        for (endpoint, status), count in sorted(self.counts.answers.items()):
            lines.append(f'gpulaunch_gateway_answers_total{{endpoint="{endpoint}",status="{status}"}} {count}')
        counted = (
            ("failovers_total", self.counts.failovers),
            ("broken_streams_total", self.counts.broken_streams),
            ("client_aborts_total", self.counts.client_aborts),
        )
        for name, counter in counted:
            lines += [f'gpulaunch_gateway_{name}{{endpoint="{one}"}} {count}' for one, count in sorted(counter.items())]
        for (endpoint, key, kind), count in sorted(self.counts.tokens.items()):
            labels = f'endpoint="{endpoint}",key="{key}",kind="{kind}"'
            lines.append(f"gpulaunch_gateway_tokens_total{{{labels}}} {count}")
        for one in self.snapshot.endpoints.values():
            lines.append(f'gpulaunch_gateway_in_flight{{endpoint="{one.name}"}} {self.running(one)}')
            lines.append(f'gpulaunch_gateway_held{{endpoint="{one.name}"}} {self.room.held(one.name)}')
        return "\n".join([*lines, ""])


def _line(exchange: Exchange, seconds: float) -> str:
    return (
        f"{exchange.endpoint} {exchange.path} answered {exchange.status} in {seconds * 1000:.0f} ms,"
        f" held {exchange.held * 1000:.0f} ms, {exchange.attempts} attempts, node {exchange.node};"
        f" request {exchange.request_id}"
    )


def _limited(refusal: KeyRefusal) -> _RefusedError:
    refused = _RefusedError(429, refusal.message, refusal.code, refusal.kind)
    refused.retry_after, refused.final = refusal.retry_after, refusal.final
    return refused


def _models(endpoint: Endpoint) -> dict[str, Any]:
    made = {"id": endpoint.name, "object": "model", "created": 0, "owned_by": "gpulaunch", "root": endpoint.model}
    return {"object": "list", "data": [made]}


def _exchange(
    path: str, headers: Mapping[bytes, bytes], endpoint: Endpoint, key: EndpointKey, raw: bytes, request_id: str
) -> Exchange:
    body, is_stream, hides = _body_of(raw, endpoint, path)
    passed_on = {name: headers[given].decode("latin-1") for given, name in _PASSED_ON.items() if given in headers}
    hold = _hold(headers, HOLD_STREAM_SECONDS if is_stream else HOLD_SECONDS)
    return Exchange(endpoint.name, path, passed_on, body, request_id, hold, is_stream, key.key_id, hides)


def _hold(headers: Mapping[bytes, bytes], longest: float) -> float:
    """How long the request may wait for a node; a client may shorten it."""
    given = headers.get(b"x-gpulaunch-max-hold", b"")
    return min(longest, float(given)) if given.isdigit() else longest


async def _read(receive: Receive, body: Body) -> bytes:
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise _RefusedError(400, "The body broke off, or did not come in time.", "malformed_request")
        part = message.get("body", b"")
        size += len(part)
        if size > MOST_BODY:
            raise _RefusedError(413, f"A body has at most {MOST_BODY} bytes.", "body_too_large")
        if not body.grow(len(part)):
            refused = _RefusedError(429, "Too many large requests are under way.", "too_many_bytes", "requests")
            refused.retry_after = 5
            raise refused
        parts.append(part)
        if not message.get("more_body", False):
            return part if len(parts) == 1 else b"".join(parts)


def _body_of(raw: bytes, endpoint: Endpoint, path: str) -> tuple[Callable[[str], bytes], bool, bool]:
    """The body with a node's name of the model, whether it asks for a stream, and whether for usage in our name alone.

    `model` is the endpoint's name, or the name of its model.

    Raises:
        _RefusedError: It is not a JSON object, or asks for another model.
    """
    try:
        document: object = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise _RefusedError(400, "The body is not valid JSON.", "malformed_request") from error
    if not isinstance(document, dict):
        raise _RefusedError(400, "The body has to be a JSON object.", "malformed_request")
    given = cast("dict[str, Any]", document)
    model = given.get("model")
    if not isinstance(model, str):
        raise _RefusedError(400, f"Set `model` to {endpoint.name}.", "missing_model")
    if not endpoint.answers_to(model):
        message = f"The model {model[:100]!r} does not exist, or this key does not open it; set {endpoint.name}."
        raise _RefusedError(404, message, "model_not_found")

    asked = asking(path, given)
    # Only bytes are kept: what is parsed takes many times their memory, for as long as the request waits.
    as_is = asked is given and model == endpoint.model
    usual = raw if as_is else _encoded(asked | {"model": endpoint.model})

    def made(name: str) -> bytes:
        return usual if name == endpoint.model else _encoded(json.loads(usual) | {"model": name})

    return made, given.get("stream") is True, asked is not given


def _encoded(document: dict[str, Any]) -> bytes:
    return _ENCODER.encode(document).encode(errors="replace")


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        kind = (await receive())["type"]
        await send({"type": f"{kind}.complete"})
        if kind == "lifespan.shutdown":
            return
