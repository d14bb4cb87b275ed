"""Where endpoints are kept, as the program sees it: one row per endpoint, read and written under its ETag.

The rows beside them are those of gateways, which only gateways write.
"""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Protocol

from pydantic import ValidationError

from gpulaunch.models.base import Stored
from gpulaunch.models.decisions import ScalingDecision
from gpulaunch.models.gateways import GATEWAY_AREA, GatewayReport
from gpulaunch.models.key_usage import USAGE_AREA, KeyUsage
from shared.domain.endpoint import ENDPOINT_SCHEMA, EndpointRecord
from shared.errors import StoreError, UnreadableRowError
from shared.storage import rows
from shared.storage.records import explain

AREA: Final = "endpoint"
DECISION_AREA: Final = "decisions"
MOST_DECISIONS: Final = 100
"""Kept of an endpoint, in one row: 350 characters each."""


@dataclass(frozen=True)
class VersionedEndpoint:
    """An endpoint and the ETag needed to update it."""

    record: EndpointRecord
    etag: str


@dataclass(frozen=True)
class UnreadableEndpoint:
    """An endpoint's row that this version cannot read; it is never written, and its replicas are left as they are."""

    name: str
    why: str


class EndpointStore(Protocol):
    """Endpoints of a workspace. Every method may raise StoreUnavailableError; then a write may have happened or not."""

    def create(self, record: EndpointRecord) -> str:
        """Insert an endpoint; return its ETag.

        Raises:
            AlreadyExistsError: There is one of that name; it may be this write's own work, whose answer was lost.
        """
        ...

    def load(self, name: str) -> VersionedEndpoint | None:
        """Return the endpoint, or None.

        Raises:
            UnreadableRowError: Its row cannot be read by this version.
        """
        ...

    def commit(self, before: VersionedEndpoint, record: EndpointRecord, decision: ScalingDecision | None = None) -> str:
        """Write a changed endpoint, and the decision that changed it, if it is still as `before`; return the ETag.

        Raises:
            StaleRecordError: Somebody else changed or removed it, or this very write, whose answer was lost.
        """
        ...

    def remove(self, before: VersionedEndpoint) -> None:
        """Delete an endpoint and its decisions, if it is still as `before`.

        Raises:
            StaleRecordError: As `commit`.
        """

    def decisions(self, name: str) -> list[ScalingDecision]:
        """Return the last 100 decisions about an endpoint's number of replicas, latest first."""
        ...

    def all(self) -> list[VersionedEndpoint | UnreadableEndpoint]:
        """Return all endpoints, by name."""
        ...

    def gateways(self) -> dict[str, GatewayReport | None]:
        """Return the last report of each gateway by its id; None: this version cannot read it."""
        ...

    def forget_gateways(self, before: datetime) -> None:
        """Delete the reports that were written before, unless their gateways write again meanwhile."""

    def key_usage(self, month: str) -> dict[str, KeyUsage]:
        """Return what keys have used in a month, by the key's id; without what this version cannot read."""
        ...


def endpoint_key(name: str) -> str:
    """Row key of an endpoint."""
    return f"{AREA}|{name}"


class Decisions(Stored):
    """The document of an endpoint's decisions, latest first."""

    decisions: list[ScalingDecision] = []


def decisions_key(name: str) -> str:
    """Row key of an endpoint's decisions."""
    return f"{DECISION_AREA}|{name}"


def decisions_row(partition: str, name: str, decisions: Sequence[ScalingDecision]) -> rows.TableRow:
    """The row of an endpoint's latest decisions, of which as many are kept as there is room for."""
    return rows.row_of(partition, decisions_key(name), Decisions(decisions=list(decisions[:MOST_DECISIONS])))


def read_decisions(row: Mapping[str, Any]) -> list[ScalingDecision]:
    """The decisions of a row; none if this version cannot read them: they tell of the past, and decide nothing."""
    try:
        return Decisions.model_validate_json(rows.document(row)).decisions
    except ValidationError:
        return []


def endpoint_range() -> rows.KeyRange:
    return rows.KeyRange(first=f"{AREA}|", last=f"{AREA}}}")


def gateway_range() -> rows.KeyRange:
    return rows.KeyRange(first=f"{GATEWAY_AREA}|", last=f"{GATEWAY_AREA}}}")


def usage_range(month: str) -> rows.KeyRange:
    return rows.KeyRange(first=f"{USAGE_AREA}|{month}|", last=f"{USAGE_AREA}|{month}}}")


def read_usage(found: Iterable[Mapping[str, Any]]) -> dict[str, KeyUsage]:
    """What the rows of a month say, by the key's id; without those that cannot be read."""
    usages: dict[str, KeyUsage] = {}
    for row in found:
        with suppress(ValidationError):
            usages[str(row["RowKey"]).rpartition("|")[2]] = KeyUsage.model_validate_json(rows.document(row))
    return usages


def read_gateway(row: Mapping[str, Any]) -> tuple[str, GatewayReport | None]:
    """A gateway's id and its report, if it can be read."""
    gateway_id = str(row["RowKey"]).partition("|")[2]
    try:
        return gateway_id, GatewayReport.model_validate_json(rows.document(row))
    except ValidationError:
        return gateway_id, None


def checked_endpoint(partition: str, record: EndpointRecord) -> rows.TableRow:
    """The row of an endpoint, read again before it is written: what could not be read would be lost.

    Raises:
        StoreError: No row can hold it, or it would not be read as it is.
    """
    if record.schema_version > ENDPOINT_SCHEMA:
        raise StoreError(f"{record.name} is of a later version's schema {record.schema_version}; not written")
    row = rows.row_of(partition, endpoint_key(record.name), record)
    try:
        EndpointRecord.model_validate_json(rows.document(row), strict=True)
    except ValidationError as error:
        raise StoreError(f"endpoint {record.name} could not be read again; not written: {error}") from error
    return row


def read_endpoint(row: Mapping[str, Any], etag: str) -> VersionedEndpoint | UnreadableEndpoint:
    """The endpoint of a row, or why it cannot be read."""
    name = str(row["RowKey"]).partition("|")[2]
    try:
        record = EndpointRecord.model_validate_json(rows.document(row))
    except ValidationError as error:
        return UnreadableEndpoint(name, explain(error))
    if record.schema_version > ENDPOINT_SCHEMA:
        why = f"schema_version {record.schema_version} is of a later version; this one reads up to {ENDPOINT_SCHEMA}"
        return UnreadableEndpoint(name, why)
    if record.name != name:
        return UnreadableEndpoint(name, f"the row holds the endpoint {record.name}")
    return VersionedEndpoint(record, etag)


def readable_endpoint(found: VersionedEndpoint | UnreadableEndpoint) -> VersionedEndpoint:
    """The endpoint that was read.

    Raises:
        UnreadableRowError: It cannot be read.
    """
    if isinstance(found, UnreadableEndpoint):
        raise UnreadableRowError(f"The endpoint {found.name} cannot be read: {found.why}.")
    return found
