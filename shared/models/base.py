"""The two kinds of model: what comes from outside is strict about unknown fields, what we stored is read kindly."""

from typing import Annotated

from pydantic import AwareDatetime, BaseModel, ConfigDict, PlainSerializer

from shared.models.times import iso

UtcTime = Annotated[AwareDatetime, PlainSerializer(iso, return_type=str, when_used="json")]
"""A point in time with its zone, written as RFC 3339 in UTC with milliseconds."""


class Outside(BaseModel):
    """Base of what a user or a node sends: unknown fields are errors, values don't change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Stored(BaseModel):
    """Base of what the program writes and reads again: fields of a later version are ignored, values don't change."""

    model_config = ConfigDict(extra="ignore", frozen=True)
