"""Messages in Azure Queue Storage, encoded as the Functions host expects them: base64 of the body's bytes.

A message's delay is kept by the service in whole seconds. Delays are rounded to the nearest second: a message comes up
to half a second early or late, and one that comes early finds nothing changed and is sent again with the rest. Rounding
up instead would make every step of a fast simulation a second long.
"""

import base64
import binascii
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from azure.core.exceptions import AzureError, ResourceExistsError, ResourceNotFoundError
from pydantic import BaseModel

from shared.storage.base import QueuedMessage
from shared.storage.failures import code_of, translate, translated

if TYPE_CHECKING:
    # importing it takes a quarter of a second, aiohttp included; whoever has a client has imported it
    from azure.storage.queue import QueueClient, QueueServiceClient

MAX_DELAY_SECONDS: Final = 7 * 24 * 3600
"""The service's longest delay."""
READ_AT_ONCE: Final = 32
"""Messages in one request; the service gives no more."""
LOOKED_AT_SECONDS: Final = 60
"""How long a poison message is hidden while it is looked at: far longer than it takes to fail one instance."""
FOR_EVER: Final = -1
"""Messages don't expire: one delayed by seven days would otherwise be gone before it can be seen."""


def visibility(delay_seconds: float) -> int:
    """The delay as the service takes it: whole seconds, the nearest, halves up, from 0 to seven days.

    Raises ValueError for a delay that is negative, longer than seven days or no number.
    """
    if not 0 <= delay_seconds <= MAX_DELAY_SECONDS:
        raise ValueError(f"a delay of {delay_seconds} s; from 0 to {MAX_DELAY_SECONDS} s can be had")
    return math.floor(delay_seconds + 0.5)


def poison_queue(queue: str) -> str:
    """Where the host puts messages of a queue that could not be processed."""
    return f"{queue}-poison"


class StorageQueues:
    """The queues of one storage account. Safe to use from several threads."""

    def __init__(self, service: "QueueServiceClient") -> None:
        self._service = service

    def send(self, queue: str, message: BaseModel, delay_seconds: float = 0.0) -> None:
        """Put a message, visible after `delay_seconds` (0 to 7 days, to the nearest second), in one request.

        A queue that is missing is made. Raises StoreUnavailableError; it may then have been put all the same.
        """
        hidden = visibility(delay_seconds)
        self._put(queue, message.model_dump_json(by_alias=True).encode(), hidden)

    def bury(self, queue: str, body: bytes) -> None:
        """Put a body into the queue's poison queue, as it came. Raises StoreUnavailableError."""
        self._put(poison_queue(queue), body, 0)

    def poisoned(self, queue: str) -> list[QueuedMessage]:
        """Up to 32 messages of the queue's poison queue, hidden from others for a minute; their `queue` is that queue.

        Raises StoreUnavailableError.
        """
        name = poison_queue(queue)
        doing = f"read {name}"
        try:
            # one page: the SDK's own iterator asks again until an answer is empty
            pages = (
                self._client(name)
                .receive_messages(messages_per_page=READ_AT_ONCE, visibility_timeout=LOOKED_AT_SECONDS)
                .by_page()
            )
            messages = list(next(pages, ()))
        except ResourceNotFoundError:
            return []  # nothing was ever poisoned
        except AzureError as error:
            raise translate(error, doing) from error
        return [
            QueuedMessage(
                queue=name,
                id=str(one.id),
                pop_receipt=str(one.pop_receipt),
                dequeue_count=one.dequeue_count or 0,
                body=decoded(str(one.content)),
            )
            for one in messages
        ]

    def forget(self, message: QueuedMessage) -> None:
        """Delete a message taken by `poisoned`; one that is gone, or with another reader by now, is fine.

        Raises StoreUnavailableError.
        """
        try:
            self._client(message.queue).delete_message(message.id, message.pop_receipt)
        except ResourceNotFoundError:
            return
        except AzureError as error:
            if code_of(error) == "PopReceiptMismatch":
                return  # it was visible again and whoever took it then deletes it
            raise translate(error, f"forget a message of {message.queue}") from error

    def _put(self, queue: str, body: bytes, hidden: int) -> None:
        client = self._client(queue)
        content = base64.b64encode(body).decode()

        def send() -> object:
            return client.send_message(content, visibility_timeout=hidden, time_to_live=FOR_EVER)

        with translated(f"send to {queue}"):
            try:
                send()
            except ResourceNotFoundError:
                existing_is_fine(client.create_queue, "QueueAlreadyExists")
                send()

    def _client(self, queue: str) -> "QueueClient":
        return self._service.get_queue_client(queue)


def decoded(content: str) -> bytes:
    """The body in a message's text; a text that is no base64, from another program, is the body itself."""
    try:
        return base64.b64decode(content, validate=True)
    except binascii.Error:
        return content.encode()


def existing_is_fine(create: Callable[[], Any], code: str) -> None:
    """Create something that may be there already; any other conflict, such as a deletion under way, is raised."""
    try:
        create()
    except ResourceExistsError as error:
        if code_of(error) != code:
            raise
