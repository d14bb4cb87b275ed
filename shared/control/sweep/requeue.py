"""Send overdue steps again: lost messages, deadlines, idle times, budgets of single instances."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache

from gpulaunch.models.instances import Phase
from shared.clock import Clock
from shared.control.records import queue_of, send_step
from shared.control.sweep.base import TaskRun, Walk, each
from shared.domain.instance import InstanceRecord
from shared.errors import StoreUnavailableError
from shared.lifecycle.resending import Resent, counts_still, is_lost, is_overdue, sent_again, unanswered
from shared.lifecycle.transition import NextStep, StepName
from shared.storage.base import InstanceStore, Queues, Versioned

log = logging.getLogger("gpulaunch.sweep")

MOST = 1000
"""Steps sent again by one sweep, each read and sent in 20 ms; the others are overdue in the next one, too."""
SENDING = timedelta(seconds=15)
"""For how long a sweep sends, so that it ends before the next one is due."""
_EVER = datetime.min.replace(tzinfo=UTC)
"""Since when messages may wait where the queue does not answer."""


@dataclass
class Requeue:
    """Sends the overdue steps whose messages are lost; remembers what it sent for as long as a step is the same.

    A process that takes over the sweep sends a step once more at most.
    """

    name = "resent"

    queues: Queues
    store: InstanceStore
    clock: Clock
    _resent: dict[str, Resent] = field(default_factory=dict[str, Resent], init=False)

    def begin(self, now: datetime) -> TaskRun:
        return _Run(self, now)

    def send(self, overdue: list[InstanceRecord], due: Mapping[str, datetime | None], now: datetime) -> int:
        """Send what is lost, deadlines first, then what has been late the longest; how many.

        `due`: when the next steps of all records are due that were seen.
        """
        self._resent = {name: one for name, one in self._resent.items() if counts_still(one, due, name, now)}
        away: list[StoreUnavailableError] = []

        @cache
        def waiting_since(queue: str) -> datetime | None:
            try:
                return self.queues.waiting_since(queue)
            except StoreUnavailableError as error:
                away.append(error)
                return _EVER

        def send(record: InstanceRecord) -> bool:
            try:
                return self._send(record, now)
            except StoreUnavailableError as error:
                # Storage that refuses one message takes the next; one that is silent takes all the time there is.
                away.append(error)
                return False

        lost = [
            record
            for record in sorted(overdue, key=lambda record: (record.phase is not Phase.READY, record.due_at))
            if is_lost(record, self._resent.get(record.instance_id), waiting_since(_queue(record)), now)
        ]
        if len(lost) < len(overdue):
            log.info("%d overdue steps wait for their turn or were sent again lately", len(overdue) - len(lost))
        sent = each(lost[:MOST], send, lambda record: record.instance_id)
        if away:
            raise away[-1]
        return sent

    def _send(self, record: InstanceRecord, begun: datetime) -> bool:
        due_at = record.due_at
        if due_at is None or self.clock.now() - begun > SENDING or not self._is_still_due(record):
            return False
        known = self._resent.get(record.instance_id)
        try:
            send_step(self.queues, record, NextStep(_step(record), 0.0))
        except StoreUnavailableError:
            self._resent[record.instance_id] = unanswered(due_at, known, self.clock.now())
            raise
        self._resent[record.instance_id] = sent_again(due_at, known, self.clock.now())
        return True

    def _is_still_due(self, record: InstanceRecord) -> bool:
        """Whether a record is as it was read: since then its message may have been taken."""
        try:
            found = self.store.load(record.instance_id)
        except StoreUnavailableError:
            return True  # a step too many does no harm, one that is missing does
        return found is not None and (found.record.due_at, found.record.epoch) == (record.due_at, record.epoch)


def _step(record: InstanceRecord) -> StepName:
    return "teardown" if record.phase is Phase.TERMINATING else "advance"


def _queue(record: InstanceRecord) -> str:
    return queue_of(_step(record))


@dataclass
class _Run(TaskRun):
    task: Requeue
    now: datetime
    _overdue: list[InstanceRecord] = field(default_factory=list[InstanceRecord], init=False)
    _due: dict[str, datetime | None] = field(default_factory=dict[str, datetime | None], init=False)

    def see(self, found: Versioned) -> None:
        self._due[found.record.instance_id] = found.record.due_at
        if is_overdue(found.record, self.now):
            self._overdue.append(found.record)

    def finish(self, walk: Walk) -> int:  # noqa: ARG002 - what was not seen is overdue in the next sweep, too
        return self.task.send(self._overdue, self._due, self.now) if self._overdue else 0
