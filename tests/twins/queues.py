"""Queues in memory: delays to the whole second, leases, dequeue counts and poison queues as in Azure Queue Storage."""

import itertools
import threading
from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime, timedelta

from pydantic import BaseModel

from shared.clock import Clock
from shared.storage.base import QueuedMessage
from shared.storage.queues import LOOKED_AT_SECONDS, READ_AT_ONCE, poison_queue, visibility
from tests.twins.faults import Calls

LEASE_SECONDS = 600.0
"""How long the host's trigger hides a message that it works on."""


@dataclass
class _Message:
    id: str
    body: bytes
    sent_at: datetime
    visible_at: datetime
    dequeue_count: int = 0
    pop_receipt: str = ""


class MemoryQueues:
    """The sender's side is the Queues protocol; `take`, `depth` and `next_visible_at` are what the host would see."""

    def __init__(self, clock: Clock) -> None:
        self.calls = Calls()
        self._clock = clock
        self._queues: dict[str, list[_Message]] = defaultdict(list)
        self._numbers = itertools.count(1)
        self._lock = threading.RLock()

    def send(self, queue: str, message: BaseModel, delay_seconds: float = 0.0) -> None:
        hidden = visibility(delay_seconds)
        with self.calls.call("send"), self._lock:
            self._put(queue, message.model_dump_json(by_alias=True).encode(), hidden)

    def put(self, queue: str, body: bytes) -> None:
        with self._lock:
            self._put(queue, body, 0)

    def waiting_since(self, queue: str) -> datetime | None:
        with self.calls.call("waiting_since"), self._lock:
            now = self._clock.now()
            waiting = [one for one in self._queues[queue] if one.visible_at <= now]
            return min((one.sent_at for one in waiting[:READ_AT_ONCE]), default=None)

    def bury(self, queue: str, body: bytes) -> None:
        with self.calls.call("bury"), self._lock:
            self._put(poison_queue(queue), body, 0)

    def poisoned(self, queue: str) -> list[QueuedMessage]:
        with self.calls.call("poisoned"):
            return self.take(poison_queue(queue), READ_AT_ONCE, LOOKED_AT_SECONDS)

    def forget(self, message: QueuedMessage) -> None:
        """See Queues; also for messages from `take`."""
        with self.calls.call("forget"), self._lock:
            self._queues[message.queue] = [
                one
                for one in self._queues[message.queue]
                if (one.id, one.pop_receipt) != (message.id, message.pop_receipt)
            ]

    def take(self, queue: str, limit: int = 1, hide_seconds: float = LEASE_SECONDS) -> list[QueuedMessage]:
        """Take visible messages, as the host's trigger does: they are hidden until forgotten or the time is over."""
        with self._lock:
            now = self._clock.now()
            visible = [one for one in self._queues[queue] if one.visible_at <= now][:limit]
            for one in visible:
                one.dequeue_count += 1
                one.pop_receipt = f"receipt-{next(self._numbers)}"
                one.visible_at = now + timedelta(seconds=hide_seconds)
            return [
                QueuedMessage(
                    queue=queue, id=one.id, pop_receipt=one.pop_receipt, dequeue_count=one.dequeue_count, body=one.body
                )
                for one in visible
            ]

    def depth(self, queue: str) -> int:
        with self._lock:
            return len(self._queues[queue])

    def bodies(self, queue: str) -> list[bytes]:
        """Bodies of all messages of a queue, visible or not, oldest first."""
        with self._lock:
            return [one.body for one in self._queues[queue]]

    def next_visible_at(self, *queues: str) -> datetime | None:
        """When the next message of any of the queues becomes visible (a time past: one is); None: there is none."""
        with self._lock:
            return min((one.visible_at for queue in queues for one in self._queues[queue]), default=None)

    def _put(self, queue: str, body: bytes, hidden: int) -> None:
        now = self._clock.now()
        visible_at = now + timedelta(seconds=hidden)
        self._queues[queue].append(_Message(f"message-{next(self._numbers)}", body, now, visible_at))
