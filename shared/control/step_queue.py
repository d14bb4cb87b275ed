"""Sends step messages: a hint that an instance's next step is due."""

from shared.domain.instance import InstanceRecord
from shared.domain.messages import StepMessage
from shared.lifecycle.transition import NextStep
from shared.queues import LAUNCHES, TEARDOWNS
from shared.storage.base import Queues


def queue_of(step: NextStep) -> str:
    """Teardowns have a queue of their own, so that they never wait behind a burst of launches."""
    return TEARDOWNS if step.step == "teardown" else LAUNCHES


class StepQueue:
    """The sender's side of the step queues."""

    def __init__(self, queues: Queues) -> None:
        self._queues = queues

    def send(self, record: InstanceRecord, step: NextStep) -> None:
        """Ask for the next step of an instance.

        Raises:
            StoreUnavailableError: The message may be lost; the sweep sends it again once the step is overdue.
        """
        message = StepMessage(instanceId=record.instance_id, epoch=record.epoch, step=step.step)
        self._queues.send(queue_of(step), message, step.delay_seconds)
