"""An EndpointStore in memory, with the semantics of the table: ETags, and rows as the table keeps them."""

import threading
from datetime import datetime

from gpulaunch.models.decisions import ScalingDecision
from gpulaunch.models.gateways import GatewayReport
from gpulaunch.models.key_usage import KeyUsage
from shared.domain.endpoint import EndpointRecord
from shared.errors import AlreadyExistsError, StaleRecordError
from shared.storage import rows
from shared.storage.endpoints import (
    UnreadableEndpoint,
    VersionedEndpoint,
    checked_endpoint,
    decisions_key,
    decisions_row,
    endpoint_key,
    read_decisions,
    read_endpoint,
    read_gateway,
    read_usage,
    readable_endpoint,
)
from tests.twins.faults import Calls


class MemoryEndpointStore:
    def __init__(self) -> None:
        self.calls = Calls()
        self.rows: dict[str, tuple[str, rows.TableRow]] = {}
        self._writes = 0
        self._lock = threading.RLock()

    def create(self, record: EndpointRecord) -> str:
        row = checked_endpoint("", record)
        with self.calls.call("create"), self._lock:
            if row["RowKey"] in self.rows:
                raise AlreadyExistsError(f"there is an endpoint {record.name} already")
            return self._put(row)

    def load(self, name: str) -> VersionedEndpoint | None:
        with self.calls.call("load"), self._lock:
            found = self.rows.get(endpoint_key(name))
            return None if found is None else readable_endpoint(read_endpoint(found[1], found[0]))

    def commit(self, before: VersionedEndpoint, record: EndpointRecord, decision: ScalingDecision | None = None) -> str:
        row = checked_endpoint("", record)
        with self.calls.call("commit"), self._lock:
            self._check(before)
            if decision is not None:
                self._put(decisions_row("", record.name, [decision, *self.decisions(record.name)]))
            return self._put(row)

    def remove(self, before: VersionedEndpoint) -> None:
        with self.calls.call("remove"), self._lock:
            self._check(before)
            del self.rows[endpoint_key(before.record.name)]
            self.rows.pop(decisions_key(before.record.name), None)

    def decisions(self, name: str) -> list[ScalingDecision]:
        with self.calls.call("decisions"), self._lock:
            found = self.rows.get(decisions_key(name))
            return [] if found is None else read_decisions(found[1])

    def all(self) -> list[VersionedEndpoint | UnreadableEndpoint]:
        with self.calls.call("all"), self._lock:
            found = sorted(self.rows.items())
            return [read_endpoint(row, etag) for key, (etag, row) in found if key.startswith(endpoint_key(""))]

    def gateways(self) -> dict[str, GatewayReport | None]:
        with self.calls.call("gateways"), self._lock:
            return dict(read_gateway(row) for key, (_, row) in sorted(self.rows.items()) if key.startswith("gateway|"))

    def forget_gateways(self, before: datetime) -> None:
        with self.calls.call("forget_gateways"), self._lock:
            for gateway_id, report in self.gateways().items():
                if report is not None and report.at < before:
                    del self.rows[f"gateway|{gateway_id}"]

    def key_usage(self, month: str) -> dict[str, KeyUsage]:
        with self.calls.call("key_usage"), self._lock:
            return read_usage(row for key, (_, row) in self.rows.items() if key.startswith(f"usage|{month}|"))

    def _check(self, before: VersionedEndpoint) -> None:
        name = before.record.name
        if self.rows.get(endpoint_key(name), ("", {}))[0] != before.etag:
            raise StaleRecordError(f"endpoint {name} was changed by somebody else")

    def _put(self, row: rows.TableRow) -> str:
        self._writes += 1
        etag = f'W/"{self._writes}"'
        self.rows[row["RowKey"]] = (etag, row)
        return etag
