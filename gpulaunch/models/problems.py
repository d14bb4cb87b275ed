"""Error answers of the HTTP interface (RFC 9457)."""

from pydantic import BaseModel, ConfigDict

PROBLEM_TYPE = "application/problem+json"


class FieldError(BaseModel):
    """What is wrong with one field of a request."""

    model_config = ConfigDict(frozen=True)

    field: str
    """Path of the field, with dots, such as `job.command.0`; `body` or a header's name where it is no field."""
    message: str
    nearest: list[str] = []
    """Valid values that come nearest to the one given."""


class LimitReached(BaseModel):
    """The limit or budget that a launch was refused for."""

    model_config = ConfigDict(frozen=True)

    name: str
    """The setting that says so, with a label in brackets where it is one label's."""
    value: float | list[str]
    """What it is set to; USD for budgets."""
    used: float | None
    """How much of it is used; null for what is not used up."""
    asked: float | None
    """How much of it the launch asked for."""


class Problem(BaseModel):
    """An error answer, RFC 9457."""

    model_config = ConfigDict(frozen=True)

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    code: str
    """Stable and made for programs."""
    errors: list[FieldError] = []
    """One entry for each field that is wrong."""
    limit: LimitReached | None = None
    """The limit or budget in the way, for 402, 403 and 429."""
    request_id: str | None = None
    """Found again in the logs."""
