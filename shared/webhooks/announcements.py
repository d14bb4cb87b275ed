"""Puts a message for each receiver of an alert into the alerts queue."""

import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from shared.domain.instance import RELEASE_ALERT, Event, InstanceRecord
from shared.domain.messages import (
    NO_INSTANCE,
    AccessNotice,
    AlertMessage,
    BudgetNotice,
    GarbageNotice,
    UnreadableNotice,
)
from shared.errors import StoreUnavailableError
from shared.queues import ALERTS
from shared.storage.base import Queues
from shared.webhooks.alert import is_wanted

log = logging.getLogger("gpulaunch.alerts")


@dataclass(frozen=True)
class AlertQueue:
    """The sender's side of alerts.

    What storage refuses is logged and given up: the change that the alert is about is written, and matters more. The
    sweep learns which of its own alerts were refused, and sends them again.
    """

    queues: Queues
    receivers: int
    wanted: Collection[str]

    def committed(self, before: InstanceRecord, after: InstanceRecord, events: Sequence[Event]) -> None:  # noqa: ARG002
        self.admitted(after, [event for event in events if event.data.get("alert") != RELEASE_ALERT])

    def admitted(self, record: InstanceRecord, events: Sequence[Event]) -> None:
        """Send each event that is an alert to every receiver."""
        for event in events:
            if is_wanted(event, self.wanted):
                self._send(AlertMessage(instanceId=record.instance_id, epoch=record.epoch, sequence=event.sequence))

    def refused(self, record: InstanceRecord, notice: BudgetNotice) -> None:
        """Send to every receiver that a budget had no room for a launch."""
        if "alert" in self.wanted:
            self._send(AlertMessage(instanceId=record.instance_id, epoch=record.epoch, sequence=0, budget=notice))

    def unreadable(self, notice: UnreadableNotice) -> None:
        """Send to every receiver that a record cannot be read. Raises StoreUnavailableError."""
        self._put(AlertMessage(instanceId=notice.instance_id, epoch=0, sequence=0, unreadable=notice))

    def garbage(self, notice: GarbageNotice) -> bool:
        """Send to every receiver that nodes wait for a confirmation, or carry no identity; False: not to all."""
        message = AlertMessage(instanceId=NO_INSTANCE, epoch=0, sequence=0, garbage=notice)
        return self._send(message) if "alert" in self.wanted else True

    def access(self, notice: AccessNotice) -> None:
        """Send to every receiver that an address has failed to prove itself too often."""
        if "alert" in self.wanted:
            self._send(AlertMessage(instanceId=NO_INSTANCE, epoch=0, sequence=0, access=notice))

    def burning(self, record: InstanceRecord, sequence: int) -> None:
        """Send an event to every receiver. Raises StoreUnavailableError."""
        self._put(AlertMessage(instanceId=record.instance_id, epoch=record.epoch, sequence=sequence))

    def staying(self, notice: GarbageNotice) -> None:
        """Send to every receiver that orphans stay. Raises StoreUnavailableError."""
        self._put(AlertMessage(instanceId=NO_INSTANCE, epoch=0, sequence=0, garbage=notice))

    def _put(self, message: AlertMessage) -> None:
        if "alert" in self.wanted:
            for hook in range(self.receivers):
                self.queues.send(ALERTS, message.model_copy(update={"hook": hook}))

    def _send(self, message: AlertMessage) -> bool:
        """Send to every receiver; False: storage refused it for some, which is logged."""
        sent = True
        for hook in range(self.receivers):
            try:
                self.queues.send(ALERTS, message.model_copy(update={"hook": hook}))
            except StoreUnavailableError as error:
                log.warning("the alert %s is lost: %s", message.webhook_id, error)
                sent = False
        return sent
