"""Timer bindings."""

import azure.functions as func

from functions.failures import sendable_failures
from functions.limits import BACKUP_SECONDS, SWEEP_SECONDS
from gpulaunch.deadlines import time_limit

bp = func.Blueprint()


@bp.function_name("sweep")
@bp.timer_trigger(arg_name="timer", schedule="*/30 * * * * *", run_on_startup=False)
def sweep(timer: func.TimerRequest) -> None:  # noqa: ARG001 - the host binds it by name
    """One sweep over all live instances, every 30 seconds: the longest that a lost message or a dead node is unseen.

    After a host was killed it is up to 81 seconds, until its lease on the timer has run out.
    """
    from shared.app import runtime

    with sendable_failures(), time_limit(SWEEP_SECONDS):
        runtime().sweep.run()


@bp.function_name("backup")
@bp.timer_trigger(arg_name="timer", schedule="0 15 3 * * *", run_on_startup=False)
def backup(timer: func.TimerRequest) -> None:  # noqa: ARG001 - the host binds it by name
    """Copy the table to the account's blobs, at 03:15 UTC."""
    from shared.app import runtime

    with sendable_failures(), time_limit(BACKUP_SECONDS):
        runtime().back_up()
