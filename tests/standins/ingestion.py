"""Application Insights' ingestion, as far as an exporter goes: takes envelopes in and keeps them."""

from __future__ import annotations

import gzip
import json
from dataclasses import dataclass, field
from typing import Any

from tests.standins.http import HttpServer, Request, Response

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
        return self._http.url

    def __enter__(self) -> Ingestion:
        self._http = HttpServer(self._answer).__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.__exit__()

    def _answer(self, request: Request) -> Response:
        compressed = request.headers.get("Content-Encoding") == "gzip"
        taken = self.take((gzip.decompress(request.body) if compressed else request.body).decode())
        said = json.dumps({"itemsReceived": taken, "itemsAccepted": taken, "errors": []}).encode()
        return Response(200, said, {"Content-Type": "application/json"})

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
