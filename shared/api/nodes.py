"""Handlers of what GPU nodes call, each with its own bearer token. It is checked before the body is read."""

from collections.abc import Callable
from typing import TypeVar

from pydantic import BaseModel

from shared.api.http import Request, Response, json_response
from shared.api.parse import MAX_BODY, MAX_NODE_BODY, bearer, instance_id, read_body
from shared.app import App
from shared.control.node_calls import NodeCaller, NodeCalls
from shared.domain.errors import NodeTokenError, UnrecordedNodeError
from shared.domain.node import Heartbeat, JobResult, NodeRegistration, NodeStatus, NoticeReport

B = TypeVar("B", bound=BaseModel)


def _caller(app: App, request: Request) -> NodeCaller:
    """The node that calls. Wrong tokens are counted and logged as users' are, but no call has to wait for them.

    Else a neighbour behind the same address could keep a node from renewing its lease. A node's token cannot be
    guessed: it is a hash of 256 bits.
    """
    wanted, token = instance_id(request), bearer(request)
    try:
        return app.node_door.caller(wanted, token)
    except UnrecordedNodeError:
        raise
    except NodeTokenError:
        app.failures.failed(request.source, "a wrong token of a node", request.id, wanted)
        raise


def assignment(app: App, request: Request) -> Response:
    """What the node has to do; it carries signed addresses and a key."""
    return json_response(app.node_calls.assignment(_caller(app, request)))


def _report(
    kind: type[B], take: Callable[[NodeCalls, NodeCaller, B], BaseModel], limit: int = MAX_BODY
) -> Callable[[App, Request], Response]:
    def handler(app: App, request: Request) -> Response:
        try:
            caller = _caller(app, request)
        except UnrecordedNodeError:
            read_body(kind, request, limit)
            return json_response(app.node_calls.unrecorded())
        return json_response(take(app.node_calls, caller, read_body(kind, request, limit)))

    return handler


register = _report(NodeRegistration, NodeCalls.register, MAX_NODE_BODY)
progress = _report(NodeStatus, NodeCalls.progress, MAX_NODE_BODY)
heartbeat = _report(Heartbeat, lambda calls, caller, _: calls.heartbeat(caller))
notice = _report(NoticeReport, NodeCalls.notice)
complete = _report(JobResult, NodeCalls.complete)
