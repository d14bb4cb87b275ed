"""A node that costs next to nothing: `python -m bench.gateway.backend PORT [CERTIFICATE KEY]`, raw ASGI on uvicorn.

It answers at once with a constant, and streams as many chunks as `max_tokens` asks for, 20 ms apart. To SkyServe's
balancer it is the controller as well, and names the replicas in BENCH_REPLICAS.
"""

import asyncio
import json
import os
import re
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import uvicorn

PACE_SECONDS = 0.02
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

_USAGE = {"prompt_tokens": 5, "completion_tokens": 1, "total_tokens": 6}
_ANSWER = json.dumps(
    {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "bench/model",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hello."}, "finish_reason": "stop"}],
        "usage": _USAGE,
    }
).encode()
_NO_TEXT: dict[str, str] = {}
_BEGINNING = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "bench/model"}


def _event(**more: object) -> bytes:
    return b"data: " + json.dumps(_BEGINNING | more).encode() + b"\n\n"


_CHUNK = _event(choices=[{"index": 0, "delta": {"content": " token"}, "finish_reason": None}])
_LAST = _event(choices=[{"index": 0, "delta": _NO_TEXT, "finish_reason": "stop"}])
_COUNTED = _event(choices=[], usage=_USAGE)


async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    if scope["type"] != "http":
        return
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    if scope["path"] == "/controller/load_balancer_sync":
        replicas = os.environ.get("BENCH_REPLICAS", "").split()
        await _answer(send, json.dumps({"replica_info": {one: {} for one in replicas}}).encode())
    elif scope["method"] == "POST" and re.search(rb'"stream":\s*true', body):
        await _stream(send, body)
    else:
        await _answer(send, _ANSWER)


async def _answer(send: Send, body: bytes) -> None:
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _stream(send: Send, body: bytes) -> None:
    asked: dict[str, Any] = json.loads(body)
    options: dict[str, Any] = asked.get("stream_options") or {}
    headers = [(b"content-type", b"text/event-stream; charset=utf-8")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    pace = float(asked.get("pace", PACE_SECONDS))
    for number in range(int(asked["max_tokens"])):
        if number:
            await asyncio.sleep(pace)
        await send({"type": "http.response.body", "body": _CHUNK, "more_body": True})
    counted = _COUNTED if options.get("include_usage") else b""
    await send({"type": "http.response.body", "body": _LAST + counted + b"data: [DONE]\n\n"})


def main() -> None:
    port, *tls = sys.argv[1:]
    given: dict[str, Any] = {"ssl_certfile": tls[0], "ssl_keyfile": tls[1]} if tls else {}
    # As long as the gateway keeps connections, and longer: as nodes are started.
    uvicorn.run(app, port=int(port), log_level="warning", access_log=False, timeout_keep_alive=75, **given)  # pyright: ignore[reportArgumentType] - its own types of ASGI


if __name__ == "__main__":
    main()
