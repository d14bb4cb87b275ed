"""Assertions at the store's borders: what no lifecycle asks for is a fault of the program, and is never written."""

from collections.abc import Sequence

from pydantic import ValidationError

from shared.domain.instance import SCHEMA, Event, InstanceRecord
from shared.errors import StoreError
from shared.storage import rows
from shared.storage.base import Booking


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
