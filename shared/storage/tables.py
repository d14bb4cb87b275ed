"""Records, events and idempotency entries in Azure Table Storage.

A write is one entity-group transaction. The SDK repeats a transaction that was answered with 500, 503 or 504, and the
first try may have been carried out anyway; the repetition then meets its own work as a conflict. Every write of
a record therefore carries a mark of its own (`writer`), and a conflict is judged by reading the row again: our mark
means that the write was done. For the same reason a transaction is sent again when its connection breaks (REPEATED).
Where no answer comes in time either, the outcome stays unknown: StoreUnavailableError.
"""

import itertools
import secrets
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime
from typing import Any, Final

from azure.core import MatchConditions
from azure.core.exceptions import AzureError, ResourceNotFoundError
from azure.data.tables import TableClient, TableEntity, TableTransactionError, UpdateMode

from gpulaunch.models.times import iso
from shared.domain.instance import Event, InstanceRecord
from shared.domain.money import CostEntry, Ledger
from shared.errors import AlreadyExistsError, StaleLedgerError, StaleRecordError, StoreUnavailableError
from shared.storage import rows
from shared.storage.base import (
    EXPIRY_PAGES,
    NO_BOOKING,
    Booking,
    IdempotencyEntry,
    InstanceFilter,
    Marker,
    RecordPage,
    Unreadable,
    UnreadableRecordError,
    Versioned,
    VersionedLedger,
    readable,
)
from shared.storage.records import CLOSED, check_write, checked_row, read, read_all, read_event, read_record
from shared.table_errors import REPEATED, code_of, translate, translated

QUERY_PAGE: Final = 1000
"""Rows asked for in one request of a query; the service gives no more."""
MAX_PAGE: Final = 1000
_BATCH: Final = 100
"""Rows in one transaction, by the service."""

_CONFLICTS: Final = frozenset({"EntityAlreadyExists", "InvalidDuplicateRow"})
_STALE: Final = frozenset({"UpdateConditionNotSatisfied", "ConditionNotMet", "ResourceNotFound", "EntityNotFound"})

_Write = tuple[str, Mapping[str, Any]] | tuple[str, Mapping[str, Any], Mapping[str, Any]]


class TableInstanceStore:
    """The records of one workspace in one table. Safe to use from several threads."""

    def __init__(self, table: TableClient, workspace: str) -> None:
        self._table: Any = table  # the SDK types half of its methods
        self._partition = workspace

    def create(
        self,
        record: InstanceRecord,
        events: Sequence[Event],
        idempotency: IdempotencyEntry | None,
        booking: Booking = NO_BOOKING,
    ) -> str:
        check_write(None, record, events, booking)
        row = checked_row(self._partition, record, secrets.token_hex(8))
        operations: list[_Write] = [("create", row), *self._event_inserts(record.instance_id, events)]
        for entry in () if idempotency is None else idempotency.rows:
            operations.append(("create", rows.idempotency_row(self._partition, entry)))
        return self._write(f"create {record.instance_id}", operations, booking)

    def idempotency(self, key_hash: str) -> IdempotencyEntry | None:
        entity = self._get(rows.idempotency_key(key_hash), "read an idempotency key")
        return None if entity is None else read(IdempotencyEntry, entity)

    def expire_idempotency(self, before: datetime, most: int) -> int:
        keys = rows.idempotency_range()
        # Rows of earlier versions have no `created_at`; when a row was written the service knows itself. The SDK takes
        # words apart at spaces, so a parameter is followed by one.
        query = f"PartitionKey eq @partition and {keys.filter()} and (created_at lt @text or Timestamp lt @before )"
        parameters = {"partition": self._partition, "first": keys.first, "last": keys.last}
        parameters |= {"text": iso(before), "before": before}
        with translated("expire idempotency keys"):
            found = self._table.query_entities(
                query, parameters=parameters, select=["PartitionKey", "RowKey"], results_per_page=most
            )
            return self._delete(list(next(found.by_page(), ())))

    def expire_events(self, launched: datetime, ended: datetime, most: int) -> int:
        keys = rows.events_launched_before(launched)
        for _ in range(EXPIRY_PAGES):
            query = f"PartitionKey eq @partition and {keys.filter()}"
            parameters = {"partition": self._partition, "first": keys.first, "last": keys.last}
            with translated("expire events"):
                found = self._table.query_entities(
                    query, parameters=parameters, select=["PartitionKey", "RowKey"], results_per_page=most
                )
                page = list(next(found.by_page(), ()))
            if not page:
                break
            newest, oldest = (rows.owner_of_event(page[place]["RowKey"]) for place in (0, -1))
            over = self._ended(newest, oldest, ended)
            expired = [entity for entity in page if rows.owner_of_event(entity["RowKey"]) in over]
            if expired:
                with translated("expire events"):
                    return self._delete(expired)
            keys = rows.events_launched_before(launched, oldest)
        return 0

    def _ended(self, newest: str, oldest: str, before: datetime) -> set[str]:
        """The instances of a range that ended before a time."""
        done = self._query(rows.record_range(rows.DONE, newest, oldest), "read ended records")
        found = readable(read_record(entity, _etag(entity)) for entity in done)
        return {one.instance_id for one in found if one.record.ended_at is not None and one.record.ended_at < before}

    def _delete(self, entities: Sequence[Mapping[str, Any]]) -> int:
        deletions = [("delete", dict(entity)) for entity in entities]
        for first in range(0, len(deletions), _BATCH):
            self._table.submit_transaction(deletions[first : first + _BATCH])
        return len(deletions)

    def load(self, instance_id: str) -> Versioned | None:
        if not rows.is_instance_id(instance_id):
            return None
        # live first: a record that ends between the two reads is then found by the second
        for ended in (False, True):
            entity = self._get(rows.record_key(instance_id, ended), f"load {instance_id}")
            if entity is not None:
                found = read_record(entity, _etag(entity))
                if isinstance(found, Unreadable):
                    raise UnreadableRecordError(found)
                return found
        return None

    def commit(
        self, before: Versioned, record: InstanceRecord, events: Sequence[Event], booking: Booking = NO_BOOKING
    ) -> str:
        check_write(before.record, record, events, booking)
        row = checked_row(self._partition, record, secrets.token_hex(8))
        old_key = rows.record_key(record.instance_id, before.record.ended)
        operations = [*self._replace(old_key, before.etag, row), *self._event_inserts(record.instance_id, events)]
        return self._write(f"commit {record.instance_id}", operations, booking, (old_key, before.etag))

    def close_unreadable(self, unreadable: Unreadable, booking: Booking = NO_BOOKING) -> None:
        if unreadable.ended:
            return
        instance_id, doing = unreadable.instance_id, f"close {unreadable.instance_id}"
        live_key = rows.record_key(instance_id, ended=False)
        entity = self._get(live_key, doing)
        if entity is None or _etag(entity) != unreadable.etag:
            raise StaleRecordError(f"{instance_id} was changed by somebody else")
        key = rows.record_key(instance_id, ended=True)
        row: dict[str, Any] = {**entity, "RowKey": key, "writer": secrets.token_hex(8), CLOSED: unreadable.why}
        self._write(doing, self._replace(live_key, unreadable.etag, row), booking, (live_key, unreadable.etag))

    def ledger(self) -> VersionedLedger:
        entity = self._get(rows.LEDGER_KEY, "read the ledger")
        return VersionedLedger(read(Ledger, entity), _etag(entity)) if entity else VersionedLedger(Ledger(), None)

    def book(self, booking: Booking) -> None:
        self._write("book", [], booking)

    def costs(self, first: date) -> list[CostEntry]:
        return read_all(CostEntry, self._query(rows.cost_range(first), "read the costs"))

    def events(self, instance_id: str, after: int = -1, limit: int = 1000) -> list[Event]:
        if not rows.is_instance_id(instance_id) or limit < 1:
            return []
        found: list[Event] = []
        for entity in self._query(rows.event_range(instance_id, after), f"events of {instance_id}", limit):
            found.append(read_event(entity, entity.metadata["timestamp"]))
            if len(found) == limit:
                break
        return found

    def live(self, newest: str | None = None, oldest: str | None = None) -> Iterator[Versioned | Unreadable]:
        for entity in self._query(rows.record_range(rows.LIVE, newest, oldest), "walk over the live records"):
            yield read_record(entity, _etag(entity))

    def page(self, wanted: InstanceFilter, size: int, token: str | None) -> RecordPage:
        if not 1 <= size <= MAX_PAGE:
            raise ValueError(f"a page has 1 to {MAX_PAGE} records")
        after = None if token is None else rows.read_page_token(token)
        found: dict[str, Versioned | Unreadable] = {}
        oldest: str | None = None
        # live before ended: a record that ends in between is then seen twice rather than never
        for area in _areas(wanted):
            # one more than wanted tells whether there is another page
            chunk = self._chunk(rows.record_range(area, None, oldest, after), wanted, size + 1)
            found |= {one.instance_id: one for one in chunk}
            if len(chunk) > size:
                # nothing older than these can be on this page
                oldest = chunk[-1].instance_id
        newest_first = sorted(found, reverse=True)
        shown = [found[instance_id] for instance_id in newest_first[:size]]
        return RecordPage(shown, rows.page_token(newest_first[size - 1]) if len(newest_first) > size else None)

    def markers(self, kind: str) -> list[Marker]:
        return read_all(Marker, self._query(rows.marker_range(kind), f"read the {kind} markers"))

    def claim_marker(self, marker: Marker) -> Marker:
        row = rows.row_of(self._partition, rows.marker_key(marker.kind, marker.key), marker)
        there = self._get(row["RowKey"], "read a marker")
        if there is None:
            try:
                # a transaction of one: the SDK's plain insert raises errors without the service's code
                self._table.submit_transaction([("create", row)], retry_on_methods=REPEATED)
            except AzureError as error:
                if code_of(error) not in _CONFLICTS:
                    raise translate(error, "claim a marker") from error
            there = self._get(row["RowKey"], "read a marker")
        if there is None:
            raise StoreUnavailableError("a marker that was just written is not there")
        return read(Marker, there)

    def put_marker(self, marker: Marker) -> None:
        with translated("write a marker"):
            row = rows.row_of(self._partition, rows.marker_key(marker.kind, marker.key), marker)
            self._table.upsert_entity(row, mode=UpdateMode.REPLACE)

    def drop_marker(self, kind: str, key: str) -> None:
        # the SDK treats a missing row as deleted
        with translated("drop a marker"):
            self._table.delete_entity(self._partition, rows.marker_key(kind, key))

    def _event_inserts(self, instance_id: str, events: Sequence[Event]) -> list[_Write]:
        return [
            ("create", rows.row_of(self._partition, rows.event_key(instance_id, event.sequence), event))
            for event in events
        ]

    def _replace(self, key: str, etag: str, row: Mapping[str, Any]) -> list[_Write]:
        """Write a row in place of the one of that key and ETag, which may be the same key."""
        unchanged = {"etag": etag, "match_condition": MatchConditions.IfNotModified}
        if row["RowKey"] == key:
            return [("update", row, {"mode": UpdateMode.REPLACE, **unchanged})]
        return [("create", row), ("delete", {"PartitionKey": self._partition, "RowKey": key}, unchanged)]

    def _bookings(self, booking: Booking) -> list[_Write]:
        writes: list[_Write] = [
            ("create", rows.row_of(self._partition, rows.cost_key(entry), entry)) for entry in booking.costs
        ]
        if booking.ledger is not None:
            row = rows.row_of(self._partition, rows.LEDGER_KEY, booking.ledger)
            etag = booking.ledger_etag
            writes += [("create", row)] if etag is None else self._replace(rows.LEDGER_KEY, etag, row)
        return writes

    def _write(
        self, doing: str, operations: Sequence[_Write], booking: Booking, replaced: tuple[str, str] | None = None
    ) -> str:
        """Carry out all or nothing, a booking included; return the ETag of the first operation's row.

        `replaced`: key and ETag of the row that the first one follows from.
        """
        operations = [*operations, *self._bookings(booking)]
        try:
            return str(self._table.submit_transaction(operations, retry_on_methods=REPEATED)[0]["etag"])
        except TableTransactionError as error:
            if code_of(error) not in _CONFLICTS | _STALE:
                raise translate(error, doing) from error
            row = operations[0][1]
            there = self._get(row["RowKey"], doing) if "writer" in row else None
            if there is not None and there["writer"] == row["writer"]:
                return _etag(there)
            if replaced is None or self._is_unchanged(*replaced, doing):
                if booking.ledger is not None and self.ledger().etag != booking.ledger_etag:
                    raise StaleLedgerError("the ledger was changed by somebody else") from error
                if code_of(error) in _CONFLICTS:
                    raise AlreadyExistsError(f"{doing}: a row of it is there already") from error
            if replaced is None:
                raise translate(error, doing) from error
            raise StaleRecordError(f"{doing}: it was changed by somebody else") from error
        except AzureError as error:
            raise translate(error, doing) from error

    def _get(self, key: str, doing: str) -> TableEntity | None:
        try:
            return self._table.get_entity(self._partition, key)
        except ResourceNotFoundError as error:
            # a missing table says nothing about the row
            if code_of(error) not in _STALE:
                raise translate(error, doing) from error
            return None
        except AzureError as error:
            raise translate(error, doing) from error

    def _is_unchanged(self, key: str, etag: str, doing: str) -> bool:
        entity = self._get(key, doing)
        return entity is not None and _etag(entity) == etag

    def _query(
        self, keys: rows.KeyRange, doing: str, limit: int = QUERY_PAGE, wanted: InstanceFilter | None = None
    ) -> Iterator[TableEntity]:
        """Rows of a range in order; of records, those that a listing wants."""
        conditions, values = rows.conditions(wanted) if wanted else ([], {})
        query = " and ".join(["PartitionKey eq @partition", keys.filter(), *conditions])
        parameters = {"partition": self._partition, "first": keys.first, "last": keys.last, **values}
        with translated(doing):
            yield from self._table.query_entities(query, parameters=parameters, results_per_page=min(limit, QUERY_PAGE))

    def _chunk(self, keys: rows.KeyRange, wanted: InstanceFilter, limit: int) -> list[Versioned | Unreadable]:
        """The first wanted records of a range, at most `limit`, newest first."""
        found = self._query(keys, "list instances", limit, wanted)
        return [read_record(entity, _etag(entity)) for entity in itertools.islice(found, limit)]


def _areas(wanted: InstanceFilter) -> list[str]:
    """The ranges in which a listing can find anything, live first."""
    return [
        area
        for area, ended in ((rows.LIVE, False), (rows.DONE, True))
        if wanted.live in (None, not ended) and (wanted.phase is None or wanted.phase.ended == ended)
    ]


def _etag(entity: TableEntity) -> str:
    return str(entity.metadata["etag"])
