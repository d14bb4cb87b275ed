"""Where records, events and messages are kept, as the program sees it.

One table holds everything of a workspace in one partition, so that a record, its events, the idempotency key and the
budget change together or not at all. Live and ended records have row keys of their own ranges: whatever walks over the
live ones costs the same however many have ended.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Protocol

from pydantic import BaseModel

from gpulaunch.models.base import Kept, UtcTime
from gpulaunch.models.instances import Phase
from shared.domain.instance import Event, InstanceRecord, cluster_prefix
from shared.domain.money import CostEntry, Ledger, Reservation
from shared.errors import UnreadableRowError


@dataclass(frozen=True)
class Versioned:
    """A record and the ETag needed to update it."""

    record: InstanceRecord
    etag: str

    @property
    def instance_id(self) -> str:
        return self.record.instance_id


@dataclass(frozen=True, kw_only=True)
class Unreadable:
    """A record's row that this version cannot read: damaged, or written by a later version.

    It is never written to, save by `InstanceStore.close_unreadable`, and its nodes are never garbage: `owns` knows them
    by their names, however little of the row makes sense.
    """

    instance_id: str
    why: str
    """For people; where in the document and what, without its values."""
    etag: str
    ended: bool
    """Its row is among those of ended instances."""
    phase: str | None
    """As stored, so are `mode` and `provider`; None: the row does not say."""
    mode: str | None
    provider: str | None
    clusters: tuple[str, ...]
    """Names of the clusters of its attempts, save of those that are deleted; empty when the document is not JSON."""
    reservation: Reservation | None
    """To be settled when the row is closed, where it can be read."""

    def owns(self, cluster_name: str) -> bool:
        """Whether a cluster of that name was created for this instance, by its name alone."""
        return cluster_name.startswith(cluster_prefix(self.instance_id))


def readable(found: Iterable[Versioned | Unreadable]) -> Iterator[Versioned]:
    """Leave out the unreadable, which the sweep counts and reports."""
    return (one for one in found if isinstance(one, Versioned))


class UnreadableRecordError(UnreadableRowError):
    """The row of the record that was asked for cannot be read."""

    def __init__(self, unreadable: Unreadable) -> None:
        super().__init__(f"{unreadable.instance_id} cannot be read: {unreadable.why}")
        self.unreadable = unreadable


class IdempotencyEntry(Kept):
    """What was answered to a launch with an Idempotency-Key."""

    key_hash: str
    """SHA-256 of the key, hexadecimal."""
    body_hash: str
    """SHA-256 of the request's body in canonical JSON, hexadecimal."""
    instance_id: str
    answer: str
    """The answer's body, JSON."""
    created_at: UtcTime
    bare_hash: str | None = None
    """SHA-256 of the key without its caller. The entry is stored under it as well, for versions that look there alone:
    during an update, and after a roll-back, they get the repetitions of launches that this one has accepted."""

    @property
    def rows(self) -> "tuple[IdempotencyEntry, ...]":
        """The entry under each of its hashes."""
        return (self,) if self.bare_hash is None else (self, self.model_copy(update={"key_hash": self.bare_hash}))


class Marker(Kept):
    """A small fact beside the records, one for each kind and key: an orphan seen, an offer that failed."""

    kind: str
    key: str
    at: UtcTime
    until: UtcTime | None = None
    """When it expires; None: never."""
    text: str = ""


@dataclass(frozen=True)
class VersionedLedger:
    """The ledger and the ETag needed to update it; None: it was never written."""

    ledger: Ledger
    etag: str | None


@dataclass(frozen=True)
class Booking:
    """What is booked in the same write as a record, or alone."""

    ledger: Ledger | None = None
    """The new ledger; None: it is not changed."""
    ledger_etag: str | None = None
    """Of the ledger that it follows from, as in VersionedLedger."""
    costs: tuple[CostEntry, ...] = ()


NO_BOOKING = Booking()

EXPIRY_PAGES = 5
"""Pages of events that one call looks through for some that expire: few instances live beyond their launch's limit."""

ORPHAN = "orphan"
"""Clusters that no live record knows; the key is the cluster's name."""
UNRECORDED_CALLER = "unrecorded-caller"
"""Nodes that proved themselves by their token and have no record; the key is the cluster's name."""
REFUSED_OFFER = "refused-offer"
"""Offers that failed lately; the key is the offer's."""
DEPLOYMENT = "deployment"
"""The deployment's identity; its key is `identity`."""
PRICES = "prices"
"""SkyPilot's live price lists, packed; the key is the provider."""


@dataclass(frozen=True, kw_only=True)
class InstanceFilter:
    """Which records a listing wants; None: any."""

    phase: Phase | None = None
    provider: str | None = None
    label: tuple[str, str | None] | None = None
    """A label's key and, unless None, its value."""
    live: bool | None = None


@dataclass(frozen=True)
class RecordPage:
    """A page of a listing, newest first."""

    records: list[Versioned | Unreadable]
    next_token: str | None
    """Opaque; None at the end."""


@dataclass(frozen=True, kw_only=True)
class QueuedMessage:
    """A message that was received outside the host's trigger."""

    queue: str
    id: str
    pop_receipt: str
    dequeue_count: int
    body: bytes


class InstanceStore(Protocol):
    """Records and their events.

    A write happens as a whole or not at all. Every method may raise StoreUnavailableError; then a write may have
    happened or not. Rows that this version cannot read never end a listing, and never surface as pydantic's
    ValidationError: a record comes as `Unreadable`, an event as one of type `unreadable` in its place, a marker or a
    cost entry is left out and logged, and a ledger or an idempotency entry raises UnreadableRowError.
    """

    def create(
        self,
        record: InstanceRecord,
        events: Sequence[Event],
        idempotency: IdempotencyEntry | None,
        booking: Booking = NO_BOOKING,
    ) -> str:
        """Insert a record with its first events; return its ETag.

        Raises:
            AlreadyExistsError: the record or the idempotency key exists.
            StaleLedgerError: somebody else changed the ledger.
            StoreError: no row can hold the record.
        """
        ...

    def idempotency(self, key_hash: str) -> IdempotencyEntry | None:
        """Return the entry of a key by its hash."""
        ...

    def expire_idempotency(self, before: datetime, most: int) -> int:
        """Delete entries created before a time, at most `most` (1 to 1000), found in one query; return how many."""
        ...

    def expire_events(self, launched: datetime, ended: datetime, most: int) -> int:
        """Delete events of instances that were launched before one time and ended before another; return how many.

        At most `most` (1 to 1000) are deleted in one call, which reads EXPIRY_PAGES times as many keys at most. Those
        of instances that live, or whose record cannot be read, stay.
        """
        ...

    def load(self, instance_id: str) -> Versioned | None:
        """Return the record, live or ended, or None.

        Raises:
            UnreadableRecordError: its row cannot be read by this version.
        """
        ...

    def commit(
        self, before: Versioned, record: InstanceRecord, events: Sequence[Event], booking: Booking = NO_BOOKING
    ) -> str:
        """Write a changed record, its new events and a booking, if the record is still as `before`; return the ETag.

        A record that ended moves out of the live range in the same transaction.

        Raises:
            StaleRecordError: somebody else changed the record.
            StaleLedgerError: the record is unchanged, but somebody else changed the ledger.
            AlreadyExistsError: the record is unchanged, but an event of that number exists.
            StoreError: no row can hold the record.
            ValueError: no lifecycle asks for such a change; see `shared.storage.records`.
        """
        ...

    def close_unreadable(self, unreadable: Unreadable, booking: Booking = NO_BOOKING) -> None:
        """Move an unreadable row to the ended ones, as it is and marked, if it is still the one that was read.

        For an instance that a user terminates, once its nodes are deleted. The document is kept to the letter, and
        read as `Unreadable` from then on by every version, since its phase is no longer true. A row that has ended
        stays as it is.

        Raises:
            StaleRecordError: somebody changed the row, or removed it.
            StaleLedgerError: the row is unchanged, but somebody else changed the ledger.
        """

    def ledger(self) -> VersionedLedger:
        """Return the workspace's ledger, empty if it was never written."""
        ...

    def book(self, booking: Booking) -> None:
        """Write the ledger alone.

        Raises:
            StaleLedgerError: somebody else changed it; also when a repeated write met its own work.
        """

    def costs(self, first: date) -> list[CostEntry]:
        """Return the costs of attempts that ended on a day, UTC, or later; oldest first."""
        ...

    def events(self, instance_id: str, after: int = ..., limit: int = ...) -> list[Event]:
        """Return events with a sequence above `after` (all), in order, at most `limit` (1000)."""
        ...

    def live(self, newest: str | None = None, oldest: str | None = None) -> Iterator[Versioned | Unreadable]:
        """Walk over the live records, newest first; with bounds, from `newest` down to `oldest`, both included.

        Raises:
            ValueError: a bound is not an instance id.
        """
        ...

    def page(self, wanted: InstanceFilter, size: int, token: str | None) -> RecordPage:
        """Return a page of records (1 to 1000), live and ended in one order, newest first.

        Raises:
            ForeignTokenError: the token is not one that a page returned.
            ValueError: the size is out of range.
        """
        ...

    def markers(self, kind: str) -> list[Marker]:
        """Return all markers of a kind."""
        ...

    def claim_marker(self, marker: Marker) -> Marker:
        """Write a marker unless there is one of its kind and key; return the one that is there now.

        Whoever claims the same gets the same answer, however many begin together.

        Raises:
            UnreadableRowError: the one that is there cannot be read by this version.
        """
        ...

    def put_marker(self, marker: Marker) -> None:
        """Write a marker, replacing the one of the same kind and key."""

    def drop_marker(self, kind: str, key: str) -> None:
        """Delete a marker; one that does not exist is fine."""


class Queues(Protocol):
    """The queues, from the sender's side, and the poison queues from the reader's. All raise StoreUnavailableError."""

    def send(self, queue: str, message: BaseModel, delay_seconds: float = ...) -> None:
        """Put a message, visible at once or after `delay_seconds` (0 to 7 days)."""

    def waiting_since(self, queue: str) -> datetime | None:
        """When the oldest message that waits to be taken was sent, about; None: none waits. Delayed ones don't."""
        ...

    def bury(self, queue: str, body: bytes) -> None:
        """Put a message that can't be understood into the queue's poison queue, as it came."""

    def poisoned(self, queue: str) -> list[QueuedMessage]:
        """Up to 32 messages of the queue's poison queue, hidden from other readers for a minute."""
        ...

    def forget(self, message: QueuedMessage) -> None:
        """Delete a message returned by `poisoned`; ignore a missing one."""
