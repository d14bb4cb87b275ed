"""Requests and responses as the HTTP edge sees them, whatever host carries them."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from pydantic import BaseModel

from gpulaunch.models.problems import PROBLEM_TYPE
from shared.api.problems import ProblemError


@dataclass(frozen=True, kw_only=True)
class Request:
    method: str
    url: str
    headers: Mapping[str, str]
    """Names in lower case."""
    query: Mapping[str, str]
    route: Mapping[str, str]
    body: bytes
    trace: str | None = None
    """The caller's traceparent (W3C)."""

    def header(self, name: str) -> str:
        """A header's value; empty when it is not there."""
        return self.headers.get(name.lower()) or ""


@dataclass(kw_only=True)
class Response:
    """One HTTP response; headers may be added on the way out."""

    status: int = 200
    body: bytes | str = b""
    media_type: str | None = None
    charset: str | None = None
    headers: dict[str, str] = field(default_factory=dict[str, str])


def json_response(model: BaseModel, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(
        status=status, body=model.model_dump_json(), media_type="application/json", headers=dict(headers or {})
    )


def json_if_changed(request: Request, model: BaseModel) -> Response:
    """A model as JSON with an ETag over all of it; 304 when the caller has it already."""
    response = json_response(model)
    digest = hashlib.sha256(str(response.body).encode()).hexdigest()[:32]
    etag = f'W/"{digest}"'
    known = [part.strip() for part in request.header("If-None-Match").split(",")]
    if etag in known or f'"{digest}"' in known or "*" in known:
        return Response(status=304, headers={"ETag": etag})
    response.headers.update({"ETag": etag, "Cache-Control": "private, no-cache"})
    return response


def problem_response(error: ProblemError, request_id: str) -> Response:
    headers = {"Retry-After": str(error.retry_after)} if error.retry_after else {}
    if error.problem.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    body = error.problem.model_copy(update={"request_id": request_id}).model_dump_json(exclude_none=True)
    return Response(status=error.problem.status, body=body, media_type=PROBLEM_TYPE, headers=headers)
