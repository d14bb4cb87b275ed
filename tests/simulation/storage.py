"""Table and queues under faults, around the twins that the contract suites hold to Azurite's behaviour."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from datetime import datetime, timedelta
from typing import Any, Protocol

from pydantic import BaseModel

from shared.cache import TTLCache
from shared.domain.instance import Event, InstanceRecord
from shared.domain.messages import StepMessage
from shared.storage.base import (
    NO_BOOKING,
    Booking,
    IdempotencyEntry,
    Marker,
    QueuedMessage,
    Unreadable,
    UnreadableRecordError,
    Versioned,
)
from shared.storage.queues import visibility
from shared.storage.rows import TableRow
from tests.simulation.chaos import Chaos
from tests.simulation.scheduler import Process, Scheduler
from tests.twins.queues import MemoryQueues
from tests.twins.store import MemoryInstanceStore

POLLING = 1.0
"""Seconds after which the host sees a message at the latest (maxPollingInterval)."""


class Watcher(Protocol):
    def created(self, record: InstanceRecord, events: Sequence[Event], key: IdempotencyEntry | None) -> None: ...

    def committed(self, before: InstanceRecord, record: InstanceRecord, events: Sequence[Event]) -> None: ...

    def buried(self, queue: str, body: bytes) -> None: ...

    def repeated(self, instance_id: str, visible_at: datetime) -> None: ...


class Table(MemoryInstanceStore):
    """The twin, which reads each written version once only; `kept`: rows that somebody else writes."""

    def __init__(self, kept: dict[str, tuple[str, TableRow]] | None = None) -> None:
        super().__init__()
        if kept is not None:
            self._rows = kept
        self._read: dict[str, Versioned | Unreadable] = {}

    def _record(self, key: str) -> Versioned | Unreadable:
        found = self._read.get(key)
        if found is None or found.etag != self._rows[key][0]:
            found = self._read[key] = super()._record(key)
        return found

    def kept_keys(self) -> list[datetime]:
        """When the launches were accepted whose Idempotency-Keys are still there."""
        rows = [row for key, (_, row) in self._rows.items() if key.startswith("idem|")]
        return [datetime.fromisoformat(str(row["created_at"])) for row in rows]

    def edit(self, key: str, row: TableRow, etag: str | None = None) -> None:
        """Change a row behind the program's back; with an ETag of its own, unless it is part of a write."""
        self._rows[key] = (self._rows[key][0] if etag is None else etag, row)
        self._read.pop(key, None)

    def copy(self) -> dict[str, tuple[str, TableRow]]:
        return dict(self._rows)

    def put_back(self, copy: dict[str, tuple[str, TableRow]]) -> None:
        """Replace all rows by an earlier copy's, which the service gives new ETags."""
        self._rows.clear()
        self._rows.update({key: (f"{etag[:-1]}again{etag[-1:]}", row) for key, (etag, row) in copy.items()})
        self._read.clear()

    def row(self, key: str) -> tuple[str, TableRow] | None:
        return self._rows.get(key)


class Truth(Table):
    """The same rows as whoever knows what stood in them reads them."""

    def __init__(self, table: Table) -> None:
        super().__init__(table._rows)
        self._read = table._read
        self.unreadable: dict[str, Versioned] = {}
        """Records that cannot be read now, as they were."""
        self.restored_at: dict[str, float] = {}
        """When a record could be read again, seconds."""

    def was_unreadable(self, instance_id: str, since: float) -> bool:
        """Whether a record could not be read at some moment since then."""
        return instance_id in self.unreadable or self.restored_at.get(instance_id, -1.0) >= since

    def load(self, instance_id: str) -> Versioned | None:
        return self.unreadable.get(instance_id) or super().load(instance_id)


class KeptByProcess(TTLCache[list[Marker]]):
    """What a process keeps in its memory ends with it. There are no locks: a task that waits holds up everything."""

    def __init__(self, scheduler: Scheduler, seconds: float) -> None:
        self._scheduler = scheduler
        self._seconds = seconds
        self._own: dict[Process | None, TTLCache[list[Marker]]] = {}

    def get(self, now: datetime, read: Callable[[], list[Marker]]) -> list[Marker]:
        return self._mine().get(now, read)

    def drop(self) -> None:
        self._mine().drop()

    def _mine(self) -> TTLCache[list[Marker]]:
        process = None if self._scheduler.current is None else self._scheduler.current.process
        if process not in self._own:
            self._own[process] = TTLCache(self._seconds)
            self._own[process].__dict__["_lock"] = nullcontext()
        return self._own[process]


class FaultyStore:
    """An InstanceStore; see Chaos for what goes wrong."""

    def __init__(self, chaos: Chaos, table: Table, watcher: Watcher, written: Callable[[str], None]) -> None:
        self.table = table
        self._chaos = chaos
        self._written = written
        self._watcher = watcher
        self._older: dict[str, Versioned] = {}

    def create(
        self,
        record: InstanceRecord,
        events: Sequence[Event],
        idempotency: IdempotencyEntry | None,
        booking: Booking = NO_BOOKING,
    ) -> str:

        def effect() -> str:
            etag = self.table.create(record, events, idempotency, booking)
            self._written(record.instance_id)
            self._watcher.created(record, events, idempotency)
            return etag

        return self._chaos.storage(f"create {record.instance_id[-4:]}", effect)

    def load(self, instance_id: str) -> Versioned | None:
        found = self._chaos.storage(f"load {instance_id[-4:]}", lambda: self.table.load(instance_id))
        return None if found is None else self._perhaps_stale(found)

    def commit(
        self, before: Versioned, record: InstanceRecord, events: Sequence[Event], booking: Booking = NO_BOOKING
    ) -> str:

        def effect() -> str:
            there = self._there(record.instance_id)
            etag = self.table.commit(before, record, events, booking)
            self._written(record.instance_id)
            if there is not None:
                self._older[record.instance_id] = there
                self._watcher.committed(there.record, record, events)
            return etag

        return self._chaos.storage(f"commit {record.instance_id[-4:]}", effect)

    def live(self, newest: str | None = None, oldest: str | None = None) -> Iterator[Versioned | Unreadable]:
        for found in self._chaos.storage("live", lambda: list(self.table.live(newest, oldest))):
            yield found if isinstance(found, Unreadable) else self._perhaps_stale(found)

    def _there(self, instance_id: str) -> Versioned | None:
        try:
            return self.table.load(instance_id)
        except UnreadableRecordError:
            return None

    def __getattr__(self, name: str) -> Callable[..., Any]:
        """Any other operation: it fails as all do, and nothing is made of its answer."""
        act = getattr(self.table, name)
        return lambda *given, **named: self._chaos.storage(name, lambda: act(*given, **named))

    def _perhaps_stale(self, found: Versioned) -> Versioned:
        older = self._older.get(found.record.instance_id)
        if older is None or not self._chaos.strikes(self._chaos.rates.stale):
            return found
        self._chaos.scheduler.note(f"reads {found.record.instance_id[-4:]} as it was before")
        return older


WAITING = timedelta(minutes=1)
"""How long a message has to be visible before nobody may take it for lost: the sweep decides some seconds before."""


class FaultyQueues(MemoryQueues):
    """Queues; each message that becomes visible is announced to the host, which polls for it a moment later."""

    def __init__(
        self,
        chaos: Chaos,
        watcher: Watcher,
        announce: Callable[[str, float], None],
        sent: Callable[[bytes], bytes],
    ) -> None:
        super().__init__(chaos.scheduler)
        self._sent = sent
        self._chaos = chaos
        self._watcher = watcher
        self._announce = announce

    def send(self, queue: str, message: BaseModel, delay_seconds: float = 0.0) -> None:
        hidden = visibility(delay_seconds)
        rates, random = self._chaos.rates, self._chaos.random

        def effect() -> None:
            self._check_repetition(queue, message)
            body = self._sent(message.model_dump_json(by_alias=True).encode())
            if self._chaos.strikes(rates.message_lost):
                self._chaos.scheduler.note("the message is lost")
                return
            late = int(random.uniform(1, 200)) if self._chaos.strikes(rates.message_late) else 0
            self._arrive(queue, body, hidden + late)
            if self._chaos.strikes(rates.message_doubled):
                self._arrive(queue, body, hidden + (0 if random.random() < 0.5 else int(random.uniform(0, 300))))

        self._chaos.storage(f"send to {queue[10:]} {message.model_dump_json()[15:]} in {hidden} s", effect)

    def _check_repetition(self, queue: str, message: BaseModel) -> None:
        """Tell the watcher of a step that the sweep sends although its message has waited for its turn for a minute."""
        rates, task = self._chaos.rates, self._chaos.scheduler.current
        # Who reads old records, or has another clock, can't know.
        if task is None or task.name != "sweep" or rates.stale or rates.clocks or not isinstance(message, StepMessage):
            return
        latest = self._clock.now() - WAITING
        restarted_at = self._chaos.restarted_at
        for one in self._queues[queue]:
            if restarted_at is not None and one.sent_at < restarted_at:
                continue  # nobody remembers that it was sent
            if one.visible_at <= latest and message.model_dump().items() <= json.loads(one.body).items():
                self._watcher.repeated(message.instanceId, one.visible_at)

    def bury(self, queue: str, body: bytes) -> None:
        self._watcher.buried(queue, body)
        self._chaos.storage("bury", lambda: super(FaultyQueues, self).bury(queue, body))

    def give_up(self, queue: str, message: QueuedMessage) -> None:
        """Poison a message that failed too often, as the host does."""
        super().bury(queue, message.body)
        super().forget(message)

    def done(self, message: QueuedMessage) -> None:
        """Delete a message whose function ended well, as the host does."""
        super().forget(message)

    def waiting_since(self, queue: str) -> datetime | None:
        return self._chaos.storage("look into a queue", lambda: super(FaultyQueues, self).waiting_since(queue))

    def poisoned(self, queue: str) -> list[QueuedMessage]:
        return self._chaos.storage("poisoned", lambda: super(FaultyQueues, self).poisoned(queue))

    def forget(self, message: QueuedMessage) -> None:
        self._chaos.storage("forget", lambda: super(FaultyQueues, self).forget(message))

    def show_again(self, message: QueuedMessage, seconds: float) -> None:
        """Make a message visible again after a failure."""
        for one in self._queues[message.queue]:
            if (one.id, one.pop_receipt) == (message.id, message.pop_receipt):
                one.visible_at = self._clock.now() + timedelta(seconds=seconds)
                self._announce(message.queue, seconds)

    def _arrive(self, queue: str, body: bytes, hidden: int) -> None:
        self._put(queue, body, hidden)
        self._announce(queue, hidden + self._chaos.random.random() * POLLING)
