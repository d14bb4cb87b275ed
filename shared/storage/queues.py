"""Messages in Azure Queue Storage, encoded as the Functions host expects them: base64 of the body's bytes.

The service counts delays in whole seconds. Delays are rounded to the nearest second, so a message arrives up to half a
second early or late; an early one finds nothing to do and is sent again with the remaining delay. Rounding up would
make every step of a fast simulation a second long.
"""

import base64
import binascii
import math
from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from azure.core.exceptions import HttpResponseError, ResourceExistsError, ResourceNotFoundError
from pydantic import BaseModel

from shared.storage.base import QueuedMessage
from shared.table_errors import code_of, translated

if TYPE_CHECKING:
    # importing it takes a quarter of a second, including aiohttp; whoever has a client has imported it
    from azure.storage.queue import QueueClient, QueueServiceClient

MAX_DELAY_SECONDS: Final = 7 * 24 * 3600
"""The service's maximum delay."""
READ_AT_ONCE: Final = 32
"""Messages per request, the service's maximum."""
LOOKED_AT_SECONDS: Final = 60
"""How long a poison message is hidden while it is processed: far longer than it takes to fail one instance."""
FOR_EVER: Final = -1
"""Messages do not expire: one delayed by seven days would otherwise expire before it becomes visible."""


def visibility(delay_seconds: float) -> int:
    """The delay in whole seconds, rounded to the nearest.

    Raises:
        ValueError: The delay is not a number from 0 to seven days.
    """
    if not 0 <= delay_seconds <= MAX_DELAY_SECONDS:
        raise ValueError(f"a delay of {delay_seconds} s; must be from 0 to {MAX_DELAY_SECONDS} s")
    return math.floor(delay_seconds + 0.5)


def poison_queue(queue: str) -> str:
    """Where the host puts messages of a queue that failed."""
    return f"{queue}-poison"


class StorageQueues:
    """The queues of one storage account; see Queues. Thread-safe."""

    def __init__(self, service: "QueueServiceClient") -> None:
        self._service = service

    def send(self, queue: str, message: BaseModel, delay_seconds: float = 0.0) -> None:
        self._put(queue, message.model_dump_json(by_alias=True).encode(), visibility(delay_seconds))

    def waiting_since(self, queue: str) -> datetime | None:
        with translated(f"read what waits in {queue}"):
            try:
                waiting = self._client(queue).peek_messages(max_messages=READ_AT_ONCE)
            except ResourceNotFoundError:
                return None  # no message was ever sent
        return min((one.inserted_on for one in waiting if one.inserted_on is not None), default=None)

    def bury(self, queue: str, body: bytes) -> None:
        self._put(poison_queue(queue), body, 0)

    def poisoned(self, queue: str) -> list[QueuedMessage]:
        name = poison_queue(queue)
        with translated(f"read {name}"):
            try:
                # one page: the SDK's own iterator repeats the request until an answer is empty
                found = self._client(name).receive_messages(
                    messages_per_page=READ_AT_ONCE, visibility_timeout=LOOKED_AT_SECONDS
                )
                messages = list(next(found.by_page(), ()))
            except ResourceNotFoundError:
                return []  # no message was ever poisoned
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
        with translated(f"forget a message of {message.queue}"):
            try:
                self._client(message.queue).delete_message(message.id, message.pop_receipt)
            except HttpResponseError as error:
                # After a mismatch it is visible again, and its new reader deletes it.
                if not isinstance(error, ResourceNotFoundError) and code_of(error) != "PopReceiptMismatch":
                    raise

    def _put(self, queue: str, body: bytes, hidden: int) -> None:
        """Send in one request; a missing queue is created."""
        client = self._client(queue)
        content = base64.b64encode(body).decode()
        send = partial(client.send_message, content, visibility_timeout=hidden, time_to_live=FOR_EVER)
        with translated(f"send to {queue}"):
            try:
                send()
            except ResourceNotFoundError:
                existing_is_fine(client.create_queue, "QueueAlreadyExists")
                send()

    def _client(self, queue: str) -> "QueueClient":
        return self._service.get_queue_client(queue)


def decoded(content: str) -> bytes:
    """Return the body of a message; text that is not base64, from another program, is the body itself."""
    try:
        return base64.b64decode(content, validate=True)
    except binascii.Error:
        return content.encode()


def existing_is_fine(create: Callable[[], Any], code: str) -> None:
    """Create something that may exist already; raise other conflicts, such as a deletion in progress."""
    try:
        create()
    except ResourceExistsError as error:
        if code_of(error) != code:
            raise
