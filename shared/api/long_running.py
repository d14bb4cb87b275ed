"""Operations that outlast their request, as Azure's SDKs follow them: 202, and a resource to poll until the end."""

from typing import Final, Literal

from gpulaunch.models.instances import Phase, Reason
from gpulaunch.models.responses import OperationError, OperationView
from shared.api.http import Request, Response, json_response
from shared.api.parse import endpoint_name
from shared.api.problems import ProblemError
from shared.app import App
from shared.domain.errors import EndpointNotFoundError
from shared.domain.instance import InstanceRecord
from shared.storage.base import Unreadable, UnreadableRecordError

POLL_SECONDS: Final = 5
"""As often as the clients of this project ask for what has not changed."""

Status = Literal["Running", "Succeeded", "Failed", "Canceled"]


def accepted(request: Request, path: str, kind: Literal["launch", "terminate", "delete"]) -> dict[str, str]:
    """The headers of a 202: what is worked on, where to poll, and how often."""
    return {
        "Location": request.absolute(path),
        "Operation-Location": request.absolute(f"{path}/operations/{kind}"),
        "Retry-After": str(POLL_SECONDS),
    }


def show_operation(app: App, request: Request) -> Response:
    """The launch or the termination of an instance."""
    instance_id = app.instances.resolve(request.route.get("instanceId", ""))
    kind = request.route.get("operation", "")
    try:
        found = app.instances.find(instance_id).record
    except UnreadableRecordError as error:
        found = error.unreadable
    if kind == "launch" and isinstance(found, InstanceRecord):
        status = _launch(found)
        failed = OperationError(code=found.ending.reason.value, message=found.ending.message) if found.ending else None
    elif kind == "terminate" and _is_terminating(found):
        status, failed = "Succeeded" if found.ended else "Running", None
    else:
        raise ProblemError("not_found", f"No operation {kind[:64]!r} of {instance_id} is known.")
    view = OperationView(
        id=f"{instance_id}/{kind}",
        kind="launch" if kind == "launch" else "terminate",
        status=status,
        resourceLocation=request.absolute(f"/api/instances/{instance_id}"),
        error=failed if status in ("Failed", "Canceled") else None,
    )
    return _answer(view)


def show_deletion(app: App, request: Request) -> Response:
    """The deletion of an endpoint, which has succeeded where there is none of that name."""
    name = endpoint_name(request)
    status: Status = "Running"
    try:
        if not app.endpoint_queries.find(name).record.deleting:
            raise ProblemError("not_found", f"The endpoint {name} is not being deleted.")
    except EndpointNotFoundError:
        status = "Succeeded"
    return _answer(OperationView(id=f"{name}/delete", kind="delete", status=status, resourceLocation=None, error=None))


def _answer(view: OperationView) -> Response:
    return json_response(view, headers={"Retry-After": str(POLL_SECONDS)} if view.status == "Running" else {})


def _launch(record: InstanceRecord) -> Status:
    was_ready = record.recoveries > 0 or any(one.ready_at is not None for one in record.attempts)
    if was_ready or record.phase in (Phase.READY, Phase.RECOVERING):
        return "Succeeded"
    if not record.ended and record.phase is not Phase.TERMINATING:
        return "Running"
    asked = record.ending is not None and record.ending.reason is Reason.USER_REQUEST
    return "Canceled" if asked else "Failed"


def _is_terminating(found: InstanceRecord | Unreadable) -> bool:
    """Of a record that cannot be read, no more is known than whether it has ended."""
    return isinstance(found, Unreadable) or found.ended or found.phase is Phase.TERMINATING
