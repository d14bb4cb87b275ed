"""From events that were written to a message for each receiver."""

import logging
from collections.abc import Iterable

from shared.alerts.choosing import is_wanted
from shared.api.queues import ALERTS
from shared.engine.parts import Parts
from shared.errors import StoreUnavailableError
from shared.models.messages import AlertMessage
from shared.models.records import Event, InstanceRecord

log = logging.getLogger("gpulaunch.alerts")


def announce(parts: Parts, record: InstanceRecord, events: Iterable[Event]) -> None:
    """Put a message for each receiver of each event that is an alert; nothing at all where there is no receiver.

    What storage refuses is logged and given up: the step that is told of is done, and matters more.
    """
    hooks = parts.settings.webhooks
    if not hooks:
        return
    for event in events:
        if not is_wanted(event, parts.settings.webhook_events):
            continue
        for hook in range(len(hooks)):
            message = AlertMessage(
                instanceId=record.instance_id, epoch=record.epoch, sequence=event.sequence, hook=hook
            )
            try:
                parts.queues.send(ALERTS, message)
            except StoreUnavailableError as error:
                log.warning("%s: the alert about event %d is lost: %s", record.instance_id, event.sequence, error)
