"""What all queue functions share: a message is understood, or buried with one line; errors go to the host's retries."""

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

import azure.functions as func

if TYPE_CHECKING:
    from shared.control.parts import Parts
    from shared.domain.messages import M

log = logging.getLogger("gpulaunch.queue")


def handle(queue: str, kind: "type[M]", msg: func.QueueMessage, act: "Callable[[Parts, M], None]") -> None:
    """Read a message and act on it.

    One that can't be understood, or names no instance, goes to the poison queue at once: no retry would help it.
    Any other error is left to the host, which tries again and poisons the message after five times.
    """
    from shared.app import runtime
    from shared.domain.messages import read_message
    from shared.errors import MessageError

    parts = runtime()
    body = msg.get_body()
    try:
        act(parts, read_message(kind, body))
    except MessageError as error:
        log.error(  # noqa: TRY400 - one clear line
            "a message of %s is buried in its poison queue: %s", queue, error, extra={"event": "poison"}
        )
        parts.queues.bury(queue, body)
