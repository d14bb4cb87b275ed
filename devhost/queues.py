"""Storage Queue triggers: the real extension's polling, leases, retries and poison queues."""

import asyncio
import base64
import json
import logging
import time
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from typing import Any, cast

from azure.core.exceptions import AzureError, ResourceExistsError, ResourceNotFoundError, ServiceRequestError
from azure.functions.queue import QueueMessage
from azure.storage.queue import QueueMessage as StorageMessage
from azure.storage.queue.aio import QueueServiceClient

from devhost.app import Invoker, QueueFunction
from devhost.config import HostError, QueueOptions

log = logging.getLogger("devhost.queue")

# Seconds that a received message stays hidden, renewed when half of them have passed. Less is for crash tests only.
LEASE = 600.0
_MINIMUM_DELAY = 0.1
REFUSED_LIMIT = 15.0
"""Seconds for which storage may refuse connections; the real host's listener then ends the host, within 20 in all."""
# Seconds, as in the .NET client. The Python client waits 15 s before its first retry: a whole outage of Azurite.
_RETRIES: dict[str, Any] = {"initial_backoff": 0.5, "increment_base": 2, "random_jitter_range": 0, "retry_total": 2}


def service_client(settings: Mapping[str, str]) -> QueueServiceClient:
    """Open the storage account that AzureWebJobsStorage names.

    Raises:
        HostError: The setting is missing or is not a connection string.
    """
    try:
        return QueueServiceClient.from_connection_string(settings.get("AzureWebJobsStorage", ""), **_RETRIES)
    except ValueError as error:
        raise HostError(f"the setting 'AzureWebJobsStorage' is not a valid connection string: {error}") from error


class QueueListener:
    """Feeds one function from its queue."""

    def __init__(
        self,
        function: QueueFunction,
        service: QueueServiceClient,
        options: QueueOptions,
        invoker: Invoker,
        lease: float = LEASE,
        refused_limit: float = REFUSED_LIMIT,
    ) -> None:
        self._function = function
        self._queue = service.get_queue_client(function.queue)
        self._poison = service.get_queue_client(function.queue + "-poison")
        self._options = options
        self._invoker = invoker
        self._lease = lease
        self._processing: set[asyncio.Task[None]] = set()
        self._trouble = ""
        self._refused_limit = refused_limit
        self._refused_since: float | None = None

    async def run(self) -> None:
        """Poll until cancelled: at once after a message, else with pauses that double. `drain` ends what was taken.

        Raises:
            ServiceRequestError: Storage refuses connections for too long; the host ends by that, and the platform
                starts another one. Where storage answers badly or not at all, polling goes on.
        """
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
        if self._processing:
            _, late = await asyncio.wait(self._processing, timeout=seconds)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

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
            self._count_refusal(error)
        else:
            self._refused_since = None
        if trouble != self._trouble:
            log.info("queue '%s' %s", self._queue.queue_name, trouble or "is there")
            self._trouble = trouble
        return messages

    def _count_refusal(self, error: AzureError) -> None:
        now = time.monotonic()
        if not isinstance(error, ServiceRequestError):
            self._refused_since = None
        elif self._refused_since is None:
            self._refused_since = now
        elif now - self._refused_since > self._refused_limit:
            raise error

    async def _process(self, message: StorageMessage) -> None:
        tries, limit = message.dequeue_count or 0, self._options.max_dequeue_count
        delay = round(self._options.visibility_timeout.total_seconds())
        try:
            if tries > limit:
                await self._to_poison(message, "was taken too often without an end")
                return
            try:
                body = base64.b64decode("".join(str(message.content).split()), validate=True)
            except ValueError as error:
                # The host moves what it cannot decode at once, without running the function.
                await self._to_poison(message, f"is not base64 ({error})")
                return
            try:
                succeeded = await self._invoke(message, body)
            except asyncio.CancelledError:
                log.warning("the host stops; message %s goes back to its queue", message.id)
                await self._hide(message, 0)
                return
            if succeeded:
                await self._queue.delete_message(message.id, str(message.pop_receipt))
            elif tries < limit:
                await self._hide(message, delay)
            else:
                await self._to_poison(message, "failed for the last time")
        except AzureError as error:
            # Somebody else has it, or storage cannot be reached: then it comes back when its lease ends.
            log.warning("message %s of '%s' could not be settled: %s", message.id, self._queue.queue_name, error)

    async def _invoke(self, message: StorageMessage, body: bytes) -> bool:
        """Run the function; return whether it succeeded."""
        name, renewal = self._function.name, asyncio.create_task(self._renew(message))
        try:
            await self._invoker(self._function, _received(message, body.decode()))
        except Exception:
            log.exception("function '%s' failed on message %s, try %s", name, message.id, message.dequeue_count)
            return False
        finally:
            renewal.cancel()
        log.info("function '%s' handled message %s, try %s", name, message.id, message.dequeue_count)
        return True

    async def _renew(self, message: StorageMessage) -> None:
        while True:
            await asyncio.sleep(self._lease / 2)
            with suppress(AzureError):
                await self._hide(message, round(self._lease))

    async def _hide(self, message: StorageMessage, seconds: int) -> None:
        updated = await self._queue.update_message(message.id, str(message.pop_receipt), visibility_timeout=seconds)
        message.pop_receipt = updated.pop_receipt

    async def _to_poison(self, message: StorageMessage, why: str) -> None:
        log.warning(
            "message %s of queue '%s' %s; moving it to the poison queue", message.id, self._queue.queue_name, why
        )
        with suppress(ResourceExistsError):
            await self._poison.create_queue()
        # The text goes over as it is, in whatever encoding it came.
        await self._poison.send_message(str(message.content))
        await self._queue.delete_message(message.id, str(message.pop_receipt))


def _received(message: StorageMessage, body: str) -> QueueMessage:
    """What the function gets: properties of a JSON body stand in place of the message's own, whatever their case.

    Raises:
        ValueError: One has another type; the worker fails likewise.
    """
    try:
        content: object = json.loads(body)
    except (ValueError, RecursionError):
        content = None
    properties = cast("dict[str, Any]", content) if isinstance(content, dict) else {}
    given = {name.lower(): value for name, value in properties.items()}
    dequeued, receipt = given.get("dequeuecount", message.dequeue_count), given.get("popreceipt", message.pop_receipt)

    def time_of(name: str, own: datetime | None) -> datetime | None:
        return datetime.fromisoformat(str(given[name])) if name in given else own

    return QueueMessage(
        id=str(given.get("id", message.id)),
        body=body,
        dequeue_count=None if dequeued is None else int(dequeued),
        expiration_time=time_of("expirationtime", message.expires_on),
        insertion_time=time_of("insertiontime", message.inserted_on),
        time_next_visible=time_of("nextvisibletime", message.next_visible_on),
        pop_receipt=None if receipt is None else str(receipt),
    )
