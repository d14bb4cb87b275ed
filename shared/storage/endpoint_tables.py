"""Endpoints in Azure Table Storage, in the partition of the workspace's records; gateways' reports in another table.

Each write is a transaction under the ETag of the endpoint's row. A repeated write that meets its own work is stale, as
if another writer had been first: whoever writes endpoints reads again and finds what is asked for done.
"""

from collections.abc import Iterable
from contextlib import suppress
from datetime import datetime
from typing import Any, Final

from azure.core import MatchConditions
from azure.core.exceptions import AzureError, ResourceModifiedError, ResourceNotFoundError
from azure.data.tables import TableClient, UpdateMode

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
    endpoint_range,
    gateway_range,
    read_decisions,
    read_endpoint,
    read_gateway,
    read_usage,
    readable_endpoint,
    usage_range,
)
from shared.table_errors import REPEATED, code_of, translate, translated

_CONFLICTS: Final = frozenset({"EntityAlreadyExists"})
_STALE: Final = frozenset({"UpdateConditionNotSatisfied", "ConditionNotMet", "ResourceNotFound", "EntityNotFound"})


class TableEndpointStore:
    """The endpoints of one workspace in one table. Safe to use from several threads."""

    def __init__(self, table: TableClient, workspace: str, reports: TableClient) -> None:
        self._table: Any = table  # the SDK types half of its methods
        self._reports: Any = reports
        self._partition = workspace

    def create(self, record: EndpointRecord) -> str:
        return self._write("create", record.name, ("create", checked_endpoint(self._partition, record)))

    def load(self, name: str) -> VersionedEndpoint | None:
        try:
            entity = self._table.get_entity(self._partition, endpoint_key(name))
        except ResourceNotFoundError as error:
            if code_of(error) not in _STALE:  # a missing table says nothing about the row
                raise translate(error, "load an endpoint") from error
            return None
        except AzureError as error:
            raise translate(error, "load an endpoint") from error
        return readable_endpoint(read_endpoint(entity, str(entity.metadata["etag"])))

    def commit(self, before: VersionedEndpoint, record: EndpointRecord, decision: ScalingDecision | None = None) -> str:
        row = checked_endpoint(self._partition, record)
        operations: list[tuple[Any, ...]] = [("update", row, {"mode": UpdateMode.REPLACE, **_as(before)})]
        if decision is not None:
            # Read before, but written with the endpoint's row and under its ETag: no other decision comes in between.
            decisions = decisions_row(self._partition, record.name, [decision, *self.decisions(record.name)])
            operations.append(("upsert", decisions, {"mode": UpdateMode.REPLACE}))
        return self._write("commit", record.name, *operations)

    def remove(self, before: VersionedEndpoint) -> None:
        name = before.record.name
        # The decisions first: nothing would find them without the endpoint.
        with translated(f"forget the decisions of {name}"), suppress(ResourceNotFoundError):
            self._table.delete_entity(self._partition, decisions_key(name))
        row = {"PartitionKey": self._partition, "RowKey": endpoint_key(name)}
        self._write("remove", name, ("delete", row, _as(before)))

    def decisions(self, name: str) -> list[ScalingDecision]:
        with translated(f"read the decisions of {name}"):
            try:
                return read_decisions(self._table.get_entity(self._partition, decisions_key(name)))
            except ResourceNotFoundError:
                return []

    def all(self) -> list[VersionedEndpoint | UnreadableEndpoint]:
        with translated("read the endpoints"):
            return [
                read_endpoint(entity, str(entity.metadata["etag"]))
                for entity in self._query(self._table, endpoint_range())
            ]

    def gateways(self) -> dict[str, GatewayReport | None]:
        with translated("read the gateways' reports"):
            return dict(read_gateway(entity) for entity in self._query(self._reports, gateway_range()))

    def forget_gateways(self, before: datetime) -> None:
        with translated("forget gateways"):
            for entity in self._query(self._reports, gateway_range()):
                report = read_gateway(entity)[1]
                if report is None or report.at >= before:
                    continue
                unchanged = {"etag": entity.metadata["etag"], "match_condition": MatchConditions.IfNotModified}
                with suppress(ResourceModifiedError, ResourceNotFoundError):
                    self._reports.delete_entity(self._partition, entity["RowKey"], **unchanged)

    def key_usage(self, month: str) -> dict[str, KeyUsage]:
        with translated("read what keys have used"):
            return read_usage(self._query(self._reports, usage_range(month)))

    def _query(self, table: Any, keys: rows.KeyRange) -> Iterable[Any]:
        parameters = {"partition": self._partition, "first": keys.first, "last": keys.last}
        return table.query_entities(f"PartitionKey eq @partition and {keys.filter()}", parameters=parameters)

    def _write(self, doing: str, name: str, *operations: tuple[Any, ...]) -> str:
        """Write the endpoint's row, and others with it; return its ETag."""
        try:
            # a transaction even of one: the SDK's plain calls raise errors without the service's code
            return str(self._table.submit_transaction(operations, retry_on_methods=REPEATED)[0].get("etag", ""))
        except AzureError as error:
            if code_of(error) in _CONFLICTS:
                raise AlreadyExistsError(f"there is an endpoint {name} already") from error
            if code_of(error) in _STALE:
                raise StaleRecordError(f"endpoint {name} was changed by somebody else") from error
            raise translate(error, f"{doing} endpoint {name}") from error


def _as(before: VersionedEndpoint) -> dict[str, Any]:
    return {"etag": before.etag, "match_condition": MatchConditions.IfNotModified}
