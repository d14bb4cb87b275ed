"""Azurite as the contract suites see it: clients made from settings, over a transport that can count and lose."""

import itertools
import os
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

import pytest
from azure.core.exceptions import ServiceResponseError, ServiceResponseTimeoutError
from azure.core.pipeline.transport import RequestsTransport
from azure.data.tables import TableClient
from azure.storage.queue import QueueServiceClient

from devhost.azurite import Azurite
from shared.settings import Settings
from shared.storage import connect
from shared.storage.tables import TableInstanceStore
from tests.twins.store import MemoryInstanceStore

_NUMBERS = itertools.count(1)


class WatchedTransport(RequestsTransport):
    """Sends requests for real, writes them down, and tampers with answers as told."""

    def __init__(self, **config: Any) -> None:
        super().__init__(**config)  # pyright: ignore[reportUnknownMemberType]
        self.requests: list[str] = []
        """Methods and addresses of the requests sent."""
        self.answers: deque[int | Exception | Callable[[], int]] = deque()
        """What becomes of the next answers, once the service did its work: another status, a call for one, an error."""

    def send(self, request: Any, **kwargs: Any) -> Any:
        self.requests.append(f"{request.method} {request.url}")
        response = cast(Any, super().send(request, **kwargs))  # pyright: ignore[reportUnknownMemberType]
        if self.answers:
            change = self.answers.popleft()
            if isinstance(change, Exception):
                response.internal_response.close()
                raise change
            _refuse(response, change if isinstance(change, int) else change())
        return response


def _refuse(response: Any, status: int) -> None:
    """Turn an answer into the service's refusal of that status."""
    inner = response.internal_response
    inner.content  # noqa: B018 - reads the true answer off the connection, which is used again
    code = "QueueNotFound" if status == 404 else "ServerBusy"
    response.status_code = inner.status_code = status
    response._content = inner._content = (
        f'<?xml version="1.0"?><Error><Code>{code}</Code><Message>no.</Message></Error>'.encode()
    )
    inner.headers.clear()
    inner.headers.update({"Content-Type": "application/xml", "x-ms-error-code": code})
    response.headers = inner.headers
    response.content_type = "application/xml"


def timed_out() -> ServiceResponseTimeoutError:
    """The error of a request that was sent and never answered."""
    return ServiceResponseTimeoutError("no answer in time")


def reset() -> ServiceResponseError:
    """The error of a request whose connection the service closed, as it does with one that was idle for a while."""
    return ServiceResponseError("('Connection aborted.', ConnectionResetError(104, 'Connection reset by peer'))")


@dataclass
class Account:
    """A storage account on Azurite, watched."""

    settings: Settings
    table: TableClient
    queues: QueueServiceClient
    transport: WatchedTransport = field(repr=False)

    def start_counting(self) -> None:
        self.transport.requests.clear()

    @property
    def requests(self) -> list[str]:
        return list(self.transport.requests)


def unique(prefix: str) -> str:
    """A name that no other test uses, in this process or another on the same Azurite."""
    return f"{prefix}-{os.getpid()}-{next(_NUMBERS)}"


@pytest.fixture(scope="session")
def whole_account(azurite: Azurite) -> Account:
    """Clients of the session's Azurite, with the table made."""
    settings = Settings.model_validate(
        {"AzureWebJobsStorage": azurite.connection_string, "AZURE_FUNCTIONS_ENVIRONMENT": "Development"}
    )
    transport = WatchedTransport(connection_timeout=5, read_timeout=15)
    table = connect.table_client(settings, transport=transport, retry_backoff_factor=0)
    queues = connect.queue_service(settings, transport=transport)
    connect.ensure(table, queues, [])
    return Account(settings, table, queues, transport)


@pytest.fixture(params=["twin", "azurite"])
def store(request: pytest.FixtureRequest) -> MemoryInstanceStore | TableInstanceStore:
    """Each InstanceStore in its turn, empty."""
    if request.param == "twin":
        return MemoryInstanceStore()
    account: Account = request.getfixturevalue("account")
    return TableInstanceStore(account.table, unique("store"))


@pytest.fixture
def account(whole_account: Account) -> Account:
    """The session's account, with whatever an earlier test still wanted done to answers forgotten."""
    whole_account.transport.answers.clear()
    whole_account.start_counting()
    return whole_account
