"""Where records, events and messages are kept, as the program sees it.

One table holds everything of a workspace in one partition, so that a record, its events, the idempotency key and the
budget change together or not at all. Live and ended records have row keys of their own ranges: whatever walks over the
live ones costs the same however many have ended.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Protocol

from pydantic import BaseModel

from gpulaunch.models.base import Stored as StoredModel
from gpulaunch.models.base import UtcTime
from shared.domain.event import Event
from shared.domain.instance import InstanceRecord
from shared.domain.money import CostEntry, Ledger


@dataclass(frozen=True)
class Versioned:
    """A record as read, with the mark that lets it be changed."""

    record: InstanceRecord
    etag: str


class IdempotencyEntry(StoredModel):
    """What was answered to a launch with an Idempotency-Key."""

    key_hash: str
    """SHA-256 of the key, hexadecimal."""
    body_hash: str
    """SHA-256 of the request's body in canonical JSON, hexadecimal."""
    instance_id: str
    answer: str
    """The answer's body, JSON."""
    created_at: UtcTime


class Marker(StoredModel):
    """Something small to remember that belongs to no instance: an orphan seen, an offer that failed."""

    kind: str
    """One of the kinds below; notes are listed by it."""
    key: str
    """What the note is about; one note for each kind and key."""
    at: UtcTime
    """When it was first written down."""
    until: UtcTime | None = None
    """From when on it no longer counts; None: until it is dropped."""
    text: str = ""


@dataclass(frozen=True)
class VersionedLedger:
    """The ledger as read, with the mark that lets it be changed."""

    ledger: Ledger
    etag: str | None
    """None: nothing was ever written to it."""


@dataclass(frozen=True)
class Booking:
    """What is booked in the same write as a record, or alone."""

    ledger: Ledger | None = None
    """The ledger as it is to stand; None: it is not touched."""
    ledger_etag: str | None = None
    """The ETag of the ledger that it follows from, as VersionedLedger has it."""
    costs: tuple[CostEntry, ...] = ()


NO_BOOKING = Booking()

ORPHAN = "orphan"
"""Notes about clusters that no live record knows; the key is the cluster's name."""
REFUSED_OFFER = "refused-offer"
"""Notes about offers that failed lately; the key is the offer's."""
PRICES = "prices"
"""SkyPilot's live price lists, packed; the key is the provider."""


@dataclass(frozen=True)
class InstanceFilter:
    """Which records a listing wants; None: any."""

    phase: str | None = None
    provider: str | None = None
    label: tuple[str, str | None] | None = None
    """A label's key and, unless None, its value."""
    live: bool | None = None


@dataclass(frozen=True)
class RecordPage:
    """A page of a listing, newest first."""

    records: list[Versioned]
    next_token: str | None
    """Opaque; None at the end."""


@dataclass(frozen=True)
class QueuedMessage:
    """A message taken from a queue outside the host's trigger."""

    queue: str
    id: str
    pop_receipt: str
    dequeue_count: int
    body: bytes


class InstanceStore(Protocol):
    """Records and their events. Every method may raise StoreUnavailableError."""

    def create(
        self,
        record: InstanceRecord,
        events: Sequence[Event],
        idempotency: IdempotencyEntry | None,
        booking: Booking = NO_BOOKING,
    ) -> str:
        """Insert all or nothing; the record's ETag. Raises AlreadyExistsError, StaleLedgerError."""
        ...

    def idempotency(self, key_hash: str) -> IdempotencyEntry | None:
        """What was answered to that key."""
        ...

    def load(self, instance_id: str) -> Versioned | None:
        """The record, live or ended; None when there is none."""
        ...

    def commit(
        self, before: Versioned, record: InstanceRecord, events: Sequence[Event], booking: Booking = NO_BOOKING
    ) -> str:
        """Write record, new events and booking, all or nothing, if nobody changed the record since; the new ETag.

        A record that ended moves out of the live range in the same transaction. Raises StaleRecordError;
        StaleLedgerError when the record is as it was, and the ledger is not.
        """
        ...

    def ledger(self) -> VersionedLedger:
        """The workspace's ledger; an empty one where there is none."""
        ...

    def book(self, booking: Booking) -> None:
        """Write the ledger alone, if nobody changed it since. Raises StaleLedgerError."""
        ...

    def costs(self, first: date) -> list[CostEntry]:
        """What the attempts have cost that ended on that day, UTC, or later; oldest day first."""
        ...

    def events(self, instance_id: str, after: int = -1, limit: int = 1000) -> list[Event]:
        """Events with a sequence above `after`, in order, at most `limit`."""
        ...

    def live(self, newest: str | None = None, oldest: str | None = None) -> Iterator[Versioned]:
        """Live records, newest first; with bounds, those from `newest` down to `oldest`, both included."""
        ...

    def page(self, wanted: InstanceFilter, size: int, token: str | None) -> RecordPage:
        """A page of records, live and ended in one order, newest first. Raises ValueError on a foreign token."""
        ...

    def markers(self, kind: str) -> list[Marker]:
        """All notes of a kind."""
        ...

    def put_marker(self, note: Marker) -> None:
        """Write a note down, in place of the one about the same."""
        ...

    def drop_marker(self, kind: str, key: str) -> None:
        """Forget a note; one that is gone already is fine."""
        ...

    def ping(self) -> None:
        """One cheap read. Raises StoreUnavailableError."""
        ...


class Queues(Protocol):
    """The queues, from the sender's side, and the poison queues from the reader's. All raise StoreUnavailableError."""

    def send(self, queue: str, message: BaseModel, delay_seconds: float = 0.0) -> None:
        """Put a message, visible after `delay_seconds` (0 to 7 days)."""
        ...

    def bury(self, queue: str, body: bytes) -> None:
        """Put a message that can't be understood into the queue's poison queue, as it came."""
        ...

    def poisoned(self, queue: str) -> list[QueuedMessage]:
        """Up to 32 messages of the queue's poison queue, hidden from others for a minute while they are looked at."""
        ...

    def forget(self, message: QueuedMessage) -> None:
        """Delete a message taken by `poisoned`; one that is gone already is fine."""
        ...
