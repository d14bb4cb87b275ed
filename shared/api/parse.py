"""Reading what callers send: bodies into models, and what is wrong with them into words."""

import difflib
import json
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from gpulaunch.models.problems import FieldError
from gpulaunch.models.requests import IN_WORDS, ProviderName
from shared.api.problems import invalid_request, malformed, too_large

MAX_BODY = 64 * 1024
"""Bytes; a launch with every field filled is a tenth of that, and a record has to fit a table row."""
MAX_NODE_BODY = 1024 * 1024
"""Bytes; a node's report carries up to 200 log lines of 2,000 characters."""

M = TypeVar("M", bound=BaseModel)


def read_json(body: bytes, limit: int = MAX_BODY) -> dict[str, Any]:
    """The body's JSON object.

    Raises
    ------
    ProblemError
        413 too large, 400 no JSON or no object.
    """
    if len(body) > limit:
        raise too_large(limit)
    if not body:
        raise malformed("The body is empty; send a JSON object with Content-Type: application/json and Content-Length.")
    try:
        value: Any = json.loads(body, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise malformed(f"The body is no JSON: {error}") from error
    if not isinstance(value, dict):
        raise malformed("The body has to be a JSON object.")
    return value  # pyright: ignore[reportUnknownVariableType] - a JSON object's keys are strings


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON number")


def read_model(kind: type[M], value: Mapping[str, Any]) -> M:
    """The model that an object describes. Raises ProblemError (422) with one entry for each wrong field.

    Types are those of the document: a number written as a string is no number.
    """
    try:
        # As JSON, since only there a string may stand for an enumeration's member under strict rules.
        return kind.model_validate_json(json.dumps(value), strict=True)
    except ValidationError as error:
        raise invalid_request(_field_errors(kind, error)) from error


def _field_errors(kind: type[BaseModel], error: ValidationError) -> list[FieldError]:
    problems: dict[tuple[str, str], FieldError] = {}
    for item in error.errors(include_url=False):
        field = _path(item["loc"])
        message = item["msg"].removeprefix("Value error, ")
        nearest: list[str] = []
        if item["type"] == "extra_forbidden":
            message = "There is no such field."
            nearest = difflib.get_close_matches(field, list(kind.model_fields), n=3, cutoff=0.5)
        elif item["type"] == "string_pattern_mismatch":
            message = IN_WORDS.get(item.get("ctx", {}).get("pattern", ""), message)
        elif item["type"] == "literal_error":
            nearest = _nearest_literal(item)
        problems[field, message] = FieldError(field=field, message=message, nearest=nearest)
    return list(problems.values())


def _path(location: Sequence[int | str]) -> str:
    # The members of a union stand in the path too; users know only the fields.
    inner = ("list[", "constrained-", "str", "function-", "[key]")
    parts = [str(part) for part in location if not str(part).startswith(inner)]
    return ".".join(parts) or "body"


def _nearest_literal(item: ErrorDetails) -> list[str]:
    if item["loc"] and item["loc"][-1] == "provider":
        given, known = str(item.get("input", "")), list(get_args(ProviderName))
        return difflib.get_close_matches(given.lower(), known, n=3, cutoff=0.4) or known
    return []
