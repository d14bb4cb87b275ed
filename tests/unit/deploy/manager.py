"""A stand-in for Azure's resource manager: speaks HTTP to the real clients, knows what it is told."""

import json
import threading
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from azure.core.credentials import AccessToken

Answer = tuple[int, Any, dict[str, str]]


class Signed:
    """A credential that is always there."""

    def get_token(self, *scopes: str, **_: Any) -> AccessToken:
        assert scopes == ("https://management.azure.com/.default",)
        return AccessToken("stand-in-token", 4_102_444_800)


@dataclass
class Manager:
    """Answers by path; what it was sent is in `calls`."""

    address: str = ""
    answers: dict[tuple[str, str], list[Answer]] = field(default_factory=dict[tuple[str, str], list[Answer]])
    calls: list[tuple[str, str, dict[str, list[str]], Any]] = field(
        default_factory=list[tuple[str, str, dict[str, list[str]], Any]]
    )

    def say(self, path: str, body: Any, status: int = 200, method: str = "GET", **headers: str) -> None:
        """Answer a path; the last of several answers is repeated."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.answers.setdefault((method, path.lower()), []).append((status, body, named))

    def replace(self, path: str, body: Any, status: int = 200, method: str = "GET") -> None:
        """Answer a path in another way than before."""
        self.answers.pop((method, path.lower()), None)
        self.say(path, body, status, method)

    def sent(self, method: str) -> list[tuple[str, Any]]:
        """Paths and bodies of one method's calls."""
        return [(path, body) for one, path, _, body in self.calls if one == method]

    def answer(self, method: str, path: str) -> Answer:
        """The next answer of a path."""
        known = self.answers.get((method, path.lower()))
        if not known:
            return 404, {"error": {"code": "ResourceNotFound", "message": f"no {path}"}}, {}
        return known.pop(0) if len(known) > 1 else known[0]


@contextmanager
def running() -> Generator[Manager]:
    """A stand-in on a free port of this machine."""
    manager = Manager()

    class Handler(BaseHTTPRequestHandler):
        def _serve(self) -> None:
            parts = urlsplit(self.path)
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else None
            manager.calls.append((self.command, parts.path, parse_qs(parts.query), body))
            if self.headers.get("Authorization") != "Bearer stand-in-token":
                status, answer, headers = 401, {"error": {"code": "InvalidAuthenticationToken", "message": "no"}}, {}
            else:
                status, answer, headers = manager.answer(self.command, parts.path)
            content = json.dumps(answer).encode() if answer is not None else b""
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_PUT = do_POST = _serve  # noqa: N815 - http.server's names

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    manager.address = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield manager
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
