"""HTTP triggers, with the rules of the real host's front end."""

import asyncio
import logging
import re
import time
from collections.abc import Iterable, Mapping
from urllib.parse import unquote

import azure.functions as func
from aiohttp import web

from devhost.app import RESERVED, HttpFunction, Invoker
from devhost.config import HttpOptions

log = logging.getLogger("devhost.http")

BODY_LIMIT = 104_857_600
"""Bytes: the real host's default of FUNCTIONS_REQUEST_BODY_SIZE_LIMIT, 100 MiB."""
BODY_SECONDS = 20.0
"""For a whole body. The real host's server ends bodies slower than 240 bytes a second; 2 MiB take less than this."""
_RESERVED = tuple(f"/{name}" for name in RESERVED)


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
    return re.compile(pattern + "/?", re.IGNORECASE)


class HttpHost:
    """Answers requests from the app's HTTP functions.

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

    def application(self) -> web.Application:
        application = web.Application(client_max_size=self._body_limit)
        application.router.add_route("*", "/{path:.*}", self.handle)
        return application

    async def handle(self, request: web.Request) -> web.StreamResponse:
        started = time.perf_counter()
        # An encoded slash stays encoded, as in ASP.NET.
        path = unquote(request.rel_url.raw_path.replace("%2F", "%252F").replace("%2f", "%252f"))
        # The host answers reserved paths before any function sees them.
        found = None if path.lower().startswith(_RESERVED) else self._router.find(request.method, path)
        if not all(map(_is_text, request.headers.values())):
            response = web.Response(status=400)  # Kestrel's, before any route is looked for
        else:
            response = await self._answer(request, *found) if found else web.Response(status=404)
        name, took = found[0].name if found else "no function", (time.perf_counter() - started) * 1000
        log.info("%s %s -> %d (%s, %.0f ms)", request.method, request.rel_url.raw_path, response.status, name, took)
        return response

    async def _answer(self, request: web.Request, function: HttpFunction, parameters: dict[str, str]) -> web.Response:
        if (request.content_length or 0) > self._body_limit:
            return web.Response(status=500)  # empty, as the real host's; the body stays unread
        try:
            async with asyncio.timeout(self._body_seconds):
                # The host reads a body only where Content-Length says there is one: a chunked body arrives empty.
                body = await request.read() if request.content_length else b""
        except TimeoutError:
            return web.Response(status=408)
        if self._outstanding >= self._max_outstanding:
            return web.Response(status=429)
        self._outstanding += 1
        try:
            async with self._turn:
                return await self._invoke(request, function, parameters, body)
        finally:
            self._outstanding -= 1

    async def _invoke(
        self, request: web.Request, function: HttpFunction, parameters: dict[str, str], body: bytes
    ) -> web.Response:
        value = func.HttpRequest(
            request.method,
            f"{request.scheme}://{request.host}{request.rel_url.raw_path_qs}",
            headers=_joined(request.headers.items()),
            params=_joined(request.query.items()),
            route_params=parameters,
            body=body,
        )
        try:
            result: func.HttpResponse = await self._invoker(function, value)
            headers = dict(result.headers.items())
            charset = f"; charset={result.charset}" if result.mimetype.startswith("text/") else ""
            headers.setdefault("Content-Type", f"{result.mimetype}{charset}")
            _check_headers(headers)
            return web.Response(body=result.get_body(), status=result.status_code, headers=headers)
        except Exception:
            log.exception("function '%s' failed", function.name)
            return web.Response(status=500)


def _is_text(value: str) -> bool:
    """Whether a header's bytes were UTF-8; aiohttp reads others as lone surrogates."""
    return not any("\ud800" <= letter <= "\udfff" for letter in value)


def _check_headers(headers: Mapping[str, str]) -> None:
    """Raise ValueError for a header that the real host fails to send."""
    if wrong := [name for name, value in headers.items() if not (value.isascii() and value.isprintable())]:
        raise ValueError(f"these headers are not printable ASCII: {', '.join(wrong)}")


def _joined(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Join repeated names with commas; empty values do not reach a Python function at all."""
    joined: dict[str, str] = {}
    for name, value in pairs:
        joined[name] = f"{joined[name]},{value}" if name in joined else value
    return {name: value for name, value in joined.items() if value}
