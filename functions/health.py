"""Health probes of one slice of the live instances."""

import azure.functions as func

from functions.queue import handle
from shared.queues import HEALTH

bp = func.Blueprint()


@bp.function_name("health")
@bp.queue_trigger(arg_name="msg", queue_name=HEALTH, connection="AzureWebJobsStorage")  # pyright: ignore[reportUnknownMemberType]
def health(msg: func.QueueMessage) -> None:
    """Probe the ready nodes of a slice."""
    from shared.control.probe import run_probe
    from shared.domain.messages import ProbeMessage

    handle(HEALTH, ProbeMessage, msg, run_probe)
