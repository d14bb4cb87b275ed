import asyncio
import json
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any

import azure.functions as func
import pytest
from aiohttp.test_utils import TestClient, TestServer

from devhost.app import index
from devhost.config import HttpOptions
from devhost.invoke import Invoker
from devhost.web import BODY_LIMIT, HttpHost

Client = TestClient[Any, Any]


def make_app() -> Any:
    app: Any = func.FunctionApp(http_auth_level=func.AuthLevel.FUNCTION)

    def echo(req: func.HttpRequest) -> func.HttpResponse:
        content = {"params": dict(req.params), "route": dict(req.route_params), "body": req.get_body().decode()}
        return func.HttpResponse(json.dumps(content), headers={"Set-Cookie": "a=b; HttpOnly"}, status_code=202)

    def text(req: func.HttpRequest) -> func.HttpResponse:
        return func.HttpResponse("plain")

    def nothing(req: func.HttpRequest) -> Any:
        return None

    def block(req: func.HttpRequest) -> func.HttpResponse:
        time.sleep(0.2)
        return func.HttpResponse()

    nothing.__annotations__.pop("return")
    for name, route, methods, body in (
        ("echo", "echo/{id}", ["GET", "POST"], echo),
        ("text", "text", ["POST"], text),
        ("nothing", "nothing", None, nothing),
        ("block", "block", None, block),
        ("any", "{first}", ["PUT"], echo),
        ("root", "/", None, text),
    ):
        app.function_name(name)(app.route(route, methods=methods)(body))
    return app


def call(test: Callable[[Client], Awaitable[None]], **options: Any) -> None:
    async def run() -> None:
        http = HttpHost(index(make_app().get_functions(), {}).http, HttpOptions(**options), Invoker(8))
        async with TestClient(TestServer(http.application())) as client:
            await test(client)

    asyncio.run(run())


async def status(client: Client, method: str, path: str, **options: Any) -> int:
    async with client.request(method, path, **options) as response:
        return response.status


def test_a_request_should_reach_its_function() -> None:
    async def test(client: Client) -> None:
        async with client.post("/api/echo/a%20b%2Fc?x=1&x=2&empty=", data=b"hello") as response:
            assert response.status == 202
            assert response.headers["Content-Type"] == "text/plain; charset=utf-8"
            assert response.cookies["a"].value == "b"
            assert json.loads(await response.text()) == {
                "params": {"x": "1,2"}, "route": {"id": "a b%2Fc"}, "body": "hello",
            }  # fmt: skip

    call(test)


def test_a_chunked_body_should_arrive_empty() -> None:
    async def chunks() -> AsyncGenerator[bytes]:
        yield b"hello"

    async def test(client: Client) -> None:
        async with client.post("/api/echo/1", data=chunks()) as response:
            assert json.loads(await response.text())["body"] == ""

    call(test)


def test_a_body_beyond_the_limit_should_be_refused_unread() -> None:
    async def test(client: Client) -> None:
        reader, writer = await asyncio.open_connection(client.host, client.port)
        writer.write(f"POST /api/text HTTP/1.1\r\nHost: x\r\nContent-Length: {BODY_LIMIT + 1}\r\n\r\n".encode())
        assert (await reader.readline()).split()[1] == b"500"
        writer.close()
        await writer.wait_closed()

    call(test)


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/api/none"), ("GET", "/api/text"), ("GET", "/text"), ("HEAD", "/api/echo/1")]
)
def test_no_match_and_a_wrong_method_should_be_404(method: str, path: str) -> None:
    async def test(client: Client) -> None:
        assert await status(client, method, path) == 404

    call(test)


@pytest.mark.parametrize("path", ["/admin/host/status", "/ADMINx", "/runtime", "/runtime/webhooks"])
def test_reserved_paths_should_be_an_empty_404_before_any_function(path: str) -> None:
    async def test(client: Client) -> None:
        async with client.put(path) as response:
            assert (response.status, await response.read()) == (404, b"")
        assert await status(client, "PUT", "/elsewhere") == 202

    call(test, route_prefix="")


def test_the_root_should_be_a_function_like_any_other() -> None:
    async def test(client: Client) -> None:
        async with client.get("/") as response:
            assert await response.text() == "plain"

    call(test, route_prefix="")


def test_a_failure_should_be_an_empty_500() -> None:
    async def test(client: Client) -> None:
        async with client.get("/api/nothing") as response:
            assert (response.status, await response.read()) == (500, b"")

    call(test)


def test_synchronous_functions_should_run_side_by_side() -> None:
    async def test(client: Client) -> None:
        started = time.perf_counter()
        assert await asyncio.gather(*(status(client, "GET", "/api/block") for _ in range(4))) == [200] * 4
        assert time.perf_counter() - started < 0.7

    call(test)


def test_requests_beyond_the_limits_should_wait_and_then_be_refused() -> None:
    async def test(client: Client) -> None:
        started = time.perf_counter()
        answers = await asyncio.gather(*(status(client, "GET", "/api/block") for _ in range(4)))
        assert sorted(answers) == [200, 200, 200, 429]
        assert time.perf_counter() - started >= 0.4
        assert await status(client, "GET", "/api/block") == 200

    call(test, max_concurrent_requests=2, max_outstanding_requests=3)
