"""Queue bindings: a message is read, or buried with one line; errors are left to the host's retries."""

import logging
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import azure.functions as func

from functions.failures import sendable_failures
from functions.limits import STEP_SECONDS
from gpulaunch.deadlines import time_limit
from shared.queues import ALERTS, LAUNCHES, PROBES, TEARDOWNS

if TYPE_CHECKING:
    from shared.app import App

log = logging.getLogger("gpulaunch.queue")
bp = func.Blueprint()
Handler = Callable[[func.QueueMessage], None]


def _handler(queue: str, kind: str, act: "Callable[[App, Any], None]") -> Handler:
    """Read a message of a kind that `shared.domain.messages` names, and act on it.

    One that cannot be read, or names no instance, goes to the poison queue at once: no retry would help it. Any other
    error is left to the host, which tries again and poisons the message after five times.
    """

    def handle(msg: func.QueueMessage) -> None:
        from shared.app import runtime
        from shared.domain import messages
        from shared.domain.errors import MessageError

        with sendable_failures(), time_limit(STEP_SECONDS):
            app, body = runtime(), msg.get_body()
            try:
                act(app, messages.read_message(getattr(messages, kind), body))
            except MessageError as error:
                log.error(  # noqa: TRY400 - one clear line
                    "a message of %s is buried in its poison queue: %s", queue, error, extra={"event": "poison"}
                )
                app.queues.bury(queue, body)
            except Exception as error:
                # The host logs the error without the message, which names the instance.
                log.warning("the message %s of %s failed: %s", body.decode(errors="replace"), queue, error)
                raise

    return handle


def _bind(name: str, queue: str, handler: Handler) -> None:
    handler.__name__ = name
    trigger = bp.queue_trigger(arg_name="msg", queue_name=queue, connection="AzureWebJobsStorage")  # pyright: ignore[reportUnknownMemberType]
    bp.function_name(name)(trigger(handler))


_bind("provisioning", LAUNCHES, _handler(LAUNCHES, "LaunchMessage", lambda app, message: app.step(message.root)))
_bind("teardown", TEARDOWNS, _handler(TEARDOWNS, "StepMessage", lambda app, message: app.steps.run(message)))
_bind("health", PROBES, _handler(PROBES, "ProbeMessage", lambda app, message: app.prober.run(message)))
alerts = _handler(ALERTS, "AlertMessage", lambda app, message: app.deliver_alert(message))
# A queue that is polled costs money day and night; without a receiver nothing is ever put into this one.
if os.environ.get("GPULAUNCH_WEBHOOK_URLS"):
    _bind("alerts", ALERTS, alerts)
