"""Parse what callers send: bodies and queries into models."""

import json
import math
import re
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from gpulaunch.models.field_errors import field_errors
from gpulaunch.models.instances import INSTANCE_ID
from gpulaunch.models.queries import Query
from gpulaunch.models.requests import NAME
from shared.api.http import Request
from shared.api.problems import ProblemError, invalid_request

MAX_BODY = 64 * 1024
"""Bytes; a launch with every field filled is a tenth of that, and a record has to fit a table row."""
MAX_NODE_BODY = 1024 * 1024
"""Bytes; a node's report carries up to 200 log lines of 2,000 characters."""

M = TypeVar("M", bound=BaseModel)
Q = TypeVar("Q", bound=Query)


def read_body(kind: type[M], request: Request, limit: int = MAX_BODY) -> M:
    """The model that the body's JSON object describes, parsed once.

    Types are those of the document: a number written as a string is not a number.

    Raises:
        ProblemError: 413 too large, 400 not a JSON object, 422 with one entry for each wrong field.
    """
    body = request.body
    if len(body) > limit:
        raise ProblemError("body_too_large", f"A body has at most {limit} bytes.")
    if not body:
        message = "The body is empty; send a JSON object with Content-Type: application/json and Content-Length."
        raise ProblemError("malformed_request", message)
    try:
        return kind.model_validate_json(body, strict=True)
    except ValidationError as error:
        for item in error.errors(include_url=False):
            if item["type"] == "finite_number" and math.isnan(item.get("input", 0)):
                # JSON has no such number, although the parser takes it.
                raise ProblemError(
                    "malformed_request", "The body is not valid JSON: NaN is not a JSON number."
                ) from error
            if item["type"] == "json_invalid":
                reason = item["msg"].removeprefix("Invalid JSON: ")
                raise ProblemError("malformed_request", f"The body is not valid JSON: {reason}") from error
            if not item["loc"] and item["type"] == "model_type":
                raise ProblemError("malformed_request", "The body has to be a JSON object.") from error
        raise invalid_request(field_errors(kind, error)) from error


def read_value(kind: type[M], value: Mapping[str, Any]) -> M:
    """The model that the values of a form describe.

    Raises:
        ProblemError: 422 with one entry for each wrong field.
    """
    try:
        # As JSON, since only there may a string stand for an enumeration's member under strict rules.
        return kind.model_validate_json(json.dumps(value), strict=True)
    except ValidationError as error:
        raise invalid_request(field_errors(kind, error)) from error


def read_query(kind: type[Q], query: Mapping[str, str]) -> Q:
    """The query parameters of a call.

    Raises:
        ProblemError: 422 with one entry for each wrong parameter.
    """
    try:
        return kind.model_validate(dict(query))
    except ValidationError as error:
        problems = field_errors(kind, error, names=kind.names(), what="query parameter")
        raise invalid_request(problems) from error


def instance_id(request: Request) -> str:
    """The route's instance id.

    Raises:
        ProblemError: 404 when it cannot be one.
    """
    return _in_route(request, "instanceId", INSTANCE_ID, "instance")


def endpoint_name(request: Request) -> str:
    """The route's endpoint.

    Raises:
        ProblemError: 404 when it cannot be one.
    """
    return _in_route(request, "endpointName", NAME, "endpoint")


def _in_route(request: Request, parameter: str, pattern: str, what: str) -> str:
    given = request.route.get(parameter, "")
    if not re.fullmatch(pattern, given):
        raise ProblemError("not_found", f"There is no {what} {given[:64]!r}.")
    return given


def if_match(request: Request) -> str:
    """The ETag that a change is made over; "" without one, or for any."""
    given = request.header("If-Match").removeprefix("W/").strip('"')
    return "" if given == "*" else given


def bearer(request: Request) -> str:
    """The bearer token.

    Raises:
        ProblemError: 401 without one.
    """
    scheme, _, token = request.header("Authorization").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise ProblemError("unauthorized", "Send the node's token as `Authorization: Bearer …`.")
    return token.strip()
