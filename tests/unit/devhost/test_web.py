import asyncio
import json
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any

import azure.functions as func
import pytest
from aiohttp.test_utils import TestClient, TestServer

from devhost.app import index
from devhost.invoke import Invoker
from devhost.web import BODY_LIMIT, HttpHost, Keys

Client = TestClient[Any, Any]


def make_app() -> Any:
    app: Any = func.FunctionApp(http_auth_level=func.AuthLevel.FUNCTION)

    def echo(req: func.HttpRequest) -> func.HttpResponse:
        content = {"params": dict(req.params), "route": dict(req.route_params), "body": req.get_body().decode()}
        return func.HttpResponse(json.dumps(content), headers={"Set-Cookie": "a=b; HttpOnly"}, status_code=202)

    def text(req: func.HttpRequest) -> str:
        return "plain"

    def nothing(req: func.HttpRequest) -> Any:
        return None

    async def hang(req: func.HttpRequest) -> func.HttpResponse:
        await asyncio.sleep(1)
        return func.HttpResponse()

    def block(req: func.HttpRequest) -> func.HttpResponse:
        time.sleep(0.2)
        return func.HttpResponse()

    nothing.__annotations__.pop("return")
    for name, route, methods, body in (
        ("echo", "echo/{id}", ["GET", "POST"], echo),
        ("text", "text", ["POST"], text),
        ("nothing", "nothing", None, nothing),
        ("hang", "hang", None, hang),
        ("block", "block", None, block),
        ("all", "{*rest}", ["PUT"], echo),
    ):
        app.function_name(name)(app.route(route, methods=methods)(body))
    app.function_name("root")(app.route("/", auth_level=func.AuthLevel.ADMIN)(text))
    return app


def call(test: Callable[[Client], Awaitable[None]], *, prefix: str = "api", **options: Any) -> None:
    async def run() -> None:
        http = HttpHost(index(make_app().get_functions(), {}).http, prefix, Invoker(8, "."), **options)
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
        assert (await reader.readline()).split()[1] == b"413"
        writer.close()
        await writer.wait_closed()

    call(test)


def test_head_should_be_served_where_get_is_and_405_where_it_is_not() -> None:
    async def test(client: Client) -> None:
        async with client.head("/api/echo/1") as response:
            assert (response.status, await response.read()) == (202, b"")
            assert int(response.headers["Content-Length"]) > 0
        assert await status(client, "HEAD", "/api/text") == 405

    call(test)


@pytest.mark.parametrize(("method", "path"), [("GET", "/api/none"), ("GET", "/api/text"), ("GET", "/text")])
def test_no_match_and_a_wrong_method_should_be_404(method: str, path: str) -> None:
    async def test(client: Client) -> None:
        assert await status(client, method, path) == 404

    call(test)


@pytest.mark.parametrize("path", ["/admin/host/status", "/ADMINx", "/runtime", "/runtime/webhooks"])
def test_reserved_paths_should_be_an_empty_404_before_a_catch_all(path: str) -> None:
    async def test(client: Client) -> None:
        async with client.put(path) as response:
            assert (response.status, await response.read()) == (404, b"")
        assert await status(client, "PUT", "/elsewhere") == 202

    call(test, prefix="")


def test_the_homepage_should_hide_a_function_at_the_root_unless_disabled() -> None:
    async def shown(client: Client) -> None:
        async with client.get("/") as response:
            assert "up and running" in await response.text()

    async def disabled(client: Client) -> None:
        async with client.get("/") as response:
            assert await response.text() == "plain"

    async def unused(client: Client) -> None:
        assert await status(client, "GET", "/") == 204

    call(shown, prefix="")
    call(disabled, prefix="", homepage=False)
    call(unused, homepage=False)


def test_a_failure_should_be_an_empty_500() -> None:
    async def test(client: Client) -> None:
        async with client.get("/api/nothing") as response:
            assert (response.status, await response.read()) == (500, b"")

    call(test)


def test_a_late_response_should_be_given_up() -> None:
    async def test(client: Client) -> None:
        assert await status(client, "GET", "/api/hang") == 504

    call(test, response_limit=0.05)


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

    call(test, max_concurrent=2, max_outstanding=3)


KEYS = Keys(function="fk", master="mk")


@pytest.mark.parametrize(
    ("path", "headers", "expected"),
    [
        ("/echo/1", {}, 401),
        ("/echo/1", {"x-functions-key": "wrong"}, 401),
        ("/echo/1", {"x-functions-key": "fk"}, 202),
        ("/echo/1?code=fk", {}, 202),
        ("/echo/1?code=fk", {"x-functions-key": "wrong"}, 401),
        ("/echo/1", {"x-functions-key": "mk"}, 202),
        ("/", {"x-functions-key": "fk"}, 401),
        ("/", {"x-functions-key": "mk"}, 200),
    ],
)
def test_function_keys_should_be_asked_for_if_enabled(path: str, headers: dict[str, str], expected: int) -> None:
    async def test(client: Client) -> None:
        assert await status(client, "GET", path, headers=headers) == expected

    call(test, prefix="", keys=KEYS, homepage=False)


def test_function_keys_should_not_be_asked_for_otherwise() -> None:
    async def test(client: Client) -> None:
        assert await status(client, "GET", "/echo/1") == 202

    call(test, prefix="")
