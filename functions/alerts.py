"""Alerts to webhooks; from a queue of its own, so that no step ever waits for a receiver."""

import azure.functions as func

from functions.queue import handle
from shared.queues import ALERTS

bp = func.Blueprint()


def alerts(msg: func.QueueMessage) -> None:
    """Tell one receiver of one event."""
    from shared.domain.messages import AlertMessage
    from shared.webhooks.delivery import send_alert

    handle(ALERTS, AlertMessage, msg, send_alert)


bp.function_name("alerts")(
    bp.queue_trigger(arg_name="msg", queue_name=ALERTS, connection="AzureWebJobsStorage")(alerts)  # pyright: ignore[reportUnknownMemberType]
)
