"""Application Insights' ingestion, as far as an exporter goes: takes envelopes in and keeps them."""

from __future__ import annotations

import gzip
import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, cast

TABLES = {
    "RequestData": "AppRequests",
    "RemoteDependencyData": "AppDependencies",
    "MessageData": "AppTraces",
    "ExceptionData": "AppExceptions",
    "MetricData": "AppMetrics",
}
"""Where an envelope's rows appear in the workspace."""


@dataclass(frozen=True)
class Row:
    """A row as queries see it, as far as it comes from the app."""

    table: str
    name: str
    """Name, or Message in AppTraces."""
    properties: dict[str, str]
    operation: str


@dataclass
class Ingestion:
    """The service on a free port of this machine, within `with`."""

    rows: list[Row] = field(default_factory=list[Row])
    texts: list[str] = field(default_factory=list[str])
    """The bodies, as they came."""

    @property
    def address(self) -> str:
        """For IngestionEndpoint in a connection string."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Ingestion:
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.ingestion = self
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def take(self, body: str) -> int:
        """Keep the envelopes of one request; how many."""
        self.texts.append(body)
        envelopes: list[Any] = json.loads(body)
        for envelope in envelopes:
            data = envelope["data"]["baseData"]
            metrics: list[Any] = data.get("metrics") or [{}]
            name = data.get("name") or data.get("message") or metrics[0].get("name") or ""
            table = TABLES[envelope["data"]["baseType"]]
            operation = envelope.get("tags", {}).get("ai.operation.id", "")
            self.rows.append(Row(table, str(name), data.get("properties") or {}, str(operation)))
        return len(envelopes)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    ingestion: Ingestion


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        taken = cast("_Server", self.server).ingestion.take(body.decode())
        said = json.dumps({"itemsReceived": taken, "itemsAccepted": taken, "errors": []}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""
