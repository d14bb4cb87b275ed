"""Steps that bring instances forward."""

import azure.functions as func

from functions.queue import handle
from shared.queues import LAUNCHES

bp = func.Blueprint()


@bp.function_name("provisioning")
@bp.queue_trigger(arg_name="msg", queue_name=LAUNCHES, connection="AzureWebJobsStorage")  # pyright: ignore[reportUnknownMemberType]
def provisioning(msg: func.QueueMessage) -> None:
    """One step of one instance."""
    from shared.control.step import run_step
    from shared.domain.messages import StepMessage

    handle(LAUNCHES, StepMessage, msg, run_step)
