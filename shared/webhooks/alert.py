"""What receivers of alerts get: the body of the format `json`."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from gpulaunch.models.base import UtcTime
from gpulaunch.models.instances import Phase, Reason
from shared.domain.messages import BudgetNotice

AlertType = Literal[
    "instance.phase_changed", "instance.failed", "instance.alert", "instance.poisoned", "budget.refused"
]


class AlertData(BaseModel):
    """The event, and the instance at the moment of sending."""

    model_config = ConfigDict(frozen=True)

    instance_id: str
    sequence: int
    """The event's number; instance and number together are `webhook-id`."""
    phase: Phase
    """The phase after the event."""
    message: str
    reason: Reason | None
    attempt: int | None
    details: dict[str, Any]
    """The event's own facts."""
    name: str | None
    model_name: str
    provider: str
    mode: Literal["real", "simulation"]
    labels: dict[str, str]
    cost_usd: float
    """What the instance has cost so far, USD."""


class Alert(BaseModel):
    """One alert, in the shape that Standard Webhooks recommends."""

    model_config = ConfigDict(frozen=True)

    type: AlertType
    timestamp: UtcTime
    """When it happened."""
    data: AlertData | BudgetNotice
    """Of `budget.refused` the budget, of all others the event."""
