"""Answers the calls of the HTTP interface: access check, handler, errors as problems."""

import json
import uuid
from collections.abc import Callable, Mapping

from gpulaunch.operations import OPENAPI, Operation
from shared.api import instances, nodes, operators
from shared.api.access import check_access
from shared.api.http import Request, Response, problem_response
from shared.api.openapi import document
from shared.api.problems import problem_of
from shared.app import App

Handler = Callable[[App, Request], Response]

HANDLERS: Mapping[str, Handler] = {
    handler.__name__: handler
    for handler in (
        instances.launch_instance,
        instances.list_instances,
        instances.show_instance,
        instances.instance_events,
        instances.instance_logs,
        instances.instance_credentials,
        instances.end_instance,
        nodes.node_assignment,
        nodes.node_register,
        nodes.node_progress,
        nodes.node_heartbeat,
        nodes.node_notice,
        nodes.node_complete,
        operators.show_catalog,
        operators.show_costs,
        operators.show_quota,
        operators.show_config,
        operators.show_health,
    )
}
"""The handler of each operation, by the operation's name."""


def answer(operation: Operation, request: Request, runtime: Callable[[], App]) -> Response:
    """Answer one call; nothing leaves but a response."""
    request_id = uuid.uuid4().hex
    try:
        if operation is OPENAPI:
            # The same whatever the settings, so it is answered even where they are wrong.
            response = Response(body=json.dumps(document()), media_type="application/json")
        else:
            app = runtime()
            check_access(operation.access, request, app.settings)
            response = HANDLERS[operation.name](app, request)
    except Exception as error:
        # The last line of defence.
        where = f"{request.method} {request.url}"
        response = problem_response(problem_of(error, where, request_id), request_id)
    response.headers["X-Request-Id"] = request_id
    return response
