"""Records to rows and back: refuses to write what makes no sense, and reads whatever the rows hold.

What no lifecycle asks for is a fault of the program, and is never written. What this version cannot read is yielded as
such in its place.
"""

import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, TypeVar, cast

from pydantic import BaseModel, ValidationError

from gpulaunch.models.instances import EventType, Phase
from shared.domain.instance import SCHEMA, AttemptState, Event, InstanceRecord
from shared.domain.money import Reservation
from shared.errors import StoreError, UnreadableRowError
from shared.storage import rows
from shared.storage.base import Booking, Unreadable, Versioned

log = logging.getLogger("gpulaunch.storage")

CLOSED: Final = "closed"
"""The property of a row that was closed unread; says why it could not be read."""
UNREADABLE_EVENT: Final = "unreadable"
"""The type of what stands in the place of an event that cannot be read."""
_LONGEST: Final = 300
"""Characters of a reason: an error lists as many problems as a damaged document has."""

M = TypeVar("M", bound=BaseModel)


def check_write(
    before: InstanceRecord | None, record: InstanceRecord, events: Sequence[Event], booking: Booking
) -> None:
    """Refuse a creation (`before` is None) or a change that no lifecycle asks for.

    Raises:
        ValueError: It makes no sense, or is more than a transaction holds.
    """
    if before is not None and before.instance_id != record.instance_id:
        raise ValueError("a commit is about one instance")
    if before is not None and before.ended and not record.ended:
        raise ValueError("an ended instance does not come back to life")
    first, numbers = before.event_count if before else 0, [event.sequence for event in events]
    if numbers != list(range(first, record.event_count)):
        raise ValueError(f"events {numbers} do not lead from {first} to the record's count of {record.event_count}")
    count = len(events) + len(booking.costs)
    if count > rows.MAX_EVENTS:
        raise ValueError(f"{count} events and costs in one write; at most {rows.MAX_EVENTS}")


def checked_row(partition: str, record: InstanceRecord, writer: str) -> rows.TableRow:
    """The row of a record, read again before it is written: what could not be read would be lost.

    Raises:
        StoreError: No row can hold the record, or it would not be read as it is.
    """
    if record.schema_version > SCHEMA:
        raise StoreError(f"{record.instance_id} is of a later version's schema {record.schema_version}; not written")
    row = rows.record_row(partition, record, writer)
    try:
        # Strict: nothing is converted, so what is read is what was written.
        InstanceRecord.model_validate_json(rows.document(row), strict=True)
    except ValidationError as error:
        raise StoreError(f"{record.instance_id} could not be read again; not written: {error}") from error
    return row


def read_record(row: Mapping[str, Any], etag: str) -> Versioned | Unreadable:
    """The record of a row, or what can be said about a row that cannot be read."""
    area, _, inverted = str(row["RowKey"]).partition("|")
    instance_id, ended = rows.upright(inverted), area == rows.DONE
    closed = row.get(CLOSED)
    if closed is None:
        try:
            record = InstanceRecord.model_validate_json(rows.document(row))
        except ValidationError as error:
            why = explain(error)
        else:
            why = _misplaced(record, instance_id, ended)
            if why is None:
                return Versioned(record, etag)
    else:
        why = f"closed unread: {closed}"
    return _rescued(row, instance_id, ended=ended, etag=etag, why=why)


def read_event(row: Mapping[str, Any], at: datetime | None) -> Event:
    """The event of a row; in the place of one that cannot be read, one of type `unreadable` that says why.

    `at`: when the row was written, where storage knows.
    """
    try:
        return Event.model_validate_json(rows.document(row))
    except ValidationError as error:
        return Event(
            sequence=int(str(row["RowKey"]).rpartition("|")[2]),
            at=at or datetime.fromtimestamp(0, UTC),
            type=EventType(UNREADABLE_EVENT),
            phase=Phase(UNREADABLE_EVENT),
            message=f"This event cannot be read by this version: {explain(error)}",
        )


def read(kind: type[M], row: Mapping[str, Any]) -> M:
    """The document of a row.

    Raises:
        UnreadableRowError: this version cannot read it.
    """
    try:
        return kind.model_validate_json(rows.document(row))
    except ValidationError as error:
        raise UnreadableRowError(f"{row['RowKey']} cannot be read: {explain(error)}") from error


def read_all(kind: type[M], found: Iterable[Mapping[str, Any]]) -> list[M]:
    """The documents of rows; those that cannot be read are left out and logged."""
    read_ones: list[M] = []
    for row in found:
        try:
            read_ones.append(read(kind, row))
        except UnreadableRowError as error:
            log.error("%s", error, extra={"event": "unreadable"})  # noqa: TRY400 - the error says all there is
    return read_ones


def explain(error: ValidationError) -> str:
    """Where a document is wrong and how, without its values."""
    first, *others = error.errors(include_url=False, include_input=False, include_context=False)
    where = ".".join(str(part) for part in first["loc"])
    more = f" (and {len(others)} more)" if others else ""
    return f"{where}: {first['msg']}{more}".removeprefix(": ")[:_LONGEST]


def _misplaced(record: InstanceRecord, instance_id: str, ended: bool) -> str | None:
    """Why a record that can be read is not to be acted on; None: all is well."""
    if record.schema_version > SCHEMA:
        return _later(record.schema_version)
    if record.instance_id != instance_id:
        return f"the row holds the record of {record.instance_id}"
    if record.ended != ended:
        return f"its phase is {record.phase.value}, and its row is among the {'ended' if ended else 'live'} ones"
    return None


def _later(schema: int) -> str:
    return f"schema_version {schema} is of a later version; this one reads up to {SCHEMA}"


def _rescued(row: Mapping[str, Any], instance_id: str, *, ended: bool, etag: str, why: str) -> Unreadable:
    document = _object(row)
    schema = document.get("schema_version")
    if isinstance(schema, int) and schema > SCHEMA and CLOSED not in row:
        why = _later(schema)
    return Unreadable(
        instance_id=instance_id,
        why=why,
        etag=etag,
        ended=ended,
        phase=_text(row.get("phase")),
        mode=_text(row.get("mode")),
        provider=_text(row.get("provider")),
        clusters=_clusters(document.get("attempts")),
        reservation=_reservation(document.get("reservation")),
    )


def _object(row: Mapping[str, Any]) -> dict[str, Any]:
    try:
        found: object = json.loads(rows.document(row))
    except (ValueError, RecursionError):
        return {}
    return cast("dict[str, Any]", found) if isinstance(found, dict) else {}


def _clusters(attempts: object) -> tuple[str, ...]:
    given = cast("list[object]", attempts) if isinstance(attempts, list) else []
    found = [cast("dict[str, object]", one) for one in given if isinstance(one, dict)]
    names = [one.get("cluster_name") for one in found if one.get("state") != AttemptState.GONE]
    return tuple(name for name in names if isinstance(name, str))


def _reservation(document: object) -> Reservation | None:
    try:
        return Reservation.model_validate_json(json.dumps(document))
    except ValidationError:
        return None


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
