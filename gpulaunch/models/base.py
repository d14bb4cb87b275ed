"""The two kinds of model: what comes from outside is strict about unknown fields, what we stored is read kindly."""

from collections.abc import Mapping
from functools import cache
from typing import Annotated, cast, get_args

from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, PlainSerializer

from gpulaunch.models.times import iso

UtcTime = Annotated[AwareDatetime, PlainSerializer(iso, return_type=str, when_used="json")]
"""A point in time with its zone, written as RFC 3339 in UTC with milliseconds."""


class Outside(BaseModel):
    """Base of what a user or a node sends: unknown fields are errors, values don't change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Stored(BaseModel):
    """Base of what the program writes and reads again: fields of a later version are ignored, values don't change."""

    model_config = ConfigDict(extra="ignore", frozen=True)


@cache
def _fields(kind: type[BaseModel]) -> Mapping[str, type[BaseModel] | None]:
    """The fields of a model, each with the model that its value is, if it is one."""
    found: dict[str, type[BaseModel] | None] = {}
    for name, field in kind.model_fields.items():
        inner = [one for one in (field.annotation, *get_args(field.annotation)) if isinstance(one, type)]
        found[name] = next((one for one in inner if issubclass(one, BaseModel)), None)
    return found


def _known(kind: type[BaseModel], value: object) -> object:
    if not isinstance(value, dict):
        return value
    given = cast("dict[str, object]", value)
    return {
        name: _known(model, given[name]) if model else given[name]
        for name, model in _fields(kind).items()
        if name in given
    }


def lenient(kind: type[BaseModel]) -> BeforeValidator:
    """For an `Outside` model inside a stored one: fields of a later version are ignored there too."""
    return BeforeValidator(lambda value: _known(kind, value))
