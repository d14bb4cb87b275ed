"""The stand-in's HTTPS side: one thread a connection, every call written down."""

import json
import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from tests.standins.azure.certificate import make_certificates
from tests.standins.azure.manager import ResourceManager
from tests.standins.azure.shapes import Call, Reply


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


class AzureServer:
    """Serves a resource manager over TLS while it is entered.

    Parameters
    ----------
    manager
        What is served; a test looks into it and changes it at any time.
    folder
        Where the certificates go.
    address, port, names
        Where to listen, and the host names that the certificate is for beside the address.
    """

    def __init__(
        self,
        manager: ResourceManager,
        folder: Path,
        *,
        address: str = "127.0.0.1",
        port: int = 0,
        names: tuple[str, ...] = ("localhost",),
    ) -> None:
        self.manager = manager
        self._address = address
        self._certificates = make_certificates(folder, *names, address)
        self.ca = self._certificates.ca

        class Bound(_Handler):
            served = manager

        self._http = _Server((address, port), Bound)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self._certificates.chain, self._certificates.key)
        # The handshake belongs to the connection's thread, not to the one that accepts.
        self._http.socket = context.wrap_socket(self._http.socket, server_side=True, do_handshake_on_connect=False)
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)

    @property
    def port(self) -> int:
        """The port it listens on."""
        return int(self._http.server_address[1])

    @property
    def endpoint(self) -> str:
        """Its address."""
        return f"https://{self._address}:{self.port}"

    def __enter__(self) -> "AzureServer":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()


class _Handler(BaseHTTPRequestHandler):
    served: ResourceManager
    protocol_version = "HTTP/1.1"
    timeout = 60
    wbufsize = -1
    disable_nagle_algorithm = True

    def _serve(self) -> None:
        split = urlsplit(self.path)
        length = int(self.headers.get("Content-Length") or 0)
        sent = self.rfile.read(length) if length else b""
        body: Any = json.loads(sent) if sent else {}
        base = f"https://{self.headers.get('Host')}"
        query = dict(parse_qsl(split.query, keep_blank_values=True))
        self._send(self.served.answer(Call(self.command, split.path, query, dict(self.headers.items()), body, base)))

    def _send(self, reply: Reply) -> None:
        data = b"" if reply.body is None else json.dumps(reply.body).encode()
        self.send_response(reply.status)
        for name, value in reply.headers.items():
            self.send_header(name, value)
        if reply.body is not None:
            self.send_header("Content-Type", "application/json; charset=utf-8")
        if reply.status != 204:
            self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    do_GET = do_PUT = do_POST = do_PATCH = do_DELETE = do_HEAD = _serve  # noqa: N815 - the base class names them so

    def handle(self) -> None:
        """Serve one connection; one that breaks off is the caller's business."""
        try:
            super().handle()
        except (ConnectionError, ssl.SSLError, TimeoutError):
            self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: the manager writes its calls down."""
