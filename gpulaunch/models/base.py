"""The bases of models. From outside unknown fields are errors; in what we wrote they are those of a later version."""

from enum import StrEnum
from typing import Annotated, Self

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, PlainSerializer, WithJsonSchema
from pydantic_core import PydanticCustomError

from gpulaunch.models.times import iso

UtcTime = Annotated[
    AwareDatetime,
    PlainSerializer(iso, return_type=str, when_used="json"),
    WithJsonSchema({"type": "string", "format": "date-time"}),
]
"""A point in time with its zone, written as RFC 3339 in UTC with milliseconds."""
Wide = Annotated[int, Field(json_schema_extra={"format": "int64"})]
"""A number that 32 bits may not hold, such as a count of bytes."""
Url = Annotated[str, Field(json_schema_extra={"format": "uri"})]
"""An absolute address."""


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
    """Base of what the program sends itself and reads once: fields of a later version are ignored."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class Kept(BaseModel):
    """Base of what is read, changed and written back: fields of a later version are kept as they are."""

    model_config = ConfigDict(extra="allow", frozen=True)


class Answer(BaseModel):
    model_config = ConfigDict(frozen=True)
