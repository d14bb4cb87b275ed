"""From events that were written to a message for each receiver."""

import logging
from collections.abc import Iterable

from shared.control.parts import Parts
from shared.domain.event import Event
from shared.domain.instance import InstanceRecord
from shared.domain.messages import AlertMessage, BudgetNotice
from shared.errors import StoreUnavailableError
from shared.queues import ALERTS
from shared.webhooks.subscriptions import is_wanted

log = logging.getLogger("gpulaunch.alerts")


def announce(parts: Parts, record: InstanceRecord, events: Iterable[Event]) -> None:
    """Put a message for each receiver of each event that is an alert; nothing at all where there is no receiver.

    What storage refuses is logged and given up: the step that is told of is done, and matters more.
    """
    if not parts.settings.webhooks:
        return
    for event in events:
        if is_wanted(event, parts.settings.webhook_events):
            _send(parts, AlertMessage(instanceId=record.instance_id, epoch=record.epoch, sequence=event.sequence))


def announce_refusal(parts: Parts, record: InstanceRecord, notice: BudgetNotice) -> None:
    """Put a message for each receiver about a budget that has no room for a launch, as `announce` does."""
    if "alert" in parts.settings.webhook_events:
        _send(parts, AlertMessage(instanceId=record.instance_id, epoch=record.epoch, sequence=0, budget=notice))


def _send(parts: Parts, message: AlertMessage) -> None:
    for hook in range(len(parts.settings.webhooks)):
        try:
            parts.queues.send(ALERTS, message.model_copy(update={"hook": hook}))
        except StoreUnavailableError as error:
            log.warning("%s: the alert about event %d is lost: %s", message.instanceId, message.sequence, error)
