"""The real storage clients over a simulated wire, where the faults enter: the program's own tables.py and queues.py,
Azure's SDK and its retries, on the simulated clock.

Requests fail one by one, so the SDK's repetitions meet what an earlier try did; some fail as often as the SDK tries. A
page of a query may end anywhere, as the service is free to do.
"""

import base64
import json
from collections.abc import Callable
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from azure.core.exceptions import ServiceResponseError
from azure.storage.queue import ExponentialRetry

from shared.queues import ALERTS, QUEUES
from shared.settings import Settings
from shared.storage import connect, rows
from shared.storage.base import IdempotencyEntry, QueuedMessage, UnreadableRecordError, Versioned
from shared.storage.queues import StorageQueues, decoded, poison_queue
from shared.storage.records import read, read_event
from shared.storage.tables import TableInstanceStore
from tests.simulation.chaos import Chaos
from tests.simulation.scheduler import Task
from tests.simulation.storage import POLLING, Table, Watcher
from tests.simulation.versions import Versions
from tests.standins.storage.account import StorageAccount
from tests.standins.storage.shapes import Call, RefusedError, Reply
from tests.standins.storage.tables import Partition
from tests.standins.storage.transport import CONNECTION, WireTransport

if TYPE_CHECKING:
    from collections.abc import Generator

    from tests.standins.storage.queues import Message

WORKSPACE: Final = "default"
_TRIES: Final = 4
"""Of one call by the SDK."""


class Wire:
    """A storage account, and the requests to it."""

    def __init__(
        self, chaos: Chaos, watcher: Watcher, announce: Callable[[str, float], None], versions: Versions, page: int
    ) -> None:
        self.account = StorageAccount(chaos.scheduler.now)
        self.account.tables.page = lambda: page
        self.rows: Partition = self.account.tables.partition(connect.TABLE, WORKSPACE)
        self.table = Table(self.rows)
        """What is stored, for whoever looks from outside."""
        self._chaos = chaos
        self._watcher = watcher
        self._announce = announce
        self._versions = versions
        self._older: Partition = {}
        self._failing: dict[Task, int] = {}
        """Requests of a task that are still to fail."""
        self._wrote: set[Task] = set()
        for queue in (*QUEUES, ALERTS):
            self.account.queues.queues[queue] = []
        settings = Settings.model_validate(
            {"AzureWebJobsStorage": CONNECTION, "AZURE_FUNCTIONS_ENVIRONMENT": "Development"}
        )
        transport = WireTransport(self._answer, self._wait)
        # Ids of requests, which come from the machine's clock and network card, take longer than the rest of a request.
        options: dict[str, Any] = {"transport": transport, "auto_request_id": False}
        self.store = TableInstanceStore(connect.table_client(settings, **options), WORKSPACE)
        # The SDK draws its jitter from the machine's entropy.
        retries = ExponentialRetry(initial_backoff=1, increment_base=2, retry_total=_TRIES - 1, random_jitter_range=0)
        service = connect.queue_service(settings, retry_policy=retries, **options)
        self.queues = HostQueues(self.account, service, announce)

    def _wait(self, seconds: float) -> None:
        if self._chaos.scheduler.current is not None:
            self._chaos.scheduler.pause(seconds)

    def _answer(self, call: Call) -> Reply:
        task = self._chaos.scheduler.current
        what, carry_out = self._understood(call)
        if task is None:
            return carry_out()
        if self._failing.get(task, 0) > 0:
            self._failing[task] -= 1
            self._chaos.scheduler.note(f"{what}: no answer again, not done")
            return self._no_answer(ServiceResponseError("no answer"))
        try:
            return self._chaos.wire(what, carry_out)
        except ServiceResponseError as error:
            if self._chaos.random.random() < 0.5:
                self._failing[task] = _TRIES - 1
            return self._no_answer(error)

    def _no_answer(self, error: ServiceResponseError) -> Reply:
        """What the client sees: a connection that breaks, or an error of the service's front end."""
        seen = self._chaos.random.choice((None, 500, 503))
        if seen is None:
            raise error
        refusal = RefusedError(seen, "OperationTimedOut" if seen == 500 else "ServerBusy")
        said = {"odata.error": {"code": refusal.code, "message": {"lang": "en-US", "value": refusal.code}}}
        headers = {"x-ms-error-code": refusal.code}
        return Reply(status=seen, headers=headers, body=json.dumps(said).encode(), content_type="application/json")

    def _understood(self, call: Call) -> tuple[str, Callable[[], Reply]]:
        """What a request is about, in the words of the trace, and how it is carried out."""
        if call.service == "queue":
            return self._of_queue(call)
        if call.operations:
            keys = [_row_key(one) for one in call.operations]
            record = next((key for key in keys if key.startswith(("live|", "done|"))), None)
            if record is None:
                return f"write {keys[0].partition('|')[0]}", lambda: self.account.answer(call)
            instance_id = rows.upright(record.partition("|")[2])
            return f"commit {instance_id[-4:]}", lambda: self._transaction(call, instance_id)
        if call.method == "GET":
            key = _row_key(call)
            name = f"load {rows.upright(key[5:])[-4:]}" if key.startswith(("live|", "done|")) else key.partition("|")[0]
            return name or _asked(call), lambda: self._read(call, key)
        return f"{call.method.lower()} {_row_key(call).partition('|')[0]}", lambda: self.account.answer(call)

    # Tables.

    def _transaction(self, call: Call, instance_id: str) -> Reply:
        key = rows.record_key(instance_id, ended=False)
        there = self.rows.get(key)
        before = self._record(instance_id)
        task = self._chaos.scheduler.current
        if task is not None:
            self._wrote.add(task)
        reply = self.account.answer(call)
        if any(part.status >= 300 for part in reply.parts):
            return reply
        if there is not None:
            self._older[key] = there
        self._versions.written(instance_id)
        after = self._record(instance_id)
        if after is not None:
            self._tell(call, before, after)
        return reply

    def _tell(self, call: Call, before: Versioned | None, after: Versioned) -> None:
        """Show the watcher what was written."""
        keys = [_row_key(one) for one in call.operations]
        events = [read_event(self.rows[key][1], None) for key in keys if key.startswith("ev|")]
        entries = [read(IdempotencyEntry, self.rows[key][1]) for key in keys if key.startswith("idem|")]
        if before is None:
            self._watcher.created(after.record, events, entries[0] if entries else None)
        else:
            self._watcher.committed(before.record, after.record, events)

    def _record(self, instance_id: str) -> Versioned | None:
        try:
            return self.table.load(instance_id)
        except UnreadableRecordError:
            return None

    def _read(self, call: Call, key: str) -> Reply:
        stale = self._stale(key)
        if not stale:
            return self.account.answer(call)
        for one in stale:
            name = rows.upright(one.partition("|")[2])[-4:]
            self._chaos.scheduler.note(f"reads {name} as it was before")
        with _replaced(self.rows, stale):
            return self.account.answer(call)

    def _stale(self, key: str) -> Partition:
        """The older versions that a read gets: an answer that was under way while somebody else wrote."""
        task, chaos = self._chaos.scheduler.current, self._chaos
        # Whoever has written itself sees what it wrote, and whatever it was refused for.
        if not chaos.rates.stale or task is None or task in self._wrote:
            return {}
        wanted = [key] if key else [one for one in self._older if one in self.rows]
        return {one: self._older[one] for one in wanted if one in self._older and chaos.strikes(chaos.rates.stale)}

    # Queues.

    def _of_queue(self, call: Call) -> tuple[str, Callable[[], Reply]]:
        queue, _, rest = call.path.partition("/")
        if call.method != "POST" or not rest:
            return f"{call.method.lower()} {queue}", lambda: self.account.answer(call)
        text = call.body.decode().partition("<MessageText>")[2].partition("<")[0]
        body = decoded(text)
        if queue.endswith("-poison"):
            self._watcher.buried(queue, body)
            return "bury", lambda: self.account.answer(call)
        hidden = int(call.query.get("visibilitytimeout", 0))
        what = f"send to {queue[10:]} {body.decode()[15:]} in {hidden} s"
        return what, lambda: self._send(call, queue, hidden)

    def _send(self, call: Call, queue: str, hidden: int) -> Reply:
        rates, random, queues = self._chaos.rates, self._chaos.random, self.account.queues
        reply = self.account.answer(call)
        message = queues.queues[queue][-1]
        message.text = base64.b64encode(self._versions.sent(decoded(message.text))).decode()
        if self._chaos.strikes(rates.message_lost):
            self._chaos.scheduler.note("the message is lost")
            queues.queues[queue].pop()
            return reply
        late = int(random.uniform(1, 200)) if self._chaos.strikes(rates.message_late) else 0
        message.visible_at += timedelta(seconds=late)
        self._announced(queue, hidden + late)
        if self._chaos.strikes(rates.message_doubled):
            again = hidden + (0 if random.random() < 0.5 else int(random.uniform(0, 300)))
            queues.put(queue, message.text, again)
            self._announced(queue, again)
        return reply

    def _announced(self, queue: str, hidden: int) -> None:
        self._announce(queue, hidden + self._chaos.random.random() * POLLING)


class HostQueues(StorageQueues):
    """The program's own queues, and the side of the host, which has no faults of its own here."""

    def __init__(self, account: StorageAccount, service: Any, announce: Callable[[str, float], None]) -> None:
        super().__init__(service)
        self._account = account
        self._announce = announce

    def take(self, queue: str, limit: int, hide_seconds: float) -> list[QueuedMessage]:
        return [
            QueuedMessage(
                queue=queue,
                id=one.id,
                pop_receipt=one.pop_receipt,
                dequeue_count=one.dequeue_count,
                body=decoded(one.text),
            )
            for one in self._account.queues.take(queue, limit, hide_seconds)
        ]

    def done(self, message: QueuedMessage) -> None:
        """Delete a message whose function ended well."""
        queue = self._account.queues.queues[message.queue]
        queue[:] = [one for one in queue if not _is(one, message)]

    def give_up(self, queue: str, message: QueuedMessage) -> None:
        """Poison a message that failed too often, as the host does."""
        self._account.queues.queues.setdefault(poison_queue(queue), [])
        self._account.queues.put(poison_queue(queue), base64.b64encode(message.body).decode())
        self.done(message)

    def show_again(self, message: QueuedMessage, seconds: float) -> None:
        """Make a message visible again after a failure."""
        for one in self._account.queues.queues[message.queue]:
            if _is(one, message):
                one.visible_at = self._account.queues.now() + timedelta(seconds=seconds)
                self._announce(message.queue, seconds)


def _is(one: "Message", message: QueuedMessage) -> bool:
    return (one.id, one.pop_receipt) == (message.id, message.pop_receipt)


@contextmanager
def _replaced(partition: Partition, older: Partition) -> "Generator[None]":
    kept = {key: partition.get(key) for key in older}
    partition.update(older)
    yield
    for key, found in kept.items():
        if found is None:
            del partition[key]
        else:
            partition[key] = found


def _row_key(call: Call) -> str:
    """The row that a request is about; empty for a query."""
    if call.method == "POST":
        return str(json.loads(call.body)["RowKey"])
    return call.path.partition(",RowKey='")[2].removesuffix("')")


def _asked(call: Call) -> str:
    area = call.query.get("$filter", "").partition("RowKey ge '")[2].partition("|")
    return {"live": "live", "note": "markers", "ev": "events"}.get(area[0], area[0] or "query")
