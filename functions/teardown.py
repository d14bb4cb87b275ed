"""Steps that take nodes away; apart from launches, so that they never wait behind them."""

import azure.functions as func

from functions.queue import handle
from shared.queues import TEARDOWNS

bp = func.Blueprint()


@bp.function_name("teardown")
@bp.queue_trigger(arg_name="msg", queue_name=TEARDOWNS, connection="AzureWebJobsStorage")  # pyright: ignore[reportUnknownMemberType]
def teardown(msg: func.QueueMessage) -> None:
    """One step of one instance."""
    from shared.control.step import run_step
    from shared.domain.messages import StepMessage

    handle(TEARDOWNS, StepMessage, msg, run_step)
