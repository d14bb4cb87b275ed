"""Assertions at the store's borders: what no lifecycle asks for is a fault of the program, and is never written."""

from collections.abc import Sequence

from shared.domain.event import Event
from shared.domain.instance import InstanceRecord
from shared.storage import rows
from shared.storage.base import Booking


def check_commit(before: InstanceRecord, record: InstanceRecord, events: Sequence[Event], booking: Booking) -> None:
    """Refuse a commit that no lifecycle asks for. Raises ValueError."""
    if before.instance_id != record.instance_id:
        raise ValueError("a commit is about one instance")
    if before.ended and not record.ended:
        raise ValueError("an ended instance does not come back to life")
    check_size(events, booking)


def check_size(events: Sequence[Event], booking: Booking) -> None:
    """Refuse more events and costs than a transaction holds. Raises ValueError."""
    count = len(events) + len(booking.costs)
    if count > rows.MAX_EVENTS:
        raise ValueError(f"{count} events and costs in one write; at most {rows.MAX_EVENTS}")
