import asyncio
import json
import socket
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import azure.functions as func
import pytest
from aiohttp import ClientSession

from devhost.app import HttpFunction, index
from devhost.config import HttpOptions
from devhost.web import BODY_LIMIT, HttpHost, Router, body_limit, built_in, listener, serving
from tests.unit.devhost.invoking import InThreads


@dataclass(kw_only=True)
class Client:
    """A client of a host that listens on a port of 127.0.0.1."""

    session: ClientSession
    port: int

    def request(self, method: str, path: str, **options: Any) -> Any:
        return self.session.request(method, f"http://127.0.0.1:{self.port}{path}", **options)

    async def raw(self, *lines: bytes, body: bytes = b"") -> tuple[int, bytes]:
        """Send these lines as they are; return the answer's status and all of it."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(b"\r\n".join([*lines, b"", body]))
        answer = await asyncio.wait_for(reader.read(), 5)
        writer.close()
        return int(answer.split()[1]), answer


def make_app() -> Any:
    app: Any = func.FunctionApp(http_auth_level=func.AuthLevel.FUNCTION)

    def echo(req: func.HttpRequest) -> func.HttpResponse:
        content = {"params": dict(req.params), "route": dict(req.route_params), "body": req.get_body().decode()}
        return func.HttpResponse(json.dumps(content), headers={"Set-Cookie": "a=b; HttpOnly"}, status_code=202)

    def text(req: func.HttpRequest) -> func.HttpResponse:
        return func.HttpResponse("plain")

    def header(req: func.HttpRequest) -> func.HttpResponse:
        return func.HttpResponse("x", headers={"Location": json.loads(req.get_body())})

    def nothing(req: func.HttpRequest) -> Any:
        return None

    def block(req: func.HttpRequest) -> func.HttpResponse:
        time.sleep(0.2)
        return func.HttpResponse()

    def length(req: func.HttpRequest) -> func.HttpResponse:
        return func.HttpResponse("xyz", headers={"Content-Length": req.route_params["length"]})

    def status_of(req: func.HttpRequest) -> func.HttpResponse:
        return func.HttpResponse("x", status_code=int(req.route_params["code"]))

    nothing.__annotations__.pop("return")
    for name, route, methods, body in (
        ("echo", "api/echo/{id}", ["GET", "POST"], echo),
        ("text", "api/text", ["POST"], text),
        ("header", "api/header", ["POST"], header),
        ("nothing", "api/nothing", None, nothing),
        ("block", "api/block", None, block),
        ("any", "{first}", ["PUT"], echo),
        ("root", "/", None, text),
        ("length", "api/length/{length}", None, length),
        ("status", "api/status/{code}", ["POST"], status_of),
        ("rest", "{*path}", ["PATCH"], echo),
        ("known", "api/{id}", ["PATCH"], echo),
    ):
        app.function_name(name)(app.route(route, methods=methods)(body))
    return app


def call(
    test: Callable[[Client], Awaitable[None]],
    concurrent: int = 100,
    outstanding: int = 200,
    limit: int = BODY_LIMIT,
    body_seconds: float = 20.0,
) -> None:
    async def run() -> None:
        found = make_app().get_functions()
        functions = [one for one in index(found, {}) if isinstance(one, HttpFunction)]
        bodies = {one.get_function_name(): one.get_user_function() for one in found}
        options = HttpOptions(route_prefix="", max_concurrent_requests=concurrent, max_outstanding_requests=outstanding)
        http = HttpHost(functions, options, InThreads(bodies), limit, body_seconds)
        with listener(0) as port:
            async with serving(http, port, 1), ClientSession() as session:
                await test(Client(session=session, port=port.getsockname()[1]))

    asyncio.run(run())


async def status(client: Client, method: str, path: str, **options: Any) -> int:
    async with client.request(method, path, **options) as response:
        return response.status


def test_a_request_should_reach_its_function() -> None:
    async def test(client: Client) -> None:
        async with client.request("POST", "/api/echo/a%20b%2Fc?x=1&x=2&empty=", data=b"hello") as response:
            assert response.status == 202
            assert response.headers["Content-Type"] == "text/plain; charset=utf-8"
            assert response.cookies["a"].value == "b"
            assert json.loads(await response.text()) == {
                "params": {"x": "1,2"}, "route": {"id": "a b%2Fc"}, "body": "hello",
            }  # fmt: skip

    call(test)


@pytest.mark.parametrize(("value", "expected"), [(b"\xff", 400), (b"Bearer \xc3", 400), ("Bearer é".encode(), 200)])
def test_a_header_that_is_not_utf_8_should_be_refused_before_any_function_runs(value: bytes, expected: int) -> None:
    async def test(client: Client) -> None:
        head = (b"POST /api/text HTTP/1.1", b"Host: x", b"Connection: close")
        assert (await client.raw(*head, b"X-Admin-Token: " + value))[0] == expected

    call(test)


def test_a_chunked_body_should_arrive_empty() -> None:
    async def chunks() -> AsyncGenerator[bytes]:
        yield b"hello"

    async def test(client: Client) -> None:
        async with client.request("POST", "/api/echo/1", data=chunks()) as response:
            assert json.loads(await response.text())["body"] == ""

    call(test)


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/api/none"), ("GET", "/api/text"), ("GET", "/text"), ("HEAD", "/api/echo/1")]
)
def test_no_match_and_a_wrong_method_should_be_404(method: str, path: str) -> None:
    async def test(client: Client) -> None:
        assert await status(client, method, path) == 404

    call(test)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/admin/host/status", 401), ("/Admin/functions", 401), ("/runtime/webhooks/x", 401), ("/%61dmin/x", 401),
        ("/ADMINx", 404), ("/administrator/x", 404), ("/runtime", 404),
    ],
)  # fmt: skip
def test_reserved_paths_should_be_answered_empty_before_any_function(path: str, expected: int) -> None:
    async def test(client: Client) -> None:
        for method in ("PUT", "PATCH"):
            async with client.request(method, path) as response:
                assert (response.status, await response.read()) == (expected, b"")
        assert await status(client, "PUT", "/elsewhere") == 202

    call(test)


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("GET", "/admin/host/ping", 200), ("POST", "/Admin/Warmup", 200), ("PUT", "/admin/host/ping", 401),
        ("GET", "/api/admin", None), ("GET", "/", None),
    ],
)  # fmt: skip
def test_what_the_host_has_for_everyone_should_be_there(method: str, path: str, expected: int | None) -> None:
    assert built_in(method, path) == expected


@pytest.mark.parametrize(("value", "limit"), [("2097152", 2097152), ("", BODY_LIMIT), ("2 MiB", BODY_LIMIT)])
def test_a_limit_of_bodies_should_be_a_number_of_bytes(value: str, limit: int) -> None:
    assert body_limit({"FUNCTIONS_REQUEST_BODY_SIZE_LIMIT": value}) == limit
    assert body_limit({}) == BODY_LIMIT


def test_the_root_should_be_a_function_like_any_other() -> None:
    async def test(client: Client) -> None:
        async with client.request("GET", "/") as response:
            assert await response.text() == "plain"

    call(test)


@pytest.mark.parametrize(
    ("path", "route"),
    [
        ("/a/b%20c/d", {"path": "a/b c/d"}),
        ("/a", {"path": "a"}),
        ("/api/x", {"id": "x"}),
        ("/api/x/y", {"path": "api/x/y"}),
    ],
)
def test_a_route_of_all_the_rest_should_come_last(path: str, route: dict[str, str]) -> None:
    async def test(client: Client) -> None:
        async with client.request("PATCH", path) as response:
            assert json.loads(await response.text())["route"] == route

    call(test)


def test_a_failure_should_be_an_empty_500() -> None:
    async def test(client: Client) -> None:
        async with client.request("GET", "/api/nothing") as response:
            assert (response.status, await response.read()) == (500, b"")

    call(test)


def test_synchronous_functions_should_run_side_by_side() -> None:
    async def test(client: Client) -> None:
        started = time.perf_counter()
        assert await asyncio.gather(*(status(client, "GET", "/api/block") for _ in range(4))) == [200] * 4
        assert time.perf_counter() - started < 0.7

    call(test)


def test_an_answer_should_not_wait_for_the_clients_acknowledgement() -> None:
    """Headers and body are two segments. Nagle's algorithm, which asyncio turns off for TCP by name, held one 40 ms."""
    with listener(0) as port:
        assert port.proto == socket.IPPROTO_TCP


def test_requests_beyond_the_limits_should_wait_and_then_be_refused() -> None:
    async def test(client: Client) -> None:
        started = time.perf_counter()
        answers = await asyncio.gather(*(status(client, "GET", "/api/block") for _ in range(4)))
        assert sorted(answers) == [200, 200, 200, 429]
        assert time.perf_counter() - started >= 0.4
        assert await status(client, "GET", "/api/block") == 200

    call(test, concurrent=2, outstanding=3)


async def begin(client: Client, length: int, sent: bytes = b"{") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Send the head of a POST and the first bytes of its body."""
    reader, writer = await asyncio.open_connection("127.0.0.1", client.port)
    writer.write(b"POST /api/echo/1 HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s" % (length, sent))
    await writer.drain()
    return reader, writer


def test_a_body_over_the_limit_should_be_an_empty_500_before_it_is_sent() -> None:
    async def test(client: Client) -> None:
        reader, writer = await begin(client, 1001)
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
        assert head.startswith(b"HTTP/1.1 500")
        assert b"Content-Length: 0" in head
        writer.close()
        async with client.request("POST", "/api/echo/1", data=b"x" * 1000) as response:
            assert len(json.loads(await response.text())["body"]) == 1000

    call(test, limit=1000)


def test_bodies_that_come_slowly_should_delay_no_other_request_and_end() -> None:
    async def test(client: Client) -> None:
        slow = [await begin(client, 1000) for _ in range(20)]
        assert await asyncio.wait_for(status(client, "POST", "/api/text"), 1.5) == 200
        heads = await asyncio.gather(*(reader.readline() for reader, _ in slow))
        assert set(heads) == {b"HTTP/1.1 408 Request Timeout\r\n"}
        for _, writer in slow:
            writer.close()

    call(test, concurrent=2, outstanding=4, body_seconds=2.0)


@pytest.mark.parametrize(("value", "code"), [("/a?b=%C3%A9", 200), ("/é", 500), ("/a\nb", 500), ("/\ud800", 500)])
def test_a_response_header_should_be_printable_ascii_as_on_the_real_host(value: str, code: int) -> None:
    async def test(client: Client) -> None:
        assert await status(client, "POST", "/api/header", data=json.dumps(value)) == code

    call(test)


def router(*routes: tuple[str, str]) -> Router:
    return Router(
        HttpFunction(
            name=f"{methods} {route}".strip(),
            argument="req",
            route=route,
            methods=frozenset(methods.split()),
        )
        for route, methods in routes
    )


@pytest.mark.parametrize(
    ("route", "path", "expected"),
    [
        ("api/health", "/api/health", {}),
        ("api/health", "/API/Health/", {}),
        ("items/{id}", "/items/a b", {"id": "a b"}),
        ("a/{x}/b/{y}", "/a/1/b/2", {"x": "1", "y": "2"}),
        ("", "/", {}),
        ("api/health", "/api/healthy", None),
        ("api/health", "/api", None),
        ("items/{id}", "/items", None),
        ("items/{id}", "/items/a/b", None),
        ("a.b", "/axb", None),
    ],
)
def test_a_route_should_match_whole_segments(route: str, path: str, expected: dict[str, str] | None) -> None:
    found = router((route, "GET")).find("GET", path)
    assert (found and found[1]) == expected


def test_text_should_be_tried_before_parameters() -> None:
    routes = router(("items/{id}", ""), ("items/new", ""), ("{kind}/{id}/x", ""), ("items/{id}/x", ""))
    found = [routes.find("GET", path) for path in ("/items/new", "/items/q", "/items/q/x", "/else/q/x")]
    assert [one and one[0].name for one in found] == ["items/new", "items/{id}", "items/{id}/x", "{kind}/{id}/x"]


def test_one_route_should_serve_each_method_by_its_own_function() -> None:
    routes = router(("items", "GET"), ("items", "POST"))
    found = routes.find("POST", "/items")
    assert found and (found[0].name, found[1]) == ("POST items", {})


@pytest.mark.parametrize("method", ["DELETE", "HEAD"])
def test_a_wrong_method_should_not_match(method: str) -> None:
    assert router(("items", "GET")).find(method, "/items") is None


GET = b"GET /api/echo/%s HTTP/1.1"
HEAD = (b"Host: x", b"Connection: close")


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ((GET % b"1", *HEAD), 202),
        ((GET % b"a/../b", *HEAD), 202),
        ((GET % b"\x00", *HEAD), 400),
        ((GET % b"%00", *HEAD), 400),
        ((GET % "é".encode(), *HEAD), 400),
        ((GET % b"a b", *HEAD), 400),
        ((GET % b"1", b"Connection: close"), 400),
        ((GET % b"1", *HEAD, b"Host: y"), 400),
        ((GET % b"1", b"Host: a b"), 400),
        ((GET % b"1", *HEAD, b"X: \xff"), 400),
        ((GET % b"1", *HEAD, b"X: \x00"), 400),
        ((GET % b"1", *HEAD, b"X : 1"), 400),
        ((GET % b"1", *HEAD, *[b"X: 1"] * 98), 202),
        ((GET % b"1", *HEAD, *[b"X: 1"] * 99), 431),
        ((GET % b"1", *HEAD, *[b"X: " + b"1" * 9000] * 4), 431),
        ((GET % (b"1" * 8200), *HEAD), 414),
        ((b"GET http://x/api/echo/1 HTTP/1.1", *HEAD), 400),
        ((b"nonsense",), 400),
    ],
)
def test_the_server_should_refuse_what_kestrel_refuses_and_close(lines: tuple[bytes, ...], expected: int) -> None:
    async def test(client: Client) -> None:
        status, answer = await client.raw(*lines)
        assert status == expected
        if status >= 400:
            assert answer.endswith(b"\r\n\r\n")

    call(test)


def test_an_answer_should_be_chunked_and_an_empty_one_have_a_length() -> None:
    async def test(client: Client) -> None:
        _, answer = await client.raw(GET % b"1", *HEAD)
        assert b"Transfer-Encoding: chunked" in answer
        assert b"Content-Length" not in answer
        _, answer = await client.raw(b"GET /api/none HTTP/1.1", *HEAD)
        assert b"Content-Length: 0" in answer
        assert b"Set-Cookie: a=b; domain=; path=; httponly" in (await client.raw(GET % b"1", *HEAD))[1]

    call(test)


def test_a_head_should_reach_a_route_that_lists_it_and_have_no_body() -> None:
    async def test(client: Client) -> None:
        status, answer = await client.raw(b"HEAD / HTTP/1.1", *HEAD)
        assert (status, answer.partition(b"\r\n\r\n")[2]) == (200, b"")

    call(test)


@pytest.mark.parametrize("code", [204, 304])
def test_a_body_where_none_may_be_should_close_the_connection(code: int) -> None:
    async def test(client: Client) -> None:
        status, answer = await client.raw(b"POST /api/status/%d HTTP/1.1" % code, b"Host: x", b"Content-Length: 0")
        assert (status, answer.partition(b"\r\n\r\n")[2]) == (code, b"")

    call(test)


@pytest.mark.parametrize(("length", "body"), [(b"3", b"xyz"), (b"9", b"xyz"), (b"1", b"")])
def test_a_wrong_length_of_the_app_should_be_passed_on_and_the_answer_be_cut(length: bytes, body: bytes) -> None:
    async def test(client: Client) -> None:
        _, answer = await client.raw(b"GET /api/length/%s HTTP/1.1" % length, *HEAD)
        assert b"Content-Length: %s" % length in answer
        assert answer.partition(b"\r\n\r\n")[2] == body

    call(test)


def test_a_path_that_is_not_utf_8_should_reach_its_function_as_it_is() -> None:
    async def test(client: Client) -> None:
        for sent, route in ((b"%FF", "%FF"), (b"a%0Ab", "a\\nb"), (b"%252F", "%2F")):
            _, answer = await client.raw(GET % sent, *HEAD)
            assert f'"route": {{"id": "{route}"}}'.encode() in answer

    call(test)
