"""Azurite and its stand-in as the contract suites see them: clients made from settings, over a transport that can count
and lose."""

import itertools
import os
import time
from collections import deque
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Self

import pytest
from azure.core.exceptions import ServiceResponseError, ServiceResponseTimeoutError
from azure.core.pipeline.transport import HttpTransport, RequestsTransport
from azure.core.rest import HttpRequest, HttpResponse
from azure.data.tables import TableClient
from azure.storage.queue import QueueServiceClient

from devhost.azurite import Azurite
from shared.settings import Settings
from shared.storage import connect
from shared.storage.tables import TableInstanceStore
from tests.standins.storage.account import StorageAccount
from tests.standins.storage.shapes import Reply
from tests.standins.storage.transport import CONNECTION, WireTransport, response, unpacked_batches
from tests.twins.clock import START, ManualClock
from tests.twins.store import MemoryInstanceStore

_NUMBERS = itertools.count(1)
ACCOUNTS = ("azurite_alone", "standin", "unpacked")
"""Fixtures that are a storage account."""


def account_of(request: pytest.FixtureRequest) -> "Account":
    """The storage account that a parametrized fixture is to use."""
    found: Account = request.getfixturevalue(request.param)
    return found


class WatchedTransport(HttpTransport[HttpRequest, HttpResponse]):
    """Writes requests down, and tampers with answers as told."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self.requests: list[str] = []
        """Methods and addresses of the requests sent."""
        self.answers: deque[int | Exception | Callable[[], int]] = deque()
        """What becomes of the next answers, once the service did its work: another status, a call for one, an error."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return

    def open(self) -> None:
        self._inner.open()

    def close(self) -> None:
        self._inner.close()

    def sleep(self, duration: float) -> None:
        self._inner.sleep(duration)

    def send(self, request: HttpRequest, **kwargs: Any) -> HttpResponse:
        self.requests.append(f"{request.method} {request.url}")
        answer: HttpResponse = self._inner.send(request, **kwargs)
        if not self.answers:
            return answer
        change = self.answers.popleft()
        if isinstance(change, Exception):
            answer.close()
            raise change
        answer.read()  # the connection is used again
        return _refusal(request, change if isinstance(change, int) else change())


def _refusal(request: HttpRequest, status: int) -> HttpResponse:
    """The service's refusal of that status."""
    code = "QueueNotFound" if status == 404 else "ServerBusy"
    body = f'<?xml version="1.0"?><Error><Code>{code}</Code><Message>no.</Message></Error>'.encode()
    reply = Reply(status=status, headers={"x-ms-error-code": code}, body=body, content_type="application/xml")
    return response(request, reply)


def timed_out() -> ServiceResponseTimeoutError:
    """The error of a request that was sent and never answered."""
    return ServiceResponseTimeoutError("no answer in time")


def reset() -> ServiceResponseError:
    """The error of a request whose connection the service closed, as it does with one that was idle for a while."""
    return ServiceResponseError("('Connection aborted.', ConnectionResetError(104, 'Connection reset by peer'))")


@dataclass
class Account:
    """A storage account on Azurite or on the stand-in, watched."""

    settings: Settings
    table: TableClient
    queues: QueueServiceClient
    transport: WatchedTransport = field(repr=False)
    let_pass: Callable[[float], Any] = time.sleep

    def start_counting(self) -> None:
        self.transport.requests.clear()

    @property
    def requests(self) -> list[str]:
        return list(self.transport.requests)


def unique(prefix: str) -> str:
    """A name that no other test uses, in this process or another on the same Azurite."""
    return f"{prefix}-{os.getpid()}-{next(_NUMBERS)}"


def _account(connection: str, inner: Any, let_pass: Callable[[float], Any]) -> Account:
    """An account's clients, with the table made."""
    settings = Settings.model_validate(
        {"AzureWebJobsStorage": connection, "AZURE_FUNCTIONS_ENVIRONMENT": "Development"}
    )
    transport = WatchedTransport(inner)
    table = connect.table_client(settings, transport=transport, retry_backoff_factor=0)
    queues = connect.queue_service(settings, transport=transport)
    connect.ensure(table, queues, [])
    return Account(settings, table, queues, transport, let_pass)


@pytest.fixture(scope="session")
def azurite_account(azurite: Azurite) -> Account:
    """Clients of the session's Azurite."""
    inner = RequestsTransport(connection_timeout=5, read_timeout=15)
    return _account(azurite.connection_string, inner, time.sleep)


def _standin_account() -> Account:
    # Later than every time that the tests write, as a real service's clock is.
    clock = ManualClock(START + timedelta(days=365))
    service = StorageAccount(clock.now)
    account = _account(CONNECTION, WireTransport(service.answer, clock.advance), clock.advance)
    account.start_counting()
    return account


@pytest.fixture
def standin() -> Account:
    """The stand-in, which gets transactions packed as Azure does."""
    return _standin_account()


@pytest.fixture
def unpacked() -> Generator[Account]:
    """The stand-in as the simulation uses it."""
    with unpacked_batches():
        yield _standin_account()


@pytest.fixture
def azurite_alone(azurite_account: Account) -> Account:
    """The session's Azurite, for what only a network can show."""
    azurite_account.transport.answers.clear()
    azurite_account.start_counting()
    return azurite_account


@pytest.fixture(params=ACCOUNTS)
def account(request: pytest.FixtureRequest) -> Account:
    """Each storage account in its turn."""
    return account_of(request)


@pytest.fixture(params=["twin", *ACCOUNTS])
def store(request: pytest.FixtureRequest) -> MemoryInstanceStore | TableInstanceStore:
    """Each InstanceStore in its turn, empty."""
    if request.param == "twin":
        return MemoryInstanceStore()
    return TableInstanceStore(account_of(request).table, unique("store"))
