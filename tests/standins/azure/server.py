"""The stand-in's HTTPS side."""

import json
import ssl
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qsl

from tests.standins.azure.certificate import make_certificates
from tests.standins.azure.manager import ResourceManager
from tests.standins.azure.shapes import Call
from tests.standins.http import HttpServer, Request, Response


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
        certificates = make_certificates(folder, *names, address)
        self.ca = certificates.ca
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificates.chain, certificates.key)
        self._http = HttpServer(self._answer, address=address, port=port, tls=context)
        self.endpoint = self._http.url

    def __enter__(self) -> Self:
        self._http.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.__exit__()

    def _answer(self, request: Request) -> Response:
        query = dict(parse_qsl(request.query, keep_blank_values=True))
        body: Any = json.loads(request.body) if request.body else {}
        base = f"https://{request.headers.get('Host')}"
        reply = self.manager.answer(Call(request.method, request.path, query, dict(request.headers), body, base))
        if reply.body is None:
            return Response(reply.status, headers=reply.headers)
        kind = {"Content-Type": "application/json; charset=utf-8"}
        return Response(reply.status, json.dumps(reply.body).encode(), reply.headers | kind)
