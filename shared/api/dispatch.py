"""Answers the calls of the HTTP interface: access check, handler, errors as problems."""

import json
from collections.abc import Callable, Mapping
from typing import Any

from gpulaunch import operations
from gpulaunch.operations import Operation
from shared.api import endpoints, instances, long_running, nodes, operators
from shared.api.access import check_access, check_conditions, check_type, log_change
from shared.api.endpoint_schema import endpoint_file_schema
from shared.api.http import API_HEADERS, Request, Response, finished, problem_response
from shared.api.openapi import document
from shared.api.problems import problem_of
from shared.app import App

HANDLERS: Mapping[Operation, Callable[[App, Request], Response]] = {
    operations.LAUNCH: instances.launch,
    operations.PLAN: instances.plan,
    operations.LIST: instances.page,
    operations.SHOW: instances.show,
    operations.EVENTS: instances.events,
    operations.LOGS: instances.logs,
    operations.CREDENTIALS: instances.credentials,
    operations.TERMINATE: instances.terminate,
    operations.SHOW_OPERATION: long_running.show_operation,
    operations.NODE_ASSIGNMENT: nodes.assignment,
    operations.NODE_REGISTER: nodes.register,
    operations.NODE_PROGRESS: nodes.progress,
    operations.NODE_HEARTBEAT: nodes.heartbeat,
    operations.NODE_NOTICE: nodes.notice,
    operations.NODE_COMPLETE: nodes.complete,
    operations.CREATE_ENDPOINT: endpoints.create,
    operations.LIST_ENDPOINTS: endpoints.page,
    operations.SHOW_ENDPOINT: endpoints.show,
    operations.PUT_ENDPOINT: endpoints.put,
    operations.CHANGE_ENDPOINT: endpoints.change,
    operations.DELETE_ENDPOINT: endpoints.delete,
    operations.SHOW_DELETION: long_running.show_deletion,
    operations.PAUSE_ENDPOINT: endpoints.pause,
    operations.RESUME_ENDPOINT: endpoints.resume,
    operations.ROLL_OUT_ENDPOINT: endpoints.roll_out,
    operations.ENDPOINT_DECISIONS: endpoints.decisions,
    operations.ENDPOINT_KEYS: endpoints.keys,
    operations.CREATE_KEY: endpoints.create_key,
    operations.REVOKE_KEY: endpoints.revoke_key,
    operations.CATALOG: operators.catalog,
    operations.COSTS: operators.costs,
    operations.QUOTA: operators.quota,
    operations.GARBAGE: operators.garbage,
    operations.CONFIRM_GARBAGE: operators.confirm_garbage,
    operations.CONFIRM_DELETED: operators.confirm_deleted,
    operations.ADOPT: operators.adopt,
    operations.CONFIG: operators.config,
    operations.HEALTH: operators.health,
}
"""Who handles each operation; its scope and its statuses stand in the operation."""

DOCUMENTS: Mapping[Operation, Callable[[], dict[str, Any]]] = {
    operations.OPENAPI: document,
    operations.ENDPOINT_FILE_SCHEMA: endpoint_file_schema,
}
"""The same whatever the settings, so they are answered even where these are wrong."""

_REPEATABILITY = {202: {"Repeatability-Result": "accepted"}, 409: {"Repeatability-Result": "rejected"}}
"""What OASIS's Repeatable Requests 1.0 want to be answered, by status."""


def answer(operation: Operation, request: Request, runtime: Callable[[], App]) -> Response:
    """Answer one call; nothing leaves but a response."""
    app = None
    try:
        if operation in DOCUMENTS:
            check_type(request, required=False)
            response = Response(body=json.dumps(DOCUMENTS[operation]()), media_type="application/json")
        else:
            app = runtime()
            check_access(operation.scope, request, app)
            check_conditions(operation, request)
            response = HANDLERS[operation](app, request)
            log_change(operation.scope, request, response)
    except Exception as error:
        # The last line of defence.
        problem = problem_of(error, request.what, request.id)
        if app is not None:
            app.refusals.note(request.source, request.what, problem.problem, request.id)
        response = problem_response(problem, request.id)
    if operation is operations.LAUNCH and request.header("Repeatability-Request-ID"):
        response.headers |= _REPEATABILITY.get(response.status, {})
    return finished(request, response, API_HEADERS)
