"""Queue bindings: a message is read, or buried with one line; errors are left to the host's retries."""

import logging
import os
from collections.abc import Callable
from typing import TYPE_CHECKING

import azure.functions as func

from shared.queues import ALERTS, LAUNCHES, PROBES, TEARDOWNS

if TYPE_CHECKING:
    from shared.app import App
    from shared.domain.messages import M

log = logging.getLogger("gpulaunch.queue")
bp = func.Blueprint()
_STORAGE = "AzureWebJobsStorage"


def _handle(queue: str, kind: "type[M]", msg: func.QueueMessage, act: "Callable[[App, M], None]") -> None:
    """Read a message and act on it.

    One that cannot be read, or names no instance, goes to the poison queue at once: no retry would help it. Any other
    error is left to the host, which tries again and poisons the message after five times.
    """
    from shared.app import runtime
    from shared.domain.errors import MessageError
    from shared.domain.messages import read_message

    app = runtime()
    body = msg.get_body()
    try:
        act(app, read_message(kind, body))
    except MessageError as error:
        log.error(  # noqa: TRY400 - one clear line
            "a message of %s is buried in its poison queue: %s", queue, error, extra={"event": "poison"}
        )
        app.queues.bury(queue, body)


@bp.function_name("provisioning")
@bp.queue_trigger(arg_name="msg", queue_name=LAUNCHES, connection=_STORAGE)  # pyright: ignore[reportUnknownMemberType]
def provisioning(msg: func.QueueMessage) -> None:
    """One step of a launch, a recovery or a ready instance."""
    from shared.domain.messages import StepMessage

    _handle(LAUNCHES, StepMessage, msg, lambda app, message: app.steps.run(message))


@bp.function_name("teardown")
@bp.queue_trigger(arg_name="msg", queue_name=TEARDOWNS, connection=_STORAGE)  # pyright: ignore[reportUnknownMemberType]
def teardown(msg: func.QueueMessage) -> None:
    """One step of a termination or a failover."""
    from shared.domain.messages import StepMessage

    _handle(TEARDOWNS, StepMessage, msg, lambda app, message: app.steps.run(message))


@bp.function_name("health")
@bp.queue_trigger(arg_name="msg", queue_name=PROBES, connection=_STORAGE)  # pyright: ignore[reportUnknownMemberType]
def health(msg: func.QueueMessage) -> None:
    """Probe the ready nodes of a slice."""
    from shared.domain.messages import ProbeMessage

    _handle(PROBES, ProbeMessage, msg, lambda app, message: app.prober.run(message))


def alerts(msg: func.QueueMessage) -> None:
    """Deliver an alert to one receiver; from a queue of its own, so that no step ever waits for a receiver."""
    from shared.domain.messages import AlertMessage

    _handle(ALERTS, AlertMessage, msg, lambda app, message: app.deliver_alert(message))


# A queue that is polled costs money day and night; without a receiver nothing is ever put into this one.
if os.environ.get("GPULAUNCH_WEBHOOK_URLS"):
    bp.function_name("alerts")(
        bp.queue_trigger(arg_name="msg", queue_name=ALERTS, connection=_STORAGE)(alerts)  # pyright: ignore[reportUnknownMemberType]
    )
