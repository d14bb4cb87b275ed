"""What all HTTP functions share: the route from the table of operations, the access check, and errors as problems."""

import functools
import hashlib
import logging
import uuid
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, cast

import azure.functions as func

from gpulaunch.operations import Access, Operation

if TYPE_CHECKING:
    from pydantic import BaseModel

    from shared.api.problems import ProblemError

log = logging.getLogger("gpulaunch.http")

Handler = Callable[..., func.HttpResponse]
"""Takes the request, and `context` where it asks for that."""


def operation(blueprint: func.Blueprint, described: Operation) -> Callable[[Handler], Handler]:
    """Register a handler for an operation: its route and method, its access check, problems for its errors."""

    def register(handler: Handler) -> Handler:
        @functools.wraps(handler)
        def guarded(req: func.HttpRequest, **more: func.Context) -> func.HttpResponse:
            return _answer(described.access, handler, req, more)

        # What the worker indexes is the builder; tests and callers get the plain function.
        blueprint.function_name(described.name)(
            blueprint.route(route=described.route, methods=[described.method], auth_level=func.AuthLevel.ANONYMOUS)(
                guarded
            )
        )
        return guarded

    return register


def reply(model: "BaseModel", status: int = 200, headers: Mapping[str, str] | None = None) -> func.HttpResponse:
    """A JSON answer."""
    return func.HttpResponse(
        model.model_dump_json(), status_code=status, headers=dict(headers or {}), mimetype="application/json"
    )


def reply_if_changed(req: func.HttpRequest, model: "BaseModel", marks: list[str]) -> func.HttpResponse:
    """A JSON answer with an ETag made of what was read; 304 when the caller has it already."""
    digest = hashlib.sha256("\n".join(marks).encode()).hexdigest()[:32]
    etag = f'W/"{digest}"'
    known = [part.strip() for part in header(req, "If-None-Match").split(",")]
    if etag in known or f'"{digest}"' in known or "*" in known:
        return func.HttpResponse(status_code=304, headers={"ETag": etag})
    return reply(model, headers={"ETag": etag, "Cache-Control": "private, no-cache"})


def header(req: func.HttpRequest, name: str) -> str:
    """A header's value; empty when it is not there."""
    headers = cast("Mapping[str, str]", req.headers)
    return headers.get(name) or ""


def instance_id(req: func.HttpRequest) -> str:
    """The route's instance id. Raises ProblemError (404) when it can't be one."""
    import re

    from gpulaunch.models.instances import INSTANCE_ID
    from shared.api.problems import not_found

    given = req.route_params.get("instanceId", "")
    if not re.fullmatch(INSTANCE_ID, given):
        raise not_found(f"instance {given[:64]!r}")
    return given


def bearer(req: func.HttpRequest) -> str:
    """The bearer token. Raises ProblemError (401) without one."""
    from shared.api.problems import unauthorized

    scheme, _, token = header(req, "Authorization").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise unauthorized("Send the node's token as `Authorization: Bearer …`.")
    return token.strip()


def _answer(
    access: Access, handler: Handler, req: func.HttpRequest, more: Mapping[str, func.Context]
) -> func.HttpResponse:
    request_id = uuid.uuid4().hex
    try:
        check_access(access, req)
        answer = handler(req, **more)
    except Exception as error:
        # The last line of defence: nothing leaves a function but an answer.
        answer = _problem(problem_of(error, req, request_id), request_id)
    answer.headers["X-Request-Id"] = request_id
    return answer


def problem_of(error: Exception, req: func.HttpRequest, request_id: str) -> "ProblemError":
    """What the caller is told of an error; what he isn't told goes to the log under the request's id."""
    from shared.api.problems import ProblemError, conflict, unavailable
    from shared.domain.provider import LaunchRefusedError, ProviderUnavailableError
    from shared.errors import SettingsError, StaleRecordError, StoreUnavailableError

    if isinstance(error, ProblemError):
        return error
    if isinstance(error, StaleRecordError):
        return conflict("busy", "The instance kept changing; ask again in a second.")
    if isinstance(error, LaunchRefusedError):
        return ProblemError(422, error.failure.reason.value, "Refused", error.failure.message)
    if isinstance(error, SettingsError):
        # Names of settings and what is wrong with them, never a value: the operator sees it wherever he looks first.
        log.error("the app is not set up: %s", error)
        return unavailable("misconfigured", f"The app is not set up: {error}", 60)
    if isinstance(error, StoreUnavailableError | ProviderUnavailableError):
        log.warning("%s %s answered 503: %s", req.method, req.url, error, extra={"request_id": request_id})
        return unavailable("unavailable", "Storage or provider do not answer; try again.")
    log.error("%s %s failed; request %s", req.method, req.url, request_id, exc_info=error)
    detail = f"This is a fault of the control plane; its log has more under request {request_id}."
    return ProblemError(500, "internal_error", "Internal error", detail)


def check_access(access: Access, req: func.HttpRequest) -> None:
    """Let pass who may. Raises ProblemError, 401 or 403. Nodes prove themselves in their own handlers."""
    from shared.api.problems import forbidden, unauthorized
    from shared.app import runtime
    from shared.auth import Role, role_of

    if access in ("open", "node"):
        return
    settings = runtime().settings
    if not settings.admin_tokens and not settings.read_tokens:
        if settings.development:
            return
        raise unauthorized("No token is configured, so nobody may call this; set GPULAUNCH_ADMIN_TOKENS.")
    token = header(req, "X-Admin-Token")
    if not token:
        raise unauthorized("Send a token in the header X-Admin-Token.")
    role = role_of(token, settings.admin_tokens, settings.read_tokens)
    if role is None:
        raise unauthorized("The token in X-Admin-Token is not known.")
    if access == "admin" and role is not Role.ADMIN:
        raise forbidden("This token may only read; use one of GPULAUNCH_ADMIN_TOKENS.")


def _problem(error: "ProblemError", request_id: str) -> func.HttpResponse:
    from gpulaunch.models.problems import PROBLEM_TYPE

    headers = {"Retry-After": str(error.retry_after)} if error.retry_after else {}
    if error.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    body = error.problem(request_id).model_dump_json(exclude_none=True)
    return func.HttpResponse(body, status_code=error.status, headers=headers, mimetype=PROBLEM_TYPE)
