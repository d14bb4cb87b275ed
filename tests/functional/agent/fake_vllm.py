"""Speaks vLLM's protocol without a model: `serve`, /health, /metrics, inference; guards /v1 by itself, as vLLM does.

It takes `--middleware` and asks it about each request. Arguments of its own: `--fake-exit N` ends with N at once;
`--fake-engine-failure` fails as vLLM's engine does; `--fake-running N` reports so many running requests;
`--fake-unguarded` asks no middleware.
"""

import argparse
import asyncio
import importlib
import json
import os
import ssl
import sys
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

INFERENCE = (
    "/v1/chat/completions", "/v1/completions", "/invocations", "/score", "/rerank", "/pooling", "/classify",
    "/tokenize", "/inference/v1/generate",
)  # fmt: skip


class Server(ThreadingHTTPServer):
    model: str
    running: float
    middleware: Any = None
    request_queue_size = 64


class Handler(BaseHTTPRequestHandler):
    server: Server  # pyright: ignore[reportIncompatibleVariableOverride]

    def _answer(self, status: int, body: str, kind: str = "application/json") -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body.encode())))
        self.end_headers()
        self.wfile.write(body.encode())

    def _passes(self) -> bool:
        """Ask the middleware as a server of ASGI would; what it sends is the answer."""
        passed: list[Any] = []
        sent: list[Any] = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            passed.append(scope)

        async def receive() -> Any:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Any) -> None:
            sent.append(message)

        async def ask() -> None:
            headers = [(name.lower().encode(), value.encode("latin-1")) for name, value in self.headers.items()]
            path = urllib.parse.unquote(urllib.parse.urlsplit(self.path).path)
            scope = {"type": "http", "method": self.command, "path": path, "headers": headers}
            await self.server.middleware(app)(scope, receive, send)

        if self.server.middleware is None:
            return True
        asyncio.run(ask())
        if not passed:
            self._answer(sent[0]["status"], sent[1]["body"].decode())
        return bool(passed)

    def _allowed(self) -> bool:
        if not self.path.startswith(("/v1", "/v2", "/inference", "/cohere")):
            return True
        if self.headers.get("Authorization") == f"Bearer {os.environ['VLLM_API_KEY']}":
            return True
        self._answer(401, json.dumps({"error": "Unauthorized"}))
        return False

    def do_GET(self) -> None:
        if not self._passes():
            return
        if self.path == "/health":
            self._answer(200, "")
        elif self.path == "/metrics":
            label = f'{{engine="0",model_name="{self.server.model}"}}'
            lines = [
                "# TYPE vllm:num_requests_running gauge",
                f"vllm:num_requests_running{label} {self.server.running}",
            ]
            lines += [f"vllm:num_requests_waiting{label} 0.0", f"vllm:num_requests_waiting_by_reason{label} 9.0"]
            self._answer(200, "\n".join(lines) + "\n", "text/plain; version=0.0.4")
        elif self.path == "/v1/models" and self._allowed():
            self._answer(200, json.dumps({"object": "list", "data": [{"id": self.server.model, "object": "model"}]}))

    def do_POST(self) -> None:
        if self._passes() and self.path in INFERENCE and self._allowed():
            message = {"role": "assistant", "content": "hello"}
            self._answer(200, json.dumps({"model": self.server.model, "choices": [{"message": message}]}))

    def log_message(self, format: str, *args: object) -> None:
        print(format % args, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("command", choices=["serve"])
    parser.add_argument("model", type=Path)
    parser.add_argument("--served-model-name", required=True)
    parser.add_argument("--host", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--fake-exit", type=int)
    parser.add_argument("--fake-engine-failure", action="store_true")
    parser.add_argument("--fake-running", type=float, default=0.0)
    parser.add_argument("--middleware", action="append", default=[])
    parser.add_argument("--fake-unguarded", action="store_true")
    parser.add_argument("--ssl-certfile")
    parser.add_argument("--ssl-keyfile")
    args, _ = parser.parse_known_args()
    work = args.model.parent
    (work / "vllm.argv").write_text(json.dumps(sys.argv))
    print(f"INFO loading {sorted(str(path.relative_to(args.model)) for path in args.model.rglob('*'))}", flush=True)
    print(f"INFO the key is {os.environ['VLLM_API_KEY']}", flush=True)
    if args.fake_exit is not None:
        print("ValueError: no GPU has that much memory", file=sys.stderr, flush=True)
        return args.fake_exit
    if args.fake_engine_failure:
        at = "ERROR 11-26 10:00:07 [core.py:708]"
        print(f"(EngineCore_DP0 pid=8) {at} torch.OutOfMemoryError: CUDA out of memory.", flush=True)
        for number in range(300):
            print(f"(APIServer pid=7)   File x.py, line {number}", flush=True)
        print("(APIServer pid=7) RuntimeError: Engine core initialization failed. See root cause above.", flush=True)
        return 1
    server = Server((args.host, args.port), Handler)
    if args.ssl_certfile:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(args.ssl_certfile, args.ssl_keyfile)
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    server.model, server.running = args.served_model_name, args.fake_running
    names: list[str] = [] if args.fake_unguarded else args.middleware
    for name in names:
        module, _, attribute = name.rpartition(".")
        server.middleware = getattr(importlib.import_module(module), attribute)
    (work / "vllm.pid").write_text(str(os.getpid()))
    server.serve_forever()
    return 0


if __name__ == "__main__":
    sys.exit(main())
