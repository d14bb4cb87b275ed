"""HTTP triggers, with the rules of the real host's front end.

uvicorn serves them over h11, which refuses what ASP.NET's server refuses, sends answers in chunks, and ends connections
whose answers break their own Content-Length.
"""

import asyncio
import errno
import logging
import re
import socket
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Iterable, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import azure.functions as func
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from devhost import wire
from devhost.app import RESERVED, HttpFunction, Invoker
from devhost.config import HostError, HttpOptions

log = logging.getLogger("devhost.http")

BODY_LIMIT = 104_857_600
"""Bytes: the real host's default of FUNCTIONS_REQUEST_BODY_SIZE_LIMIT, 100 MiB."""
BODY_SECONDS = 20.0
"""For a whole body. The real host's server ends bodies slower than 240 bytes a second; 2 MiB take less than this."""
_OPEN = ("/admin/host/ping", "/admin/warmup")
_NO_BODY = (204, 304)
Scope = Mapping[str, Any]
Receive = Callable[[], Awaitable[Mapping[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
Answer = tuple[int, list[tuple[bytes, bytes]], bytes]


class Router:
    """Finds the function of a request, in the order in which the Functions host tries them."""

    def __init__(self, functions: Iterable[HttpFunction]) -> None:
        # Text is tried before a parameter, and that before all the rest, segment by segment.
        ordered = sorted(functions, key=lambda one: [_rank(segment) for segment in one.route.split("/")])
        self._entries = [(_pattern(one.route), one) for one in ordered]

    def find(self, method: str, path: str) -> tuple[HttpFunction, dict[str, str]] | None:
        """Return function and route parameters. A wrong method does not match (404, not 405), HEAD for GET neither."""
        for pattern, function in self._entries:
            if (not function.methods or method in function.methods) and (found := pattern.fullmatch(path)):
                return function, found.groupdict()
        return None


def _rank(segment: str) -> int:
    """0: text, 1: a parameter of one segment, 2: one of all that follow."""
    return segment.startswith("{") + segment.startswith("{*")


def _pattern(route: str) -> re.Pattern[str]:
    segments = [segment for segment in route.split("/") if segment]
    patterns = {0: "/{}", 1: "/(?P<{}>[^/]+)", 2: "(?:/(?P<{}>.*))?"}
    pattern = "".join(patterns[_rank(s)].format(s.strip("{*}") if _rank(s) else re.escape(s)) for s in segments)
    return re.compile(pattern + "/?", re.IGNORECASE | re.DOTALL)


def body_limit(settings: Mapping[str, str]) -> int:
    """Return the largest body in bytes: FUNCTIONS_REQUEST_BODY_SIZE_LIMIT; what is not a number counts for nothing."""
    try:
        return int(settings.get("FUNCTIONS_REQUEST_BODY_SIZE_LIMIT", ""))
    except ValueError:
        return BODY_LIMIT


def built_in(method: str, path: str) -> int | None:
    """The status of a path of the host's own, which no function ever sees; there are no keys to it here.

    It is a prefix test on the string: `/administrator` is the host's as well, which has nothing there.
    """
    path = path.lower()
    if not path.startswith(tuple(f"/{name}" for name in RESERVED)):
        return None
    if path in _OPEN and method in ("GET", "POST"):
        return 200
    return 401 if path.startswith(tuple(f"/{name}/" for name in RESERVED)) else 404


class HttpHost:
    """An ASGI application that answers requests from the app's HTTP functions.

    Above `max_concurrent_requests` they wait, above `max_outstanding_requests` they are refused with 429. A body is
    read before its request waits for a turn: whoever sends one slowly delays no other request. Function keys are not
    checked, as under `func start`.
    """

    def __init__(
        self,
        functions: Iterable[HttpFunction],
        options: HttpOptions,
        invoker: Invoker,
        body_limit: int = BODY_LIMIT,
        body_seconds: float = BODY_SECONDS,
    ) -> None:
        self._router = Router(functions)
        self._invoker = invoker
        self._body_limit, self._body_seconds = body_limit, body_seconds
        self._max_outstanding = options.max_outstanding_requests
        self._outstanding = 0
        self._turn = asyncio.Semaphore(options.max_concurrent_requests)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = time.perf_counter()
        (status, headers, body), name = await self._answer(scope, receive)
        log.info(
            "%s %s -> %d (%s, %.0f ms)",
            scope["method"], scope["raw_path"].decode(), status, name, (time.perf_counter() - started) * 1000,
        )  # fmt: skip
        if not body and status not in _NO_BODY:
            headers = [*headers, (b"Content-Length", b"0")]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _answer(self, scope: Scope, receive: Receive) -> tuple[Answer, str]:
        """The answer, and what gave it."""
        method, query = scope["method"], scope["query_string"]
        line = len(f"{method} ") + len(scope["raw_path"]) + len(query) + bool(query) + len(" HTTP/1.1\r\n")
        # A CONNECT names a host, not a path.
        refused = 400 if method == "CONNECT" else wire.refusal(line, scope["headers"])
        path = ""
        if refused is None:
            try:
                path = wire.path_of(scope["raw_path"])
            except ValueError:
                refused = 400
        if refused is not None:
            # The server closes such a connection.
            return (refused, [(b"Connection", b"close")], b""), "the server"
        if (status := built_in(method, path)) is not None:
            return _empty(status), "the host"
        found = self._router.find(method, path)
        if found is None:
            return _empty(404), "no function"
        function, parameters = found
        body = await self._body(scope, receive)
        if isinstance(body, int):
            return _empty(body), function.name
        headers = wire.headers_of(scope["headers"])
        request = func.HttpRequest(
            method,
            wire.url_of(headers.get("host", ""), path, query.decode()),
            headers=headers,
            params=wire.query_of(query.decode()),
            route_params=parameters,
            body=body,
        )
        return await self._in_turn(function, request), function.name

    async def _body(self, scope: Scope, receive: Receive) -> bytes | int:
        """The body, or the status with which it is refused.

        The host reads one only where Content-Length says there is one: a chunked body arrives empty.
        """
        length = int(dict(scope["headers"]).get(b"content-length", 0))
        if length > self._body_limit:
            return 500  # empty, as the real host's; the body stays unread
        body = bytearray()
        try:
            async with asyncio.timeout(self._body_seconds):
                while len(body) < length:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        return 400
                    body += message.get("body", b"")
        except TimeoutError:
            return 408
        return bytes(body)

    async def _in_turn(self, function: HttpFunction, request: func.HttpRequest) -> Answer:
        if self._outstanding >= self._max_outstanding:
            return _empty(429)
        self._outstanding += 1
        try:
            async with self._turn:
                return await self._invoke(function, request)
        finally:
            self._outstanding -= 1

    async def _invoke(self, function: HttpFunction, request: func.HttpRequest) -> Answer:
        try:
            result: func.HttpResponse = await self._invoker(function, request)
            headers = dict(result.headers.items())
            charset = f"; charset={result.charset}" if result.mimetype.startswith("text/") else ""
            headers.setdefault("Content-Type", f"{result.mimetype}{charset}")
            return result.status_code, wire.sendable(headers), result.get_body()
        except Exception:
            log.exception("function '%s' failed", function.name)
            return _empty(500)


def _empty(status: int) -> Answer:
    return status, [], b""


class _Connection(H11Protocol):
    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - uvicorn calls it so
        """Answer what is not HTTP; the real host's server says no more than this."""
        self.transport.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        self.transport.close()


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Generator[None]:
        """Leave signals to devhost, which has more than this to stop."""
        yield


def listener(port: int) -> socket.socket:
    """Open a port of 127.0.0.1, any free one for 0.

    Raises:
        HostError: It can't be opened.
    """
    # asyncio sends at once, without waiting for the client's ACK, only where the protocol is named.
    opened = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.bind(("127.0.0.1", port))
        opened.listen(512)
    except OSError as error:
        opened.close()
        reason = "is in use" if error.errno == errno.EADDRINUSE else f"cannot be opened: {error.strerror}"
        raise HostError(f"port {port} on 127.0.0.1 {reason}") from None
    return opened


@asynccontextmanager
async def serving(http: HttpHost, port: socket.socket, grace: float) -> AsyncGenerator[None]:
    """Serve on an open port; afterwards wait so many seconds for the requests under way."""
    config = uvicorn.Config(
        http,  # pyright: ignore[reportArgumentType] - its own types of ASGI
        http=_Connection,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=130,
        h11_max_incomplete_event_size=2 * wire.HEADERS_SIZE_LIMIT,
    )
    config.timeout_graceful_shutdown = grace  # pyright: ignore[reportAttributeAccessIssue] - any number of seconds
    server = _Server(config)
    task = asyncio.create_task(server.serve(sockets=[port]))
    try:
        yield
    finally:
        server.should_exit = True
        await task
