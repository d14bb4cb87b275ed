"""POST /api/instances/launch."""

from typing import cast

import azure.functions as func

from functions.http import header, operation, reply
from gpulaunch import operations

bp = func.Blueprint()
_NONE = cast("func.Context", None)
"""No host called; the worker refuses a union in the parameter's type."""


@operation(bp, operations.LAUNCH)
def launch_instance(req: func.HttpRequest, context: func.Context = _NONE) -> func.HttpResponse:
    """Accept a launch: 202, with the place to look in Location."""
    from shared.app import runtime
    from shared.control.launch import launch

    # The worker hands the host's trace to no thread of a synchronous function; it stands here.
    trace = context.trace_context.trace_parent if context is not _NONE else None
    instance_id, answer = launch(runtime(), req.get_body(), header(req, "Idempotency-Key") or None, trace or None)
    return reply(answer, 202, {"Location": f"/api/instances/{instance_id}"})
