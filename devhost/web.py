"""HTTP triggers, with the rules of the real host's front end."""

import asyncio
import logging
import time
from contextlib import nullcontext
from http.cookies import SimpleCookie
from typing import Any
from urllib.parse import unquote

from aiohttp import web
from azure.functions.http import HttpRequest, HttpResponseConverter
from multidict import CIMultiDict, MultiMapping

from devhost.app import RESERVED, HttpFunction
from devhost.config import HttpOptions
from devhost.invoke import Invoker
from devhost.routes import Route, Router

log = logging.getLogger("devhost.http")

# 100 MiB, the default of FUNCTIONS_REQUEST_BODY_SIZE_LIMIT.
BODY_LIMIT = 104_857_600

_RESERVED = tuple(f"/{name}" for name in RESERVED)


def _joined(values: MultiMapping[str]) -> dict[str, str]:
    """Join repeated names with commas; empty values do not reach a Python function at all."""
    return {name: joined for name in dict.fromkeys(values) if (joined := ",".join(values.getall(name)))}


def _path(request: web.Request) -> str:
    """Return the decoded path; an encoded slash stays encoded, as in ASP.NET."""
    raw = request.rel_url.raw_path
    return unquote(raw.replace("%2F", "%252F").replace("%2f", "%252f")) if "%" in raw else raw


class HttpHost:
    """Answers requests from the app's HTTP functions.

    Above `max_concurrent_requests` they wait, above `max_outstanding_requests` they are refused with 429. Function keys
    are not checked, as under `func start`.
    """

    def __init__(self, functions: list[HttpFunction], options: HttpOptions, invoker: Invoker) -> None:
        self._router = Router(
            (Route(f"{options.route_prefix}/{function.route}"), function.methods, function) for function in functions
        )
        self._invoker = invoker
        self._max_outstanding = options.max_outstanding_requests
        self._outstanding = 0
        concurrent = options.max_concurrent_requests
        self._turn = asyncio.Semaphore(concurrent) if concurrent > 0 else nullcontext()

    def application(self) -> web.Application:
        application = web.Application(client_max_size=BODY_LIMIT + 1)
        application.router.add_route("*", "/{path:.*}", self.handle)
        return application

    async def handle(self, request: web.Request) -> web.StreamResponse:
        started = time.perf_counter()
        path = _path(request)
        # The host answers reserved paths before any function sees them.
        found = None if path.lower().startswith(_RESERVED) else self._router.find(request.method, path)
        response = await self._guarded(request, *found) if found else web.Response(status=404)
        name, took = found[0].name if found else "no function", (time.perf_counter() - started) * 1000
        log.info("%s %s -> %d (%s, %.0f ms)", request.method, request.rel_url.raw_path, response.status, name, took)
        return response

    async def _guarded(self, request: web.Request, function: HttpFunction, parameters: dict[str, str]) -> web.Response:
        if (request.content_length or 0) > BODY_LIMIT:
            refused = web.Response(status=500)
            refused.force_close()
            return refused
        if 0 <= self._max_outstanding <= self._outstanding:
            return web.Response(status=429)
        self._outstanding += 1
        try:
            async with self._turn:
                return await self._invoke(request, function, parameters)
        finally:
            self._outstanding -= 1

    async def _invoke(self, request: web.Request, function: HttpFunction, parameters: dict[str, str]) -> web.Response:
        # The host reads a body only where Content-Length says there is one: a chunked body arrives empty.
        body = await request.read() if request.content_length else b""
        value = HttpRequest(
            method=request.method,
            url=f"{request.scheme}://{request.host}{request.rel_url.raw_path_qs}",
            headers=_joined(request.headers),
            params=_joined(request.query),
            route_params=parameters,
            body_type="bytes",
            body=body,
        )
        try:
            return _response(await self._invoker(function, value))
        except Exception:
            log.exception("function '%s' failed", function.name)
            return web.Response(status=500)


def _response(result: object) -> web.Response:
    """Convert with the library's own converter, which raises for anything that is not a response."""
    datum: Any = HttpResponseConverter.encode(result, expected_type=None)
    headers: CIMultiDict[str] = CIMultiDict()
    for name, value in datum.value["headers"].items():
        if name.lower() not in {"content-length", "transfer-encoding"}:
            headers[name] = value.value
    cookies: list[SimpleCookie] = datum.value["cookies"] or []
    for cookie in cookies:
        for morsel in cookie.values():
            headers.add("Set-Cookie", morsel.OutputString())
    return web.Response(body=datum.value["body"].value, status=int(datum.value["status_code"].value), headers=headers)
