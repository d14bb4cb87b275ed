"""The guard of the endpoint, which runs inside vLLM: nothing passes without the key, and with it only what is listed.

vLLM's own key guards /v1 and some other prefixes; inference at /invocations and more is open to everyone
(https://github.com/vllm-project/vllm/issues/58144). So the agent hands vLLM this file as `--middleware`: there it is
outermost, sees websockets too, and adds nothing to a token that is streamed, as a proxy in front would.

Only the standard library, and nothing of ours: vLLM imports the file by itself.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import re
from collections.abc import Awaitable, MutableMapping
from typing import Any, Callable

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
AsgiApp = Callable[[Message, Receive, Send], Awaitable[None]]

KEY = "VLLM_API_KEY"
"""The environment variable that holds the endpoint's key, for vLLM as for its guard."""
_WEBSOCKET = "a websocket"
"""In the place of a method; no method has a space."""
SERVED = {
    kind: frozenset(paths.split())
    for kind, paths in {
        "GET": "/health /ping /metrics /load /version /openapi.json /tokenizer_info /v1/models",
        "POST": """
            /v1/chat/completions /v1/chat/completions/batch /v1/completions /v1/responses /v1/messages
            /v1/messages/count_tokens /v1/embeddings /v2/embed /v1/score /score /v1/rerank /v2/rerank /rerank /pooling
            /classify /tokenize /detokenize /v1/audio/transcriptions /v1/audio/translations
        """,
        _WEBSOCKET: "/v1/realtime",
    }.items()
}
"""What the endpoint serves to those who have its key: paths by method. vLLM has more, for its operators."""
_RESPONSE = {"GET": re.compile(r"/v1/responses/[\w-]{1,128}", re.ASCII)}
_RESPONSE["POST"] = re.compile(_RESPONSE["GET"].pattern + "/cancel", re.ASCII)


def served(scope: Message) -> bool:
    """Whether a connection asks for something that the endpoint serves; the path has to be exactly one of the list."""
    kind, path = scope["method"] if scope["type"] == "http" else _WEBSOCKET, scope["path"]
    return path in SERVED.get(kind, ()) or (kind in _RESPONSE and _RESPONSE[kind].fullmatch(path) is not None)


class Guard:
    """ASGI middleware.

    Raises:
        RuntimeError: The key is missing; vLLM must not start without one.
    """

    def __init__(self, app: AsgiApp) -> None:
        key = os.environ.get(KEY, "")
        if not key:
            raise RuntimeError(f"{KEY} is not set; the endpoint would be open to everyone")
        self._app = app
        self._digest = hashlib.sha256(key.encode()).digest()

    def __call__(self, scope: Message, receive: Receive, send: Send) -> Awaitable[None]:
        """Hand on what may pass; the inner coroutine is returned as it is, so that streams cost nothing more."""
        if scope["type"] == "lifespan":
            return self._app(scope, receive, send)
        if not self._proven(scope):
            return _refuse(scope, receive, send, 401)
        if not served(scope):
            return _refuse(scope, receive, send, 404)
        return self._app(scope, receive, send)

    def _proven(self, scope: Message) -> bool:
        """Whether there is exactly one Authorization header, with the key; compared in constant time."""
        given = [value for name, value in scope["headers"] if name.lower() == b"authorization"]
        scheme, _, token = given[0].partition(b" ") if len(given) == 1 else (b"", b"", b"")
        return hmac.compare_digest(hashlib.sha256(token).digest(), self._digest) and scheme.lower() == b"bearer"


_SAID = {
    401: ("Send the endpoint's key as `Authorization: Bearer …`.", "invalid_api_key"),
    404: ("This endpoint does not serve that path and method.", "not_found"),
}


async def _refuse(scope: Message, receive: Receive, send: Send, status: int) -> None:
    """Answer at once, in OpenAI's shape for errors, and close: a body that may follow is not read."""
    message, code = _SAID[status]
    error = {"message": message, "type": "invalid_request_error", "param": None, "code": code}
    body = json.dumps({"error": error}, ensure_ascii=False).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    headers += [(b"cache-control", b"no-store"), (b"connection", b"close")]
    if status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    kind = "http.response"
    if scope["type"] != "http":
        await receive()
        if "websocket.http.response" not in (scope.get("extensions") or {}):
            await send({"type": "websocket.close", "code": 1008})
            return
        kind = "websocket.http.response"
    await send({"type": f"{kind}.start", "status": status, "headers": headers})
    await send({"type": f"{kind}.body", "body": body})
