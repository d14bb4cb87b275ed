"""The guard inside vLLM: what passes, and what everybody else is answered."""

import asyncio
import json
from typing import Any

import pytest

from shared.agent.node import guard
from shared.agent.node.guard import SERVED, Guard, Message

KEY = "gl-the-key-of-this-attempt"
BEARER = (b"authorization", f"Bearer {KEY}".encode())
WRONG: list[list[tuple[bytes, bytes]]] = [
    [],
    [(b"authorization", b"")],
    [(b"authorization", b"Bearer")],
    [(b"authorization", b"Bearer ")],
    [(b"authorization", f"Bearer {KEY}x".encode())],
    [(b"authorization", f"Bearer {KEY[:-1]}".encode())],
    [(b"authorization", f"Bearer  {KEY}".encode())],
    [(b"authorization", f"Basic {KEY}".encode())],
    [(b"authorization", KEY.encode())],
    [(b"authorization", b"Bearer \xff\xfe")],
    [(b"x-api-key", KEY.encode())],
    [(b"cookie", b"authorization=Bearer " + KEY.encode())],
    [(b"authorization", b"Bearer x"), BEARER],
    [BEARER, (b"authorization", b"Bearer x")],
]
OTHER_PATHS = [
    "/", "/invocations", "/v1", "/v1/", "/v1/models/", "//v1/models", "/v1//models", "/V1/models",
    "/v1/models/../../sleep", "/v1/load_lora_adapter", "/docs", "/redoc", "/server_info", "/collective_rpc",
    "/reset_prefix_cache", "/sleep", "/scale_elastic_ep", "/start_profile", "/inference/v1/generate",
    "/update_weights", "/v1/responses/", "/health/x", "/v1/responses/a/b", "/v1/responses/a/cancel/x",
    "/v1/responses/a b", "/v1/responses/ä", "/metrics\n", "",
]  # fmt: skip


@pytest.fixture
def reached(monkeypatch: pytest.MonkeyPatch) -> list[Message]:
    monkeypatch.setenv(guard.KEY, KEY)
    return []


def ask(reached: list[Message], kind: str = "http", /, **given: Any) -> list[Message]:
    """What the guard itself sends; what it lets pass is added to `reached`."""
    sent: list[Message] = []

    async def app(scope: Message, receive: object, send: object) -> None:
        reached.append(scope)

    async def receive() -> Message:
        assert kind == "websocket", "nothing is read of a request that is refused"
        return {"type": "websocket.connect"}

    async def send(message: Message) -> None:
        sent.append(message)

    scope: Message = {"type": kind, "method": "GET", "path": "/v1/models", "headers": [], "extensions": None, **given}

    async def connect() -> None:
        await Guard(app)(scope, receive, send)

    asyncio.run(connect())
    return sent


@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS", "HEAD", "PUT", "DELETE", "PATCH", "TRACE", "X"])
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/health", "/metrics", "/invocations", "/", "/nowhere"])
def test_without_the_key_no_path_and_no_method_should_pass(reached: list[Message], method: str, path: str) -> None:
    start, body = ask(reached, method=method, path=path)
    assert (start["status"], reached) == (401, [])
    headers = dict(start["headers"])
    assert headers[b"www-authenticate"] == b"Bearer"
    assert headers[b"connection"] == b"close"
    assert int(headers[b"content-length"]) == len(body["body"])
    assert json.loads(body["body"])["error"]["code"] == "invalid_api_key"


@pytest.mark.parametrize("headers", WRONG, ids=str)
def test_what_is_not_exactly_the_key_should_be_nothing(reached: list[Message], headers: list[Any]) -> None:
    assert ask(reached, headers=headers)[0]["status"] == 401
    assert ask(reached, "websocket", path="/v1/realtime", headers=headers) == [
        {"type": "websocket.close", "code": 1008}
    ]
    assert reached == []


@pytest.mark.parametrize("scheme", [b"Bearer ", b"bearer ", b"BEARER "])
def test_with_the_key_what_is_listed_should_pass_untouched(reached: list[Message], scheme: bytes) -> None:
    headers = [(b"Authorization", scheme + KEY.encode()), (b"accept", b"*/*")]
    asked = [(method, path) for method in ("GET", "POST") for path in sorted(SERVED[method])]
    asked += [("GET", "/v1/responses/resp_1-a"), ("POST", "/v1/responses/resp_1-a/cancel")]
    for method, path in asked:
        assert ask(reached, method=method, path=path, headers=headers) == []
    assert [(scope["method"], scope["path"]) for scope in reached] == asked
    assert ask(reached, "websocket", path="/v1/realtime", headers=headers) == []
    assert reached[-1]["type"] == "websocket"


@pytest.mark.parametrize("path", OTHER_PATHS)
def test_with_the_key_what_is_not_listed_should_be_not_found(reached: list[Message], path: str) -> None:
    for method in ("GET", "POST", "OPTIONS"):
        assert ask(reached, method=method, path=path, headers=[BEARER])[0]["status"] == 404
    assert ask(reached, "websocket", path=path, headers=[BEARER])[0]["type"] == "websocket.close"
    assert reached == []


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/health"), ("POST", "/v1/models"), ("GET", "/v1/chat/completions"), ("HEAD", "/v1/models"),
     ("DELETE", "/v1/responses/a"), ("GET", "/v1/responses/a/cancel"), ("POST", "/v1/responses/a"),
     ("GET", "/v1/realtime")],
)  # fmt: skip
def test_a_listed_path_should_not_pass_with_another_method(reached: list[Message], method: str, path: str) -> None:
    assert ask(reached, method=method, path=path, headers=[BEARER])[0]["status"] == 404


def test_a_websocket_should_be_refused_with_a_status_where_the_server_can_send_one(reached: list[Message]) -> None:
    start, _ = ask(reached, "websocket", path="/v1/realtime", extensions={"websocket.http.response": {}})
    assert (start["type"], start["status"]) == ("websocket.http.response.start", 401)


def test_the_life_of_the_server_should_pass_and_nothing_else_that_has_no_key(reached: list[Message]) -> None:
    ask(reached, "lifespan")
    assert [scope["type"] for scope in reached] == ["lifespan"]
    assert ask(reached, "websocket")[0]["type"] == "websocket.close"


@pytest.mark.parametrize("key", [None, ""])
def test_without_a_key_no_server_should_start(monkeypatch: pytest.MonkeyPatch, key: str | None) -> None:
    monkeypatch.delenv(guard.KEY, raising=False)
    if key is not None:
        monkeypatch.setenv(guard.KEY, key)
    with pytest.raises(RuntimeError, match="VLLM_API_KEY is not set"):
        Guard(nothing)


async def nothing(scope: Message, receive: guard.Receive, send: guard.Send) -> None: ...


def test_a_stream_should_go_through_no_code_of_the_guard(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(guard.KEY, KEY)
    given: list[object] = []

    def app(scope: Message, receive: guard.Receive, send: guard.Send) -> Any:
        given.extend((scope, receive, send, made := nothing(scope, receive, send)))
        return made

    async def receive() -> Message:
        return {}

    async def send(message: Message) -> None: ...

    scope: Message = {"type": "http", "method": "POST", "path": "/v1/chat/completions", "headers": [BEARER]}
    returned: Any = Guard(app)(scope, receive, send)
    assert [one is other for one, other in zip(given, (scope, receive, send, returned), strict=True)] == [True] * 4
    returned.close()
