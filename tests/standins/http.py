"""What the stand-ins that speak HTTP share: a server on this machine that turns a request into a response."""

import ssl
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self
from urllib.parse import unquote, urlsplit


@dataclass(frozen=True, kw_only=True)
class Request:
    method: str
    target: str
    """Path and query as they came."""
    headers: Message
    """Found without regard to case."""
    body: bytes
    connection: BaseHTTPRequestHandler | None = None
    """For an answer that is no response, or one that comes in pieces."""

    @property
    def path(self) -> str:
        return unquote(urlsplit(self.target).path)

    @property
    def query(self) -> str:
        return urlsplit(self.target).query


@dataclass(frozen=True)
class Response:
    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict[str, str])


Answer = Callable[[Request], Response | None]
"""None: nothing more is sent, and the connection is closed."""


class HttpServer:
    """Serves while it is entered, each connection in a thread of its own; on a free port unless one is given."""

    def __init__(
        self, answer: Answer, *, address: str = "127.0.0.1", port: int = 0, tls: ssl.SSLContext | None = None
    ) -> None:
        class Bound(_Handler):
            served = staticmethod(answer)

        self._server = _Server((address, port), Bound)
        if tls is not None:
            # The handshake belongs to the connection's thread, not to the one that accepts.
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self.port = int(self._server.server_address[1])
        self.url = f"{'https' if tls else 'http'}://{address}:{self.port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


class _Handler(BaseHTTPRequestHandler):
    served: Answer
    protocol_version = "HTTP/1.1"
    timeout = 60
    wbufsize = -1  # head and body in one packet, or each answer costs a delayed acknowledgement of 40 ms
    disable_nagle_algorithm = True

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        response = self.served(
            Request(method=self.command, target=self.path, headers=self.headers, body=body, connection=self)
        )
        if response is None:
            self.close_connection = True
            return
        if "Date" in response.headers:
            self.send_response_only(response.status)
        else:
            self.send_response(response.status)
        for name, value in response.headers.items():
            self.send_header(name, value)
        if response.status != 204:
            self.send_header("Content-Length", str(len(response.body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(response.body)

    do_GET = do_PUT = do_POST = do_PATCH = do_DELETE = do_HEAD = _serve  # noqa: N815 - the base class names them so

    def handle(self) -> None:
        """Serve one connection; one that breaks off is the caller's business."""
        try:
            super().handle()
        except (ConnectionError, ssl.SSLError, TimeoutError):
            self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        """Stay quiet: stand-ins write down what they are asked."""
