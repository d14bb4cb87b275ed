"""Validation errors of models as errors of fields, in words that fit below any field."""

import difflib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from gpulaunch.models.problems import FieldError
from gpulaunch.models.requests import IN_WORDS


def field_errors(
    kind: type[BaseModel], error: ValidationError, names: Sequence[str] = (), what: str = "field"
) -> list[FieldError]:
    """One entry for each wrong field of a `kind`; `names` are those that callers know, if not the model's own."""
    problems: dict[tuple[str, str], FieldError] = {}
    for item in error.errors(include_url=False):
        field = _path(item["loc"])
        message = item["msg"].removeprefix("Value error, ")
        nearest: list[str] = []
        if item["type"] == "extra_forbidden":
            message = f"There is no such {what}."
            known = list(names or _model_at(kind, item["loc"][:-1]).model_fields)
            nearest = difflib.get_close_matches(str(item["loc"][-1]), known, n=3, cutoff=0.5) or (
                known if names else []
            )
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
    "model_type": "Must be an object.",
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
    fields = _model_at(kind, item["loc"][:-1]).model_fields
    field = next((found for key, found in fields.items() if name in (key, found.alias)), None)
    if field is None or not (names or name == "provider"):
        return []
    known = _values(field.annotation)
    given = str(item.get("input", ""))
    return difflib.get_close_matches(given if names else given.lower(), known, n=3, cutoff=0.4) or known


def _model_at(kind: type[BaseModel], location: Sequence[int | str]) -> type[BaseModel]:
    """The model that a location within a `kind` leads to."""
    for part in location:
        field = kind.model_fields.get(str(part))
        kind = next(_models(field.annotation), kind) if field is not None else kind
    return kind


def _models(annotation: object) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for one in get_args(annotation):
        yield from _models(one)


def _values(annotation: object) -> list[str]:
    if isinstance(annotation, type):
        members: Mapping[str, Any] = getattr(annotation, "__members__", {})
        return [str(member.value) for member in members.values()]
    inner = [value for one in get_args(annotation) for value in ([one] if isinstance(one, str) else _values(one))]
    return list(dict.fromkeys(inner))
