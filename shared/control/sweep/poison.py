"""Read the poison queues: the instances whose messages the host gave up."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from shared.control.records import Records
from shared.control.sweep.base import Cadence, TaskRun, Walk, each
from shared.domain.errors import MessageError
from shared.domain.messages import EndpointMessage, LaunchMessage, ProbeMessage, read_message
from shared.errors import StaleRecordError
from shared.lifecycle.observations import Poisoned
from shared.lifecycle.resending import is_overdue
from shared.queues import PROBES, QUEUES
from shared.storage.base import QueuedMessage, Queues, UnreadableRecordError, Versioned

log = logging.getLogger("gpulaunch.sweep")

QUIET_CHECK = timedelta(minutes=10)
"""The poison queues are read when something is overdue, and this often anyway."""
READINGS = 20
"""Of one queue, 32 messages each: those that cannot be settled stay for a week, and must not hide the others."""


@dataclass(frozen=True)
class PoisonQueues:
    name = "poisoned"

    queues: Queues
    records: Records
    cadence: Cadence = field(default_factory=lambda: Cadence(QUIET_CHECK))

    def begin(self, now: datetime) -> TaskRun:
        return _Run(self, now)

    def read(self) -> int:
        """Settle what can be settled; what cannot be understood stays where it is. How many messages were settled."""
        return each(self._found(), self._settle, lambda found: f"a poisoned message of {found[0]}")

    def _found(self) -> Iterator[tuple[str, QueuedMessage]]:
        """All messages, up to a bound; each reading hides what it returns for a minute, and shows what is behind it."""
        for queue in QUEUES:
            for _ in range(READINGS):
                messages = self.queues.poisoned(queue)
                if not messages:
                    break
                yield from ((queue, message) for message in messages)

    def _settle(self, found: tuple[str, QueuedMessage]) -> bool:
        queue, message = found
        settled = self._understood(queue, message)
        if settled:
            self.queues.forget(message)
        return settled

    def _understood(self, queue: str, message: QueuedMessage) -> bool:
        try:
            if queue == PROBES:
                probe = read_message(ProbeMessage, message.body)
                text = "a probe down from %s failed again and again; the next sweep sends a new one"
                log.error(text, probe.instanceId, extra={"event": "poison"})
                return True
            step = read_message(LaunchMessage, message.body).root
        except MessageError:
            return False
        if isinstance(step, EndpointMessage):
            text = "the host gave up a step of endpoint %s; the sweep goes on with it"
            log.error(text, step.endpoint, extra={"event": "poison"})
            return True
        if not step.known:
            log.info("%s: step %s of a later version was buried by an older one", step.instanceId, step.step)
            return True
        extra = {"event": "poison", "instance_id": step.instanceId}
        log.warning("%s: the host gave up a message of step %s", step.instanceId, step.step, extra=extra)
        try:
            return self.records.change(step.instanceId, Poisoned(step.epoch, message.id)) is not None
        except (StaleRecordError, UnreadableRecordError):
            return False


class _Run(TaskRun):
    def __init__(self, task: PoisonQueues, now: datetime) -> None:
        self._task = task
        self._now = now
        self._wanted = task.cadence.take(now)

    def see(self, found: Versioned) -> None:
        self._wanted = self._wanted or is_overdue(found.record, self._now)

    def finish(self, walk: Walk) -> int:  # noqa: ARG002
        return self._task.read() if self._wanted else 0
