"""Refusals of valid launch requests."""

from dataclasses import dataclass
from typing import Literal

RefusalCode = Literal["budget_exceeded", "limit_reached", "not_allowed", "too_many_launches"]
"""Stable codes, shown in answers."""


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """Why a valid launch request is refused."""

    code: RefusalCode
    limit: str
    """Name of the setting, followed by the label in brackets if it applies to one."""
    value: float | tuple[str, ...]
    """Value of the limit."""
    used: float | None
    """Amount in use; None if the limit is not a quantity."""
    asked: float | None
    """Amount requested by this launch."""
    detail: str
    """What is wrong and what to do, for people."""
    retry_after: int = 0
    """Seconds after which the same launch may be accepted; 0 if unknown."""
