"""The two kinds of model: what comes from outside is strict about unknown fields, what we stored is read kindly."""

from collections.abc import Mapping
from enum import StrEnum
from functools import cache
from typing import Annotated, Self, cast, get_args

from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, ConfigDict, PlainSerializer
from pydantic_core import PydanticCustomError

from gpulaunch.models.times import iso

UtcTime = Annotated[AwareDatetime, PlainSerializer(iso, return_type=str, when_used="json")]
"""A point in time with its zone, written as RFC 3339 in UTC with milliseconds."""


class OpenEnum(StrEnum):
    """Base of enumerations that grow: a value of a later version is read as a member called UNKNOWN, text kept.

    So what a later version stored or answered is read, shown and written back as it was. It equals no member here.
    """

    @classmethod
    def _missing_(cls, value: object) -> Self | None:
        if not isinstance(value, str):
            return None
        member = str.__new__(cls, value)
        member._name_ = "UNKNOWN"
        member._value_ = value
        return member

    @property
    def known(self) -> bool:
        """Whether this version has such a member."""
        return self.name in type(self).__members__


def _only_known(value: OpenEnum | None) -> OpenEnum | None:
    if value is None or value.known:
        return value
    *others, last = (repr(member.value) for member in type(value))
    expected = f"{', '.join(others)} or {last}"
    raise PydanticCustomError("enum", "Input should be {expected}", {"expected": expected})


Known = AfterValidator(_only_known)
"""For a field that takes no value of a later version, with pydantic's own error."""


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
