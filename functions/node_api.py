"""What GPU nodes call, each with its own bearer token."""

from typing import TYPE_CHECKING

import azure.functions as func

from functions.http import bearer, instance_id, operation, reply
from gpulaunch import operations

if TYPE_CHECKING:
    from shared.control.parts import Parts
    from shared.domain.instance import InstanceRecord

bp = func.Blueprint()


def _caller(req: func.HttpRequest) -> "tuple[Parts, InstanceRecord, int]":
    """The runtime, the record and the attempt that a node's token belongs to."""
    from shared.app import runtime
    from shared.control.node_calls import node_record

    parts = runtime()
    record, attempt = node_record(parts, instance_id(req), bearer(req))
    return parts, record, attempt


@operation(bp, operations.NODE_ASSIGNMENT)
def node_assignment(req: func.HttpRequest) -> func.HttpResponse:
    """What the node has to do; it carries signed addresses and a key."""
    from shared.control.node_calls import assignment

    return reply(assignment(*_caller(req)), headers={"Cache-Control": "no-store"})


@operation(bp, operations.NODE_REGISTER)
def node_register(req: func.HttpRequest) -> func.HttpResponse:
    """The node serves."""
    from shared.api.parse import MAX_NODE_BODY, read_json, read_model
    from shared.control.node_calls import register
    from shared.domain.node import NodeRegistration

    caller = _caller(req)
    return reply(register(*caller, read_model(NodeRegistration, read_json(req.get_body(), MAX_NODE_BODY))))


@operation(bp, operations.NODE_PROGRESS)
def node_progress(req: func.HttpRequest) -> func.HttpResponse:
    """The node's account of itself."""
    from shared.api.parse import MAX_NODE_BODY, read_json, read_model
    from shared.control.node_calls import report
    from shared.domain.node import NodeStatus

    caller = _caller(req)
    return reply(report(*caller, read_model(NodeStatus, read_json(req.get_body(), MAX_NODE_BODY))))


@operation(bp, operations.NODE_HEARTBEAT)
def node_heartbeat(req: func.HttpRequest) -> func.HttpResponse:
    """The node lives: one read, no write."""
    from shared.api.parse import read_json, read_model
    from shared.control.node_calls import lease
    from shared.domain.node import Heartbeat

    caller = _caller(req)
    read_model(Heartbeat, read_json(req.get_body()))
    return reply(lease(*caller))


@operation(bp, operations.NODE_NOTICE)
def node_notice(req: func.HttpRequest) -> func.HttpResponse:
    """The node expects to go away."""
    from shared.api.parse import read_json, read_model
    from shared.control.node_calls import notice
    from shared.domain.node import NoticeReport

    caller = _caller(req)
    return reply(notice(*caller, read_model(NoticeReport, read_json(req.get_body()))))


@operation(bp, operations.NODE_COMPLETE)
def node_complete(req: func.HttpRequest) -> func.HttpResponse:
    """The instance's job ended."""
    from shared.api.parse import read_json, read_model
    from shared.control.node_calls import complete
    from shared.domain.node import JobResult

    caller = _caller(req)
    return reply(complete(*caller, read_model(JobResult, read_json(req.get_body()))))
