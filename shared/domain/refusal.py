"""Why a launch is not accepted although its request is right."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Refusal:
    """Why a launch is not accepted although its request is right."""

    code: str
    """`budget_exceeded`, `limit_reached`, `not_allowed` or `too_many_launches`."""
    limit: str
    """The setting that says so, with its label in brackets where it is one label's."""
    value: float | tuple[str, ...]
    """What the limit is set to."""
    used: float | None
    """How much of it is used; None for what is not used up."""
    asked: float | None
    """How much of it this launch asked for."""
    detail: str
    """What is wrong and what to do, for people."""
    retry_after: int = 0
    """Seconds after which the same launch may be accepted; 0: nobody knows."""
