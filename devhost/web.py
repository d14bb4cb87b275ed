"""HTTP triggers, with the rules of the real host's front end."""

import asyncio
import hmac
import logging
import time
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from http.cookies import SimpleCookie
from typing import Any
from urllib.parse import unquote

from aiohttp import web
from azure.functions.http import HttpRequest, HttpResponseConverter
from multidict import CIMultiDict, MultiMapping

from devhost.app import RESERVED, HttpFunction
from devhost.invoke import Invoker
from devhost.routes import Route, Router

log = logging.getLogger("devhost.http")

# 100 MB, FUNCTIONS_REQUEST_BODY_SIZE_LIMIT's default.
BODY_LIMIT = 104_857_600
# Seconds. Azure's load balancer drops a connection on which nothing moved for 230 s.
RESPONSE_LIMIT = 230.0

_RESERVED = tuple(f"/{name}" for name in RESERVED)


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys that `--enable-auth` asks for: the master key opens everything, the function key what is not `admin`."""

    function: str
    master: str

    def allow(self, level: str, given: str) -> bool:
        accepted = {"anonymous": None, "admin": (self.master,)}.get(level, (self.master, self.function))
        return accepted is None or any(hmac.compare_digest(given.encode(), key.encode()) for key in accepted)


def _joined(values: MultiMapping[str]) -> dict[str, str]:
    """Repeated names become one value with commas; empty values do not reach a Python function at all."""
    if len(set(values)) == len(values):
        return {name: value for name, value in values.items() if value}
    return {name: joined for name in dict.fromkeys(values) if (joined := ",".join(values.getall(name)))}


def _path(request: web.Request) -> str:
    """The decoded path; an encoded slash stays encoded, as in ASP.NET."""
    raw = request.rel_url.raw_path
    return unquote(raw.replace("%2F", "%252F").replace("%2f", "%252f")) if "%" in raw else raw


class HttpHost:
    """Answers requests from the app's HTTP functions.

    `keys`: None leaves function keys unchecked, as `func start`. Above `max_concurrent` requests wait, above
    `max_outstanding` they are refused with 429.
    """

    def __init__(
        self,
        functions: list[HttpFunction],
        prefix: str,
        invoker: Invoker,
        *,
        keys: Keys | None = None,
        homepage: bool = True,
        response_limit: float = RESPONSE_LIMIT,
        max_outstanding: int | None = None,
        max_concurrent: int | None = None,
    ) -> None:
        self._router = Router(
            (Route(f"{prefix}/{function.route.strip('/')}"), function.methods, function) for function in functions
        )
        self._invoker = invoker
        self._keys = keys
        self._homepage = homepage
        self._response_limit = response_limit
        self._max_outstanding = max_outstanding
        self._outstanding = 0
        self._turn = asyncio.Semaphore(max_concurrent) if max_concurrent else nullcontext()

    def application(self) -> web.Application:
        application = web.Application(client_max_size=BODY_LIMIT + 1)
        application.router.add_route("*", "/{path:.*}", self.handle)
        return application

    async def handle(self, request: web.Request) -> web.StreamResponse:
        started = time.perf_counter()
        response, name = await self._answer(request)
        took = (time.perf_counter() - started) * 1000
        log.info("%s %s -> %d (%s, %.0f ms)", request.method, request.rel_url.raw_path, response.status, name, took)
        return response

    async def _answer(self, request: web.Request) -> tuple[web.StreamResponse, str]:
        path = _path(request)
        found = None
        if path.lower().startswith(_RESERVED):
            response = web.Response(status=404)
        elif path == "/" and self._homepage:
            response = web.Response(text="Your Functions app is up and running (devhost).")
        elif found := self._router.find(request.method, path):
            response = await self._guarded(request, *found)
        elif request.method == "HEAD" and self._router.refuses_head(path):
            response = web.Response(status=405)
        else:
            # Without homepage and without a function of its own, the host answers / with 204.
            response = web.Response(status=204 if path == "/" else 404)
        return response, found[0].name if found else "no function"

    async def _guarded(self, request: web.Request, function: HttpFunction, parameters: dict[str, str]) -> web.Response:
        if self._keys is not None:
            given = request.headers.get("x-functions-key") or request.query.get("code", "")
            if not self._keys.allow(function.auth_level, given):
                return web.Response(status=401)
        if (request.content_length or 0) > BODY_LIMIT:
            refused = web.Response(status=413)
            refused.force_close()
            return refused
        if self._max_outstanding is not None and self._outstanding >= self._max_outstanding:
            return web.Response(status=429)
        self._outstanding += 1
        try:
            async with self._turn:
                return await self._invoke(request, function, parameters)
        finally:
            self._outstanding -= 1

    async def _invoke(
        self, request: web.Request, function: HttpFunction, parameters: Mapping[str, str]
    ) -> web.Response:
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
        # A function cannot be stopped from outside: past the limit it runs on, and only its caller is let go.
        task = asyncio.ensure_future(self._invoker(function, value))
        done, _ = await asyncio.wait({task}, timeout=self._response_limit)
        if not done:
            task.add_done_callback(lambda late: late.cancelled() or late.exception())
            log.error("function '%s' gave no response within %g s", function.name, self._response_limit)
            return web.Response(status=504)
        try:
            return _response(task.result())
        except Exception:
            log.exception("function '%s' failed", function.name)
            return web.Response(status=500)


def _response(result: object) -> web.Response:
    """Convert with the library's own converter. Raises NotImplementedError for what is neither response nor text."""
    datum: Any = HttpResponseConverter.encode(result, expected_type=None)
    if datum.type == "string":
        return web.Response(text=datum.value)
    headers: CIMultiDict[str] = CIMultiDict()
    for name, value in datum.value["headers"].items():
        if name.lower() not in {"content-length", "transfer-encoding"}:
            headers[name] = value.value
    cookies: list[SimpleCookie] = datum.value["cookies"] or []
    for cookie in cookies:
        for morsel in cookie.values():
            headers.add("Set-Cookie", morsel.OutputString())
    return web.Response(body=datum.value["body"].value, status=int(datum.value["status_code"].value), headers=headers)
