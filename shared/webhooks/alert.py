"""Webhook bodies in the `json` format."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from gpulaunch.models.base import UtcTime
from gpulaunch.models.instances import Phase, Reason
from shared.domain.messages import BudgetNotice

AlertType = Literal[
    "instance.phase_changed", "instance.failed", "instance.alert", "instance.poisoned", "budget.refused"
]


class AlertData(BaseModel):
    """The event, and the instance at the time of sending."""

    model_config = ConfigDict(frozen=True)

    instance_id: str
    sequence: int
    """Number of the event; `webhook-id` is made of instance and number."""
    phase: Phase
    """The phase after the event."""
    message: str
    reason: Reason | None
    attempt: int | None
    details: dict[str, Any]
    """Details that depend on the event."""
    name: str | None
    model_name: str
    provider: str
    mode: Literal["real", "simulation"]
    labels: dict[str, str]
    cost_usd: float
    """Cost of the instance so far, in USD."""


class Alert(BaseModel):
    """An alert, in the shape recommended by Standard Webhooks."""

    model_config = ConfigDict(frozen=True)

    type: AlertType
    timestamp: UtcTime
    """Time of the event."""
    data: AlertData | BudgetNotice
    """The budget for `budget.refused`, otherwise the event."""
