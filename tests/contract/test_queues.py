"""One suite for every Queues: the twin in memory and the real thing, on Azurite."""

import base64
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from azure.core.exceptions import ResourceExistsError
from azure.storage.queue import QueueServiceClient

from devhost.azurite import free_ports
from shared.domain.messages import ProbeMessage, StepMessage, read_message
from shared.errors import StoreUnavailableError
from shared.settings import Settings
from shared.storage import connect
from shared.storage.base import QueuedMessage, Queues
from shared.storage.queues import MAX_DELAY_SECONDS, StorageQueues, existing_is_fine, poison_queue, visibility
from tests.contract.conftest import ACCOUNTS, Account, account_of, timed_out, unique
from tests.twins.clock import ManualClock
from tests.twins.factories import make_instance_id
from tests.twins.queues import MemoryQueues

STEP = StepMessage(instanceId=make_instance_id(), epoch=3, step="advance")


@dataclass
class Bench:
    """Queues under test and how time passes and messages are seen on the other side."""

    queues: Queues
    queue: str
    visible: Callable[[], list[bytes]]
    """Bodies visible now, left where they are."""
    let_pass: Callable[[float], Any]


@pytest.fixture(params=["twin", *ACCOUNTS])
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    queue = unique("queue")
    if request.param == "twin":
        clock = ManualClock()
        twin = MemoryQueues(clock)
        yield Bench(twin, queue, lambda: [one.body for one in twin.take(queue, 32, 0)], clock.advance)
        return
    account = account_of(request)
    client = account.queues.get_queue_client(queue)

    def visible() -> list[bytes]:
        return [base64.b64decode(one.content, validate=True) for one in client.peek_messages(32)]

    yield Bench(StorageQueues(account.queues), queue, visible, account.let_pass)
    client.delete_queue()


def test_a_message_arrives_as_it_was_sent_in_a_queue_that_was_not_there(bench: Bench) -> None:
    probe = ProbeMessage(instanceId=make_instance_id(2), lastInstanceId=make_instance_id(1))
    bench.queues.send(bench.queue, STEP)
    bench.queues.send(bench.queue, probe)
    first, second = bench.visible()
    assert read_message(StepMessage, first) == STEP
    assert read_message(ProbeMessage, second) == probe
    assert b'"instanceId"' in first


def test_a_delayed_message_is_seen_after_its_delay_and_not_before(bench: Bench) -> None:
    bench.queues.send(bench.queue, STEP, delay_seconds=1)
    assert bench.visible() == []
    bench.let_pass(1.2)
    assert len(bench.visible()) == 1


def test_a_delay_of_less_than_half_a_second_is_none(bench: Bench) -> None:
    bench.queues.send(bench.queue, STEP, delay_seconds=0.4)
    assert len(bench.visible()) == 1


def test_the_longest_delay_is_taken(bench: Bench) -> None:
    bench.queues.send(bench.queue, STEP)
    bench.queues.send(bench.queue, STEP, delay_seconds=MAX_DELAY_SECONDS)
    assert len(bench.visible()) == 1


@pytest.mark.parametrize("delay", [-0.1, MAX_DELAY_SECONDS + 1, float("nan"), float("inf")])
def test_a_delay_that_can_t_be_had_is_refused(delay: float) -> None:
    with pytest.raises(ValueError, match="delay"):
        MemoryQueues(ManualClock()).send("q", STEP, delay)


@pytest.mark.parametrize(("delay", "seconds"), [(0, 0), (0.49, 0), (0.5, 1), (1.4, 1), (1.5, 2), (2.5, 3), (15, 15)])
def test_delays_are_rounded_to_the_nearest_second(delay: float, seconds: int) -> None:
    assert visibility(delay) == seconds


@pytest.mark.parametrize("body", [b"\xff\x00 no text", b"", b"[1]", "é🚀".encode(), b"x" * 40_000])
def test_a_buried_body_comes_back_as_it_was_and_can_be_forgotten(bench: Bench, body: bytes) -> None:
    bench.queues.send(bench.queue, STEP)
    bench.queues.bury(bench.queue, body)
    (poisoned,) = bench.queues.poisoned(bench.queue)
    assert (poisoned.body, poisoned.queue, poisoned.dequeue_count) == (body, poison_queue(bench.queue), 1)
    assert bench.queues.poisoned(bench.queue) == []
    bench.queues.forget(poisoned)
    bench.queues.forget(poisoned)
    assert bench.queues.poisoned(bench.queue) == []
    assert len(bench.visible()) == 1


def test_no_poison_queue_means_no_poison(bench: Bench) -> None:
    bench.queues.send(bench.queue, STEP)
    assert bench.queues.poisoned(bench.queue) == []
    assert bench.queues.poisoned("nothing-was-ever-here") == []
    bench.queues.forget(
        QueuedMessage(
            queue="nothing-was-ever-here",
            id="5d8e1b5c-0000-4000-8000-000000000000",
            pop_receipt="AAAA",
            dequeue_count=1,
            body=b"",
        )
    )


def test_at_most_32_poison_messages_at_once(bench: Bench) -> None:
    bench.queues.send(bench.queue, STEP)
    for number in range(35):
        bench.queues.bury(bench.queue, b"%d" % number)
    assert len(bench.queues.poisoned(bench.queue)) == 32
    assert len(bench.queues.poisoned(bench.queue)) == 3


def test_a_poison_message_that_was_not_forgotten_comes_again() -> None:
    clock = ManualClock()
    twin = MemoryQueues(clock)
    twin.bury("q", b"x")
    (first,) = twin.poisoned("q")
    clock.advance(61)
    (second,) = twin.poisoned("q")
    assert second.dequeue_count == 2
    twin.forget(first)  # an old receipt deletes nothing
    assert twin.depth(poison_queue("q")) == 1


def test_a_poison_message_is_hidden_for_the_minute_in_which_it_is_settled(account: Account) -> None:
    queues, queue = StorageQueues(account.queues), unique("queue")
    queues.bury(queue, b"x")
    account.start_counting()
    queues.poisoned(queue)
    (request,) = account.requests
    assert parse_qs(urlsplit(request).query)["visibilitytimeout"] == ["60"]


@pytest.mark.parametrize(("code", "fine"), [("QueueAlreadyExists", True), ("QueueBeingDeleted", False)])
def test_only_a_queue_that_is_there_already_counts_as_made(code: str, fine: bool) -> None:
    def create() -> None:
        error = ResourceExistsError("conflict")
        error.error_code = code  # pyright: ignore[reportAttributeAccessIssue] - as the storage libraries set it
        raise error

    with nullcontext() if fine else pytest.raises(ResourceExistsError):
        existing_is_fine(create, "QueueAlreadyExists")


def test_a_receipt_that_is_out_of_date_is_left_to_the_other_reader(account: Account) -> None:
    queues, queue = StorageQueues(account.queues), unique("queue")
    queues.bury(queue, b"x")
    (message,) = queues.poisoned(queue)
    client = account.queues.get_queue_client(poison_queue(queue))
    client.update_message(message.id, message.pop_receipt, visibility_timeout=0)
    queues.forget(message)
    assert len(queues.poisoned(queue)) == 1


def test_a_text_of_another_program_is_given_as_it_is(account: Account) -> None:
    queues, queue = StorageQueues(account.queues), unique("queue")
    client = account.queues.get_queue_client(poison_queue(queue))
    client.create_queue()
    client.send_message("{no base64}")
    (message,) = queues.poisoned(queue)
    assert message.body == b"{no base64}"


def test_requests_per_call(account: Account) -> None:
    queues, queue = StorageQueues(account.queues), unique("queue")
    account.start_counting()
    queues.send(queue, STEP)
    assert len(account.requests) == 3, "the queue was missing: refused, made, sent"
    account.start_counting()
    queues.send(queue, STEP)
    assert len(account.requests) == 1
    queues.bury(queue, b"x")
    account.start_counting()
    (message,) = queues.poisoned(queue)
    queues.forget(message)
    assert len(account.requests) == 2


def test_a_queue_made_by_somebody_else_meanwhile_is_used(account: Account) -> None:
    queues, queue = StorageQueues(account.queues), unique("queue")

    def somebody_makes_it() -> int:
        account.queues.get_queue_client(queue).create_queue()
        return 404

    account.transport.answers.append(somebody_makes_it)
    queues.send(queue, STEP)
    assert len(account.queues.get_queue_client(queue).peek_messages(5)) == 1


def test_ensure_makes_what_is_missing_and_leaves_what_is_there(account: Account) -> None:
    names = [unique("queue"), unique("queue")]
    for _ in range(2):
        account.start_counting()
        connect.ensure(account.table, account.queues, names)
        assert len(account.requests) == 3
    assert account.queues.get_queue_client(names[1]).get_queue_properties().approximate_message_count == 0


def test_an_answer_that_does_not_come_is_unavailable(account: Account) -> None:
    connection = account.settings.storage_connection
    assert connection is not None
    service = QueueServiceClient.from_connection_string(
        connection.get_secret_value(), transport=account.transport, retry_total=0
    )
    queues, queue = StorageQueues(service), unique("queue")
    queues.send(queue, STEP)
    message = QueuedMessage(
        queue=queue, id="5d8e1b5c-0000-4000-8000-000000000000", pop_receipt="AAAA", dequeue_count=1, body=b""
    )
    calls: list[Callable[[], object]] = [
        lambda: queues.send(queue, STEP),
        lambda: queues.bury(queue, b""),
        lambda: queues.poisoned(queue),
        lambda: queues.forget(message),
    ]
    for call in calls:
        for answer in (timed_out(), 503):
            account.transport.answers.append(answer)
            with pytest.raises(StoreUnavailableError):
                call()
            assert not account.transport.answers


def test_a_service_that_is_not_there_is_unavailable() -> None:
    (port,) = free_ports(1)
    settings = Settings.model_validate(
        {
            "AzureWebJobsStorage": f"AccountName=nobody;AccountKey=bm9ib2R5;QueueEndpoint=http://127.0.0.1:{port}/nobody;"
            f"TableEndpoint=http://127.0.0.1:{port}/nobody",
            "AZURE_FUNCTIONS_ENVIRONMENT": "Development",
        }
    )
    table = connect.table_client(settings, retry_total=0)
    service = connect.queue_service(settings, retry_policy=None, retry_total=0)
    with pytest.raises(StoreUnavailableError):
        StorageQueues(service).send("queue", STEP)
    with pytest.raises(StoreUnavailableError):
        connect.ensure(table, service, [])


def test_the_oldest_message_that_waits_should_be_known(bench: Bench) -> None:
    assert bench.queues.waiting_since(bench.queue) is None
    bench.queues.send(bench.queue, STEP)
    since = bench.queues.waiting_since(bench.queue)
    assert since is not None
    bench.let_pass(1.1)
    bench.queues.send(bench.queue, STEP)
    assert bench.queues.waiting_since(bench.queue) == since


def test_a_message_that_is_delayed_or_taken_should_not_wait(bench: Bench) -> None:
    bench.queues.send(bench.queue, STEP, delay_seconds=60)
    assert bench.queues.waiting_since(bench.queue) is None
