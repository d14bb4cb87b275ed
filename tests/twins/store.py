"""An InstanceStore in memory, with the semantics of the table: ETags, all-or-nothing writes, live and ended apart."""

import threading
from collections.abc import Iterator, Sequence
from datetime import date, datetime

from gpulaunch.models.times import iso
from shared.domain.instance import Event, InstanceRecord
from shared.domain.money import CostEntry, Ledger
from shared.errors import AlreadyExistsError, StaleLedgerError, StaleRecordError
from shared.storage import rows
from shared.storage.base import (
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
)
from shared.storage.records import CLOSED, check_write, checked_row, read, read_all, read_event, read_record
from shared.storage.tables import MAX_PAGE
from tests.twins.faults import Calls


def fits(row: rows.TableRow, wanted: InstanceFilter) -> bool:
    if wanted.label is not None:
        key, value = wanted.label
        held = row.get(rows.label_column(key))
        if held is None or (value is not None and held != value):
            return False
    return (
        (wanted.phase is None or row.get("phase") == wanted.phase)
        and (wanted.provider is None or row.get("provider") == wanted.provider)
        and (wanted.live is None or row["RowKey"].startswith(f"{rows.LIVE}|") == wanted.live)
    )


class MemoryInstanceStore:
    """Rows are kept as the table keeps them, so that a record comes back as it would from there (milliseconds only)."""

    def __init__(self) -> None:
        self.calls = Calls()
        self._rows: dict[str, tuple[str, rows.TableRow]] = {}
        self._writes = 0
        self._lock = threading.RLock()

    def create(
        self,
        record: InstanceRecord,
        events: Sequence[Event],
        idempotency: IdempotencyEntry | None,
        booking: Booking = NO_BOOKING,
    ) -> str:
        check_write(None, record, events, booking)
        inserts = [checked_row("", record, ""), *self._event_rows(record.instance_id, events)]
        inserts += [rows.idempotency_row("", entry) for entry in (() if idempotency is None else idempotency.rows)]
        with self.calls.call("create"), self._lock:
            return self._write(inserts, booking=booking)

    def idempotency(self, key_hash: str) -> IdempotencyEntry | None:
        with self.calls.call("idempotency"), self._lock:
            found = self._rows.get(rows.idempotency_key(key_hash))
            return None if found is None else read(IdempotencyEntry, found[1])

    def expire_idempotency(self, before: datetime, most: int) -> int:
        with self.calls.call("expire_idempotency"), self._lock:
            text = iso(before)
            found = [key for key in self._rows if key.startswith("idem|")]
            expired = [key for key in sorted(found) if self._rows[key][1].get("created_at", text) < text][:most]
            for key in expired:
                del self._rows[key]
            return len(expired)

    def expire_events(self, launched: datetime, ended: datetime, most: int) -> int:
        with self.calls.call("expire_events"), self._lock:
            first, expired = rows.events_launched_before(launched).first, list[str]()
            for key in sorted(key for key in self._rows if key.startswith("ev|") and key >= first):
                done = rows.record_key(rows.owner_of_event(key), ended=True)
                found = self._record(done) if done in self._rows else None
                if isinstance(found, Versioned) and found.record.ended_at is not None and found.record.ended_at < ended:
                    expired.append(key)
            for key in expired[:most]:
                del self._rows[key]
            return len(expired[:most])

    def load(self, instance_id: str) -> Versioned | None:
        with self.calls.call("load"), self._lock:
            if not rows.is_instance_id(instance_id):
                return None
            for ended in (False, True):
                key = rows.record_key(instance_id, ended)
                if key in self._rows:
                    found = self._record(key)
                    if isinstance(found, Unreadable):
                        raise UnreadableRecordError(found)
                    return found
            return None

    def commit(
        self, before: Versioned, record: InstanceRecord, events: Sequence[Event], booking: Booking = NO_BOOKING
    ) -> str:
        check_write(before.record, record, events, booking)
        row = checked_row("", record, "")
        old_key = rows.record_key(record.instance_id, before.record.ended)
        with self.calls.call("commit"), self._lock:
            if old_key not in self._rows or self._rows[old_key][0] != before.etag:
                raise StaleRecordError(f"{record.instance_id} was changed by somebody else")
            return self._write([row, *self._event_rows(record.instance_id, events)], old_key, booking)

    def close_unreadable(self, unreadable: Unreadable, booking: Booking = NO_BOOKING) -> None:
        if unreadable.ended:
            return
        old_key = rows.record_key(unreadable.instance_id, ended=False)
        with self.calls.call("close_unreadable"), self._lock:
            if old_key not in self._rows or self._rows[old_key][0] != unreadable.etag:
                raise StaleRecordError(f"{unreadable.instance_id} was changed by somebody else")
            key = rows.record_key(unreadable.instance_id, ended=True)
            self._write([{**self._rows[old_key][1], "RowKey": key, CLOSED: unreadable.why}], old_key, booking)

    def ledger(self) -> VersionedLedger:
        with self.calls.call("ledger"), self._lock:
            found = self._rows.get(rows.LEDGER_KEY)
            return VersionedLedger(read(Ledger, found[1]), found[0]) if found else VersionedLedger(Ledger(), None)

    def book(self, booking: Booking) -> None:
        with self.calls.call("book"), self._lock:
            self._write([], None, booking)

    def costs(self, first: date) -> list[CostEntry]:
        with self.calls.call("costs"), self._lock:
            begin = rows.cost_range(first).first
            keys = sorted(key for key in self._rows if key.startswith("cost|") and key >= begin)
            return read_all(CostEntry, [self._rows[key][1] for key in keys])

    def events(self, instance_id: str, after: int = -1, limit: int = 1000) -> list[Event]:
        with self.calls.call("events"), self._lock:
            if not rows.is_instance_id(instance_id):
                return []
            keys = sorted(key for key in self._rows if key.startswith(f"ev|{rows.inverted_ulid(instance_id)}|"))
            found = [read_event(self._rows[key][1], None) for key in keys]
            return [event for event in found if event.sequence > after][: max(limit, 0)]

    def live(self, newest: str | None = None, oldest: str | None = None) -> Iterator[Versioned | Unreadable]:
        """The records are those of the moment when the walk begins."""
        with self.calls.call("live"), self._lock:
            found = [self._record(key) for key in self._keys(rows.LIVE)]
        for bound in (newest, oldest):
            if bound is not None:
                rows.inverted_ulid(bound)
        for one in found:
            if (newest is None or one.instance_id <= newest) and (oldest is None or one.instance_id >= oldest):
                yield one

    def page(self, wanted: InstanceFilter, size: int, token: str | None) -> RecordPage:
        if not 1 <= size <= MAX_PAGE:
            raise ValueError(f"a page has 1 to {MAX_PAGE} records")
        after = None if token is None else rows.read_page_token(token)
        with self.calls.call("page"), self._lock:
            keys = [key for area in (rows.LIVE, rows.DONE) for key in self._keys(area)]
            everything = [self._record(key) for key in keys if fits(self._rows[key][1], wanted)]
        everything.sort(key=lambda one: one.instance_id, reverse=True)
        found = [one for one in everything if after is None or one.instance_id < after]
        if len(found) <= size:
            return RecordPage(found, None)
        return RecordPage(found[:size], rows.page_token(found[size - 1].instance_id))

    def markers(self, kind: str) -> list[Marker]:
        with self.calls.call("markers"), self._lock:
            keys = sorted(key for key in self._rows if key.startswith(f"note|{kind}|"))
            return read_all(Marker, [self._rows[key][1] for key in keys])

    def claim_marker(self, marker: Marker) -> Marker:
        with self.calls.call("claim_marker"), self._lock:
            row = rows.row_of("", rows.marker_key(marker.kind, marker.key), marker)
            if row["RowKey"] not in self._rows:
                self._write([row])
            return read(Marker, self._rows[row["RowKey"]][1])

    def put_marker(self, marker: Marker) -> None:
        with self.calls.call("put_marker"), self._lock:
            row = rows.row_of("", rows.marker_key(marker.kind, marker.key), marker)
            self._rows.pop(row["RowKey"], None)
            self._write([row])

    def drop_marker(self, kind: str, key: str) -> None:
        with self.calls.call("drop_marker"), self._lock:
            self._rows.pop(rows.marker_key(kind, key), None)

    def _event_rows(self, instance_id: str, events: Sequence[Event]) -> list[rows.TableRow]:
        return [rows.row_of("", rows.event_key(instance_id, event.sequence), event) for event in events]

    def _write(
        self, written: Sequence[rows.TableRow], instead_of: str | None = None, booking: Booking = NO_BOOKING
    ) -> str:
        """All or nothing; the ETag of the first row, which may take the place of another."""
        written = [*written, *(rows.row_of("", rows.cost_key(entry), entry) for entry in booking.costs)]
        keys = [row["RowKey"] for row in written]
        there = self._rows.get(rows.LEDGER_KEY)
        if booking.ledger is not None and booking.ledger_etag != (None if there is None else there[0]):
            raise StaleLedgerError("the ledger was changed by somebody else")
        if len(set(keys)) < len(keys) or any(key in self._rows and key != instead_of for key in keys):
            raise AlreadyExistsError("a row of it is there already")
        if instead_of is not None:
            del self._rows[instead_of]
        self._writes += 1
        etag = f'W/"{self._writes}"'
        for key, row in zip(keys, written, strict=True):
            self._rows[key] = (etag, row)
        if booking.ledger is not None:
            self._rows[rows.LEDGER_KEY] = (etag, rows.row_of("", rows.LEDGER_KEY, booking.ledger))
        return etag

    def _record(self, key: str) -> Versioned | Unreadable:
        etag, row = self._rows[key]
        return read_record(row, etag)

    def _keys(self, area: str) -> list[str]:
        return [key for key in sorted(self._rows) if key.startswith(f"{area}|")]
