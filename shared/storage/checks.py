"""Assertions at the store's borders: what no lifecycle asks for is a fault of the program, and is never written."""

from collections.abc import Sequence
from typing import Any

from pydantic import ValidationError

from shared.domain.instance import SCHEMA, Event, InstanceRecord
from shared.errors import StoreError
from shared.storage import rows
from shared.storage.base import Booking


def check_create(record: InstanceRecord, events: Sequence[Event], booking: Booking) -> None:
    """Refuse a creation that makes no sense. Raises ValueError."""
    _check_events(0, record, events)
    check_size(events, booking)


def check_commit(before: InstanceRecord, record: InstanceRecord, events: Sequence[Event], booking: Booking) -> None:
    """Refuse a commit that no lifecycle asks for. Raises ValueError."""
    if before.instance_id != record.instance_id:
        raise ValueError("a commit is about one instance")
    if before.ended and not record.ended:
        raise ValueError("an ended instance does not come back to life")
    _check_events(before.event_count, record, events)
    check_size(events, booking)


def check_size(events: Sequence[Event], booking: Booking) -> None:
    """Refuse more events and costs than a transaction holds. Raises ValueError."""
    count = len(events) + len(booking.costs)
    if count > rows.MAX_EVENTS:
        raise ValueError(f"{count} events and costs in one write; at most {rows.MAX_EVENTS}")


def checked_row(partition: str, record: InstanceRecord, writer: str) -> rows.TableRow:
    """The row of a record, read again before it is written: what could not be read would be lost.

    Raises:
        StoreError: no row can hold the record, or it would not be read as it is.
    """
    if record.schema_version > SCHEMA:
        raise StoreError(f"{record.instance_id} is of a later version's schema {record.schema_version}; not written")
    row: dict[str, Any] = rows.record_row(partition, record, writer)
    text = rows.document(row)
    try:
        same = InstanceRecord.model_validate_json(text).model_dump_json() == text
    except ValidationError as error:
        raise StoreError(f"{record.instance_id} could not be read again; not written: {error}") from error
    if not same:
        raise StoreError(f"{record.instance_id} would not be read as it is; not written")
    return row


def _check_events(first: int, record: InstanceRecord, events: Sequence[Event]) -> None:
    numbers = [event.sequence for event in events]
    if numbers != list(range(first, record.event_count)):
        raise ValueError(f"events {numbers} do not lead from {first} to the record's count of {record.event_count}")
