import asyncio
import base64
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from datetime import timedelta
from typing import Any

import azure.functions as func
import pytest
from azure.core.exceptions import (
    HttpResponseError,
    ResourceExistsError,
    ResourceNotFoundError,
    ServiceRequestError,
    ServiceResponseError,
)
from azure.storage.queue import QueueMessage as StorageMessage

from devhost.app import QueueFunction
from devhost.config import HostError, QueueOptions
from devhost.queues import LEASE, REFUSED_LIMIT, QueueListener, service_client
from tests.unit.devhost.invoking import InThreads

OPTIONS = QueueOptions(
    batch_size=2,
    new_batch_threshold=1,
    max_polling_interval=timedelta(seconds=0.2),
    max_dequeue_count=3,
    visibility_timeout=timedelta(),
)


Body = Callable[[func.QueueMessage], object]


def message(content: str, *, dequeued: int = 1, number: int = 1, encoded: bool = True) -> StorageMessage:
    text = base64.b64encode(content.encode()).decode() if encoded else content
    return StorageMessage(text, id=f"m{number}", dequeue_count=dequeued, pop_receipt=f"r{number}")


class FakeQueue:
    """Hands out the given pages, and writes down every call."""

    def __init__(self, name: str, *pages: list[StorageMessage] | Exception, exists: bool = True) -> None:
        self.queue_name = name
        self.pages = list(pages)
        self.exists = exists
        self.calls: list[tuple[Any, ...]] = []
        self.fail_update: Exception | None = None

    def receive_messages(self, **options: Any) -> "FakeQueue":
        self.calls.append(("receive", options["messages_per_page"], options["visibility_timeout"]))
        return self

    async def by_page(self) -> AsyncGenerator[AsyncGenerator[StorageMessage]]:
        async def items(page: list[StorageMessage]) -> AsyncGenerator[StorageMessage]:
            for one in page:
                yield one

        if self.pages:
            page = self.pages.pop(0)
            if isinstance(page, Exception):
                raise page
            yield items(page)

    async def update_message(self, message: str, pop_receipt: str, **options: Any) -> StorageMessage:
        self.calls.append(("update", message, pop_receipt, options["visibility_timeout"]))
        if self.fail_update:
            raise self.fail_update
        return StorageMessage(None, id=message, pop_receipt=pop_receipt + "+")

    async def delete_message(self, message: str, pop_receipt: str) -> None:
        self.calls.append(("delete", message, pop_receipt))

    async def send_message(self, content: str, **options: Any) -> StorageMessage:
        if not self.exists:
            raise ResourceNotFoundError
        self.calls.append(("send", content))
        return StorageMessage(content)

    async def create_queue(self) -> None:
        if self.exists:
            raise ResourceExistsError
        self.calls.append(("create",))
        self.exists = True

    @property
    def changes(self) -> list[tuple[Any, ...]]:
        return [call for call in self.calls if call[0] != "receive"]


class FakeService:
    """An account of the given queues."""

    def __init__(self, *queues: FakeQueue) -> None:
        self.queues = {queue.queue_name: queue for queue in queues}

    def get_queue_client(self, queue: str) -> FakeQueue:
        return self.queues[queue]


def swallow(msg: func.QueueMessage) -> None: ...


def fail(msg: func.QueueMessage) -> None:
    raise RuntimeError("on purpose")


def sleep(seconds: float) -> Body:
    def body(msg: func.QueueMessage) -> None:
        time.sleep(seconds)

    return body


def run(
    queue: FakeQueue,
    poison: FakeQueue,
    body: Body = swallow,
    *,
    options: QueueOptions = OPTIONS,
    seconds: float = 0.05,
    drain: float = 1,
    lease: float = LEASE,
    refused: float = REFUSED_LIMIT,
) -> None:
    """Listen for a moment, then stop as the host does."""

    async def listen() -> None:
        function = QueueFunction(name="work", argument="msg", queue=queue.queue_name)
        service: Any = FakeService(queue, poison)
        listener = QueueListener(function, service, options, InThreads({"work": body}), lease, refused)
        task = asyncio.create_task(listener.run())
        await asyncio.sleep(seconds)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        await listener.drain(drain)

    asyncio.run(listen())


def test_success_should_delete_the_message() -> None:
    queue = FakeQueue("work", [message("hello")])
    run(queue, FakeQueue("work-poison"))
    assert queue.calls[0] == ("receive", 2, 600)
    assert queue.changes == [("delete", "m1", "r1")]


def test_failure_should_release_the_message_after_the_visibility_timeout() -> None:
    queue, poison = FakeQueue("work", [message("hello", dequeued=2)]), FakeQueue("work-poison")
    run(queue, poison, fail, options=OPTIONS.model_copy(update={"visibility_timeout": timedelta(seconds=7)}))
    assert queue.changes == [("update", "m1", "r1", 7)]
    assert poison.calls == []


def test_the_last_failure_should_move_the_message_to_the_poison_queue() -> None:
    queue, poison = FakeQueue("work", [message("hello", dequeued=3)]), FakeQueue("work-poison", exists=False)
    run(queue, poison, fail)
    assert poison.calls == [("create",), ("send", base64.b64encode(b"hello").decode())]
    assert queue.changes == [("delete", "m1", "r1")]


def test_a_message_taken_too_often_should_be_poisoned_without_being_run() -> None:
    ran: list[str | None] = []
    queue, poison = FakeQueue("work", [message("hello", dequeued=4)]), FakeQueue("work-poison")
    run(queue, poison, lambda msg: ran.append(msg.id))
    assert (ran, [call[0] for call in poison.calls]) == ([], ["send"])
    assert queue.changes == [("delete", "m1", "r1")]


def test_what_cannot_be_decoded_should_be_poisoned_at_once_as_it_is() -> None:
    ran: list[str | None] = []
    queue, poison = FakeQueue("work", [message("no base64!", encoded=False)]), FakeQueue("work-poison")
    run(queue, poison, lambda msg: ran.append(msg.id))
    assert (ran, poison.calls) == ([], [("send", "no base64!")])
    assert queue.changes == [("delete", "m1", "r1")]


@pytest.mark.parametrize("dequeued", [1, 3])
def test_what_is_not_utf_8_should_fail_unrun_and_be_poisoned_as_it_is_after_the_last_try(dequeued: int) -> None:
    ran: list[str | None] = []
    content = base64.b64encode(b"\xff").decode()
    queue = FakeQueue("work", [message(content, dequeued=dequeued, encoded=False)])
    poison = FakeQueue("work-poison")
    run(queue, poison, lambda msg: ran.append(msg.id))
    assert ran == []
    assert poison.calls == ([("send", content)] if dequeued == 3 else [])


def test_a_returned_value_should_count_as_a_failure() -> None:
    queue = FakeQueue("work", [message("hello")])
    run(queue, FakeQueue("work-poison"), func.QueueMessage.get_body)
    assert queue.changes == [("update", "m1", "r1", 0)]


def test_a_long_run_should_renew_its_lease_and_delete_with_the_new_receipt() -> None:
    queue = FakeQueue("work", [message("hello")])
    run(queue, FakeQueue("work-poison"), sleep(0.15), lease=0.2)
    assert queue.changes == [("update", "m1", "r1", 0), ("delete", "m1", "r1+")]


def test_a_lost_lease_should_end_the_renewal_quietly(caplog: pytest.LogCaptureFixture) -> None:
    queue = FakeQueue("work", [message("hello")])
    queue.fail_update = ResourceNotFoundError()
    run(queue, FakeQueue("work-poison"), sleep(0.25), lease=0.1)
    assert {call[0] for call in queue.changes} == {"update", "delete"}
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


def test_a_new_batch_should_wait_until_few_enough_are_running() -> None:
    started: list[str] = []

    def hang(msg: func.QueueMessage) -> None:
        started.append(str(msg.id))
        time.sleep(0.5)

    pages = [[message("a", number=n), message("b", number=n + 1)] for n in (1, 3)]
    queue = FakeQueue("work", *pages)
    run(queue, FakeQueue("work-poison"), hang, drain=0.01)
    assert sorted(started) == ["m1", "m2"]
    assert len([call for call in queue.calls if call[0] == "receive"]) == 1


def test_a_stop_should_give_unfinished_messages_back_at_once_and_never_poison_them() -> None:
    queue, poison = FakeQueue("work", [message("hello", dequeued=3)]), FakeQueue("work-poison")
    run(
        queue,
        poison,
        sleep(0.5),
        options=OPTIONS.model_copy(update={"visibility_timeout": timedelta(seconds=30)}),
        drain=0.01,
    )
    assert queue.changes == [("update", "m1", "r1", 0)]
    assert poison.calls == []


def test_a_missing_queue_should_be_waited_for_quietly(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "devhost")
    queue = FakeQueue("work", ResourceNotFoundError(), ResourceNotFoundError(), [message("hello")])
    run(queue, FakeQueue("work-poison"), seconds=0.4)
    assert [record.getMessage() for record in caplog.records if "queue 'work'" in record.getMessage()] == [
        "queue 'work' does not exist yet; waiting for it",
        "queue 'work' is there",
    ]
    assert queue.changes == [("delete", "m1", "r1")]


REFUSED, SILENT, BUSY = ServiceRequestError("refused"), ServiceResponseError("no answer"), HttpResponseError("503")


@pytest.mark.parametrize("pages", [[REFUSED], [REFUSED, SILENT, REFUSED], [SILENT] * 3, [BUSY] * 3])
def test_storage_that_is_away_for_a_moment_or_answers_badly_should_not_end_the_listener(pages: list[Exception]) -> None:
    queue = FakeQueue("work", *pages, [message("hello")])
    run(queue, FakeQueue("work-poison"), seconds=0.8, refused=0)
    assert queue.changes == [("delete", "m1", "r1")]


def test_storage_that_goes_on_refusing_connections_should_end_the_host() -> None:
    queue = FakeQueue("work", REFUSED, REFUSED, [message("hello")])
    with pytest.raises(ServiceRequestError):
        run(queue, FakeQueue("work-poison"), seconds=0.3, refused=0)
    assert queue.changes == []
    assert REFUSED_LIMIT + 5 <= 20


def test_an_empty_queue_should_be_asked_less_and_less_often_until_a_message_comes() -> None:
    idle, busy = FakeQueue("work"), FakeQueue("work", *[[message("hello")]] * 20)
    for queue in (idle, busy):
        run(queue, FakeQueue("work-poison"), seconds=0.35)
    # Polls at 0, 0.1, 0.3 s; after messages at once.
    assert len([call for call in idle.calls if call[0] == "receive"]) == 3
    assert len([call for call in busy.calls if call[0] == "receive"]) > 20


def test_a_function_should_get_the_text_and_what_the_queue_knows_of_it() -> None:
    got: list[tuple[object, ...]] = []

    def keep(msg: func.QueueMessage) -> None:
        got.append((msg.id, msg.dequeue_count, msg.pop_receipt, msg.get_body()))

    run(FakeQueue("work", [message("hello", dequeued=2)]), FakeQueue("work-poison"), keep)
    assert got == [("m1", 2, "r1", b"hello")]


@pytest.mark.parametrize(
    ("body", "runs"),
    [
        ('{"ID": "x", "DequeueCount": 7}', [("x", 7)]),
        ('{"expirationTime": "2026-01-01T00:00:00Z"}', [("m1", 1)]),
        ('{"expirationTime": "soon"}', []),
        ('{"dequeueCount": "many"}', []),
        ('["id"]', [("m1", 1)]),
        ("[" * 5000, [("m1", 1)]),
    ],
)
def test_a_json_body_should_overwrite_what_the_queue_knows_and_fail_by_a_wrong_type(
    body: str, runs: list[tuple[str, int]]
) -> None:
    got: list[tuple[object, ...]] = []
    queue = FakeQueue("work", [message(body)])
    run(queue, FakeQueue("work-poison"), lambda msg: got.append((msg.id, msg.dequeue_count)))
    assert got == runs
    assert queue.changes == [("delete" if runs else "update", "m1", "r1", *([] if runs else [0]))]


@pytest.mark.parametrize("settings", [{}, {"AzureWebJobsStorage": "nonsense"}])
def test_a_missing_or_wrong_connection_should_be_refused_by_name(settings: dict[str, str]) -> None:
    with pytest.raises(HostError, match="'AzureWebJobsStorage'"):
        service_client(settings)
