"""The two kinds of model: what comes from outside is strict about unknown fields, what we stored is read kindly."""

from typing import Annotated, cast, get_args

from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, PlainSerializer

from shared.models.times import iso

UtcTime = Annotated[AwareDatetime, PlainSerializer(iso, return_type=str, when_used="json")]
"""A point in time with its zone, written as RFC 3339 in UTC with milliseconds."""


class Outside(BaseModel):
    """Base of what a user or a node sends: unknown fields are errors, values don't change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Stored(BaseModel):
    """Base of what the program writes and reads again: fields of a later version are ignored, values don't change."""

    model_config = ConfigDict(extra="ignore", frozen=True)


def _known(kind: type[BaseModel], value: object) -> object:
    if not isinstance(value, dict):
        return value
    given, known = cast("dict[str, object]", value), dict[str, object]()
    for name, field in kind.model_fields.items():
        if name in given:
            inner = [one for one in (field.annotation, *get_args(field.annotation)) if isinstance(one, type)]
            models = [one for one in inner if issubclass(one, BaseModel)]
            known[name] = _known(models[0], given[name]) if models else given[name]
    return known


def kindly(kind: type[BaseModel]) -> BeforeValidator:
    """For an `Outside` model inside a stored one: fields of a later version are ignored there too."""
    return BeforeValidator(lambda value: _known(kind, value))
