"""POST /api/instances/launch."""

import azure.functions as func

from functions.http import header, operation, reply
from shared.api import operations

bp = func.Blueprint()


@operation(bp, operations.LAUNCH)
def launch_instance(req: func.HttpRequest) -> func.HttpResponse:
    """Accept a launch: 202, with the place to look in Location."""
    from shared.engine.launching import launch
    from shared.runtime import runtime

    instance_id, answer = launch(runtime(), req.get_body(), header(req, "Idempotency-Key") or None)
    return reply(answer, 202, {"Location": f"/api/instances/{instance_id}"})
