"""Canned answers of simulated nodes, in the shapes of vLLM's, at the pace of an A10."""

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator
from typing import Any, cast

from gateway.answer import NodeAnswer
from gateway.snapshot import Node

FIRST_SECONDS, TOKEN_SECONDS = 0.2, 0.03
"""Until the first token, and between two: an 8B model on an A10."""
TEXT = (
    "This is a simulated answer: no model has read your request, and no node is rented. A real node streams its "
    "tokens through this address in the same way."
)
_MODES = {"/v1/chat/completions": "chat", "/v1/completions": "text"}


def canned(node: Node, path: str, body: bytes) -> NodeAnswer:
    given: dict[str, Any] = json.loads(body)
    mode = _MODES.get(path)
    if mode is None and path == "/v1/embeddings":
        return _whole(200, _embeddings(node, given))
    if mode is None:
        error = {"message": f"Simulated nodes do not answer {path}.", "type": "not_found_error", "code": "not_found"}
        return _whole(404, {"error": error})
    tokens = TEXT.split(" ")[: _limit(given)]
    words = [word if index == 0 else f" {word}" for index, word in enumerate(tokens)]
    usage = {"prompt_tokens": 8, "completion_tokens": len(words), "total_tokens": 8 + len(words)}
    base: dict[str, Any] = {
        "id": f"chatcmpl-{uuid.uuid4().hex}",
        "object": "chat.completion" if mode == "chat" else "text_completion",
        "created": int(time.time()),
        "model": node.model,
    }
    if not given.get("stream"):
        choice = _choice(mode, "".join(words), "stop", whole=True)
        return _whole(200, {**base, "choices": [choice], "usage": usage}, FIRST_SECONDS + TOKEN_SECONDS * len(words))
    if mode == "chat":
        base["object"] = "chat.completion.chunk"
    options = given.get("stream_options")
    wanted = usage if isinstance(options, dict) and cast("dict[str, Any]", options).get("include_usage") else None
    headers = [(b"content-type", b"text/event-stream; charset=utf-8")]
    return NodeAnswer(200, headers, _stream(mode, words, base, wanted), is_stream=True)


def _limit(given: dict[str, Any]) -> int | None:
    limit = given.get("max_tokens") or given.get("max_completion_tokens")
    return limit if isinstance(limit, int) and limit > 0 else None


def _choice(mode: str, text: str, finish: str | None, *, whole: bool) -> dict[str, Any]:
    if mode == "text":
        return {"index": 0, "text": text, "finish_reason": finish}
    return {
        "index": 0,
        "message" if whole else "delta": {"role": "assistant", "content": text},
        "finish_reason": finish,
    }


async def _stream(
    mode: str, words: list[str], base: dict[str, Any], usage: dict[str, int] | None
) -> AsyncIterator[bytes]:
    await asyncio.sleep(FIRST_SECONDS)
    for index, word in enumerate(words):
        finish = "stop" if index == len(words) - 1 else None
        yield _event({**base, "choices": [_choice(mode, word, finish, whole=False)]})
        await asyncio.sleep(TOKEN_SECONDS)
    if usage is not None:
        yield _event({**base, "choices": [], "usage": usage})
    yield b"data: [DONE]\n\n"


def _event(document: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(document).encode() + b"\n\n"


def _embeddings(node: Node, given: dict[str, Any]) -> dict[str, Any]:
    asked = given.get("input")
    texts: list[Any] = cast("list[Any]", asked) if isinstance(asked, list) else [asked]
    data = [{"object": "embedding", "index": index, "embedding": [0.0] * 8} for index in range(len(texts))]
    usage = {"prompt_tokens": len(texts), "total_tokens": len(texts)}
    return {"object": "list", "model": node.model, "data": data, "usage": usage}


def _whole(status: int, document: dict[str, Any], seconds: float = 0.0) -> NodeAnswer:
    async def once() -> AsyncIterator[bytes]:
        await asyncio.sleep(seconds)
        yield json.dumps(document).encode()

    return NodeAnswer(status, [(b"content-type", b"application/json")], once(), is_stream=False)
