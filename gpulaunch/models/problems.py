"""Error answers of the HTTP API (RFC 9457)."""

from pydantic import BaseModel, ConfigDict

PROBLEM_TYPE = "application/problem+json"


class FieldError(BaseModel):
    """An error in one field of a request."""

    model_config = ConfigDict(frozen=True)

    field: str
    """Dotted path of the field, such as `job.command.0`; otherwise `body` or the name of a header."""
    message: str
    """What is wrong with it, and what would be right."""
    nearest: list[str] = []
    """The nearest valid values."""


class LimitReached(BaseModel):
    """The limit or budget that caused a refusal."""

    model_config = ConfigDict(frozen=True)

    name: str
    """Name of the setting, followed by the label in brackets if it applies to one."""
    value: float | list[str]
    """Value of the setting; USD for budgets."""
    used: float | None
    """Amount in use; null if the limit is not a quantity."""
    asked: float | None
    """Amount requested by the launch."""


class Problem(BaseModel):
    """An error answer, RFC 9457."""

    model_config = ConfigDict(frozen=True)

    type: str = "about:blank"
    """Always `about:blank`; `code` names the problem."""
    title: str
    """The kind of problem, in words."""
    status: int
    """The HTTP status."""
    detail: str
    """What is wrong with this request, and what to do."""
    code: str
    """Stable code for programs."""
    errors: list[FieldError] = []
    """One entry per invalid field."""
    limit: LimitReached | None = None
    """The limit or budget that was reached, for 402, 403 and 429."""
    request_id: str | None = None
    """Identifies the request in the logs."""
