"""Storage Queue triggers: the real extension's polling, leases, retries and poison queues."""

import asyncio
import base64
import binascii
import json
import logging
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any, cast

from azure.core.exceptions import AzureError, HttpResponseError, ResourceExistsError, ResourceNotFoundError
from azure.functions.queue import QueueMessage
from azure.storage.queue import QueueMessage as StorageMessage
from azure.storage.queue.aio import QueueServiceClient

from devhost.app import QueueFunction
from devhost.config import HostError, QueueOptions
from devhost.invoke import Invoker

log = logging.getLogger("devhost.queue")

# Seconds that a received message stays hidden, renewed when half of them have passed. Less is for crash tests only.
LEASE = 600.0
_MINIMUM_DELAY = 0.1
# Seconds, as in the .NET client. The Python client waits 15 s before its first retry: a whole outage of Azurite.
_RETRIES: dict[str, Any] = {"initial_backoff": 0.5, "increment_base": 2, "random_jitter_range": 0, "retry_total": 2}
_POISON = "-poison"


def service_client(settings: Mapping[str, str]) -> QueueServiceClient:
    """Open the storage account that AzureWebJobsStorage names.

    Raises:
        HostError: the setting is missing or is not a connection string.
    """
    try:
        return QueueServiceClient.from_connection_string(settings["AzureWebJobsStorage"], **_RETRIES)
    except KeyError:
        raise HostError("the setting 'AzureWebJobsStorage' is missing") from None
    except ValueError as error:
        raise HostError(f"the setting 'AzureWebJobsStorage' is not a valid connection string: {error}") from error


def decode(content: str) -> bytes:
    """Return the body's bytes.

    Raises:
        ValueError: the content is not base64.
    """
    try:
        return base64.b64decode("".join(content.split()), validate=True)
    except binascii.Error as error:
        raise ValueError(f"not base64: {error}") from error


def trigger_value(message: StorageMessage, body: bytes) -> QueueMessage:
    """Build what the function is given.

    Top-level properties of a JSON body overwrite the message's own id, dequeue count and pop receipt, without regard to
    case: so does the real host, which puts both into the same binding data.

    Raises:
        ValueError: the body is not UTF-8, or its dequeue count is not a number; the real host's invocation fails, too.
    """
    text = body.decode()
    fields: dict[str, Any] = {}
    with suppress(ValueError):
        parsed: Any = json.loads(text)
        if isinstance(parsed, dict):
            fields = {name.lower(): value for name, value in cast(dict[str, Any], parsed).items()}
    return QueueMessage(
        id=str(fields.get("id", message.id)),
        body=text,
        dequeue_count=int(fields.get("dequeuecount", message.dequeue_count)),
        expiration_time=message.expires_on,
        insertion_time=message.inserted_on,
        time_next_visible=message.next_visible_on,
        pop_receipt=str(fields.get("popreceipt", message.pop_receipt)),
    )


class QueueListener:
    """Feeds one function from its queue. A queue that is itself a poison queue gets none."""

    def __init__(
        self,
        function: QueueFunction,
        service: QueueServiceClient,
        options: QueueOptions,
        invoker: Invoker,
        *,
        lease: float = LEASE,
    ) -> None:
        self._function = function
        self._queue = service.get_queue_client(function.queue)
        own_poison = function.queue.endswith(_POISON)
        self._poison = None if own_poison else service.get_queue_client(function.queue + _POISON)
        self._options = options
        self._invoker = invoker
        self._lease = lease
        self._processing: set[asyncio.Task[None]] = set()
        self._trouble = ""

    async def run(self) -> None:
        """Poll until cancelled: at once after a message, else with pauses that double. `drain` ends what was taken."""
        delay = _MINIMUM_DELAY
        while True:
            while len(self._processing) > self._options.new_batch_threshold:
                await asyncio.wait(self._processing, return_when=asyncio.FIRST_COMPLETED)
            batch = await self._receive()
            for message in batch:
                task = asyncio.create_task(self._process(message))
                self._processing.add(task)
                task.add_done_callback(self._processing.discard)
            if batch:
                delay = _MINIMUM_DELAY
            else:
                await asyncio.sleep(delay)
                delay = min(delay * 2, self._options.max_polling_interval.total_seconds())

    async def drain(self, seconds: float) -> None:
        """Wait for running functions; give the messages of those that did not end back to the queue."""
        if not self._processing:
            return
        _, late = await asyncio.wait(set(self._processing), timeout=seconds)
        for task in late:
            task.cancel()
        if late:
            await asyncio.wait(late, timeout=1.0)

    async def _receive(self) -> list[StorageMessage]:
        trouble = ""
        messages: list[StorageMessage] = []
        try:
            pages = self._queue.receive_messages(
                messages_per_page=self._options.batch_size, visibility_timeout=round(self._lease)
            ).by_page()
            # One page is one call; going on would ask a queue that was just emptied once more.
            async for page in pages:
                messages = [message async for message in page]
                break
        except ResourceNotFoundError:
            trouble = "does not exist yet; waiting for it"
        except AzureError as error:
            trouble = f"cannot be read: {str(error).splitlines()[0]}"
        if trouble != self._trouble:
            log.info("queue '%s' %s", self._queue.queue_name, trouble or "is there")
            self._trouble = trouble
        return messages

    async def _process(self, message: StorageMessage) -> None:
        try:
            if (message.dequeue_count or 0) > self._options.max_dequeue_count:
                await self._to_poison(message, "was taken too often without an end")
                return
            try:
                body = decode(str(message.content))
            except ValueError as error:
                # The host moves what it cannot decode at once, without running the function.
                await self._to_poison(message, f"cannot be decoded ({error})")
                return
            async with self._renewed(message):
                outcome = await self._invoke(message, body)
            await self._complete(message, outcome)
        except AzureError:
            log.exception("message %s of queue '%s' could not be settled", message.id, self._queue.queue_name)

    async def _invoke(self, message: StorageMessage, body: bytes) -> bool | None:
        """Return whether the function succeeded; None if the host stopped before it ended."""
        name = self._function.name
        try:
            await self._invoker(self._function, trigger_value(message, body))
        except asyncio.CancelledError:
            log.warning("function '%s' was stopped; message %s goes back to the queue", name, message.id)
            return None
        except Exception:
            log.exception("function '%s' failed on message %s, try %s", name, message.id, message.dequeue_count)
            return False
        log.info("function '%s' handled message %s, try %s", name, message.id, message.dequeue_count)
        return True

    async def _complete(self, message: StorageMessage, outcome: bool | None) -> None:
        try:
            if outcome:
                await self._queue.delete_message(message.id, str(message.pop_receipt))
            elif outcome is None or (self._poison and (message.dequeue_count or 0) < self._options.max_dequeue_count):
                delay = 0 if outcome is None else round(self._options.visibility_timeout.total_seconds())
                await self._queue.update_message(message.id, str(message.pop_receipt), visibility_timeout=delay)
            else:
                # Without a poison queue the message stays invisible until its lease ends, to prevent a fast loop.
                await self._to_poison(message, "failed for the last time")
        except HttpResponseError as error:
            if not _lost(error):
                raise
            log.debug("message %s is no longer ours: %s", message.id, error.message)

    async def _to_poison(self, message: StorageMessage, why: str) -> None:
        if self._poison is None:
            return
        log.warning(
            "message %s of queue '%s' %s; moving it to '%s'",
            message.id, self._queue.queue_name, why, self._poison.queue_name,
        )  # fmt: skip
        try:
            # The text goes over as it is, in whatever encoding it came.
            await self._poison.send_message(str(message.content))
        except ResourceNotFoundError:
            with suppress(ResourceExistsError):
                await self._poison.create_queue()
            await self._poison.send_message(str(message.content))
        with suppress(ResourceNotFoundError):
            await self._queue.delete_message(message.id, str(message.pop_receipt))

    @asynccontextmanager
    async def _renewed(self, message: StorageMessage) -> AsyncGenerator[None]:
        renewal = asyncio.create_task(self._renew(message))
        try:
            yield
        finally:
            renewal.cancel()
            await asyncio.wait({renewal})

    async def _renew(self, message: StorageMessage) -> None:
        delay = self._lease / 2
        while True:
            await asyncio.sleep(delay)
            try:
                updated = await self._queue.update_message(
                    message.id, str(message.pop_receipt), visibility_timeout=round(self._lease)
                )
            except AzureError as error:
                if isinstance(error, HttpResponseError) and _lost(error):
                    return
                delay = max(delay / 2, 1.0)
            else:
                message.pop_receipt = updated.pop_receipt
                delay = self._lease / 2


def _lost(error: HttpResponseError) -> bool:
    """Return whether somebody else has the message or it is deleted: then there is nothing left to do."""
    code = str(getattr(error, "error_code", ""))
    return isinstance(error, ResourceNotFoundError) or "PopReceiptMismatch" in code or "QueueBeingDeleted" in code
