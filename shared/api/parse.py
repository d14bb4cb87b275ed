"""Parse what callers send: bodies and queries into models, and validation errors into field errors."""

import difflib
import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from gpulaunch.models.instances import INSTANCE_ID
from gpulaunch.models.problems import FieldError
from gpulaunch.models.queries import Query
from gpulaunch.models.requests import IN_WORDS, NAME
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
        raise invalid_request(_field_errors(kind, error)) from error


def read_value(kind: type[M], value: Mapping[str, Any]) -> M:
    """The model that the values of a form describe.

    Raises:
        ProblemError: 422 with one entry for each wrong field.
    """
    try:
        # As JSON, since only there may a string stand for an enumeration's member under strict rules.
        return kind.model_validate_json(json.dumps(value), strict=True)
    except ValidationError as error:
        raise invalid_request(_field_errors(kind, error)) from error


def read_query(kind: type[Q], query: Mapping[str, str]) -> Q:
    """The query parameters of a call.

    Raises:
        ProblemError: 422 with one entry for each wrong parameter.
    """
    try:
        return kind.model_validate(dict(query))
    except ValidationError as error:
        problems = _field_errors(kind, error, names=kind.names(), what="query parameter")
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


def _field_errors(
    kind: type[BaseModel], error: ValidationError, names: Sequence[str] = (), what: str = "field"
) -> list[FieldError]:
    known = list(names or kind.model_fields)
    problems: dict[tuple[str, str], FieldError] = {}
    for item in error.errors(include_url=False):
        field = _path(item["loc"])
        message = item["msg"].removeprefix("Value error, ")
        nearest: list[str] = []
        if item["type"] == "extra_forbidden":
            message = f"There is no such {what}."
            nearest = difflib.get_close_matches(field, known, n=3, cutoff=0.5) or (known if names else [])
        elif item["type"] == "string_pattern_mismatch":
            message = IN_WORDS.get(item.get("ctx", {}).get("pattern", ""), message)
        elif item["type"] in _IN_WORDS:
            message = _IN_WORDS[item["type"]].format(**item.get("ctx", {}))
        elif item["type"] in ("literal_error", "enum"):
            nearest = _nearest(kind, item, names)
            message = f"There is no such {field}." if names else message
        problems[field, message] = FieldError(field=field, message=message, nearest=nearest)
    return list(problems.values())


_NUMBER, _WHOLE = "Must be a number.", "Must be a whole number."
_IN_WORDS: Mapping[str, str] = {
    "missing": "Is required.",
    "greater_than": "Must be more than {gt:g}.",
    "greater_than_equal": "Must be at least {ge:g}.",
    "less_than_equal": "Must be at most {le:g}.",
    "string_too_short": "Must not be empty.",
    "string_too_long": "Must have at most {max_length} characters.",
    "too_short": "Must not be empty.",
    "too_long": "Must have at most {max_length} entries.",
    "string_type": "Must be a text.",
    "bool_type": "Must be true or false.",
    "list_type": "Must be a list.",
    "dict_type": "Must be an object.",
    "float_type": _NUMBER,
    "float_parsing": _NUMBER,
    "finite_number": _NUMBER,
    "int_type": _WHOLE,
    "int_parsing": _WHOLE,
    "int_from_float": _WHOLE,
    "int_parsing_size": _WHOLE,
}
"""Pydantic's errors in words that fit below any field, with what pydantic knows of the limit."""


def _path(location: Sequence[int | str]) -> str:
    # The members of a union stand in the path too; users know only the fields.
    inner = ("list[", "constrained-", "str", "function-", "[key]")
    parts = [str(part) for part in location if not str(part).startswith(inner)]
    return ".".join(parts) or "body"


def _nearest(kind: type[BaseModel], item: ErrorDetails, names: Sequence[str]) -> list[str]:
    """Valid values of an enumeration: those alike, else, where there are few, all."""
    name = str(item["loc"][-1]) if item["loc"] else ""
    field = next((found for key, found in kind.model_fields.items() if name in (key, found.alias)), None)
    if field is None or not (names or name == "provider"):
        return []
    known = _values(field.annotation)
    given = str(item.get("input", ""))
    return difflib.get_close_matches(given if names else given.lower(), known, n=3, cutoff=0.4) or known


def _values(annotation: object) -> list[str]:
    if isinstance(annotation, type):
        members: Mapping[str, Any] = getattr(annotation, "__members__", {})
        return [str(member.value) for member in members.values()]
    inner = [value for one in get_args(annotation) for value in ([one] if isinstance(one, str) else _values(one))]
    return list(dict.fromkeys(inner))
