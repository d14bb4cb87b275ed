"""Handlers of what GPU nodes call, each with its own bearer token."""

from shared.api.http import Request, Response, json_response
from shared.api.parse import MAX_NODE_BODY, bearer, instance_id, read_body
from shared.app import App
from shared.control.node_calls import NodeCaller
from shared.domain.node import Heartbeat, JobResult, NodeRegistration, NodeStatus, NoticeReport


def _caller(app: App, request: Request) -> NodeCaller:
    return app.node_door.caller(instance_id(request), bearer(request))


def node_assignment(app: App, request: Request) -> Response:
    """What the node has to do; it carries signed addresses and a key."""
    answer = app.node_calls.assignment(_caller(app, request))
    return json_response(answer, headers={"Cache-Control": "no-store"})


def node_register(app: App, request: Request) -> Response:
    """The node serves."""
    caller = _caller(app, request)
    return json_response(app.node_calls.register(caller, read_body(NodeRegistration, request, MAX_NODE_BODY)))


def node_progress(app: App, request: Request) -> Response:
    """The node reports its progress."""
    caller = _caller(app, request)
    return json_response(app.node_calls.progress(caller, read_body(NodeStatus, request, MAX_NODE_BODY)))


def node_heartbeat(app: App, request: Request) -> Response:
    """The node lives: one read, no write."""
    caller = _caller(app, request)
    read_body(Heartbeat, request)
    return json_response(app.node_calls.lease(caller))


def node_notice(app: App, request: Request) -> Response:
    """The node expects an interruption."""
    caller = _caller(app, request)
    return json_response(app.node_calls.notice(caller, read_body(NoticeReport, request)))


def node_complete(app: App, request: Request) -> Response:
    """The instance's job ended."""
    caller = _caller(app, request)
    return json_response(app.node_calls.complete(caller, read_body(JobResult, request)))
