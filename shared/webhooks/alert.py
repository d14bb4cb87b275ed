"""Alerts: which events are sent, and their content, which is the body in the `json` format. Pure."""

from collections.abc import Collection
from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from gpulaunch.models.base import UtcTime
from gpulaunch.models.instances import EventType, Mode, Phase, Reason
from shared.domain.costs import cost_so_far
from shared.domain.instance import Event, InstanceRecord
from shared.domain.messages import AccessNotice, BudgetNotice, GarbageNotice, UnreadableNotice

AlertType = Literal[
    "instance.phase_changed",
    "instance.failed",
    "instance.alert",
    "instance.poisoned",
    "instance.unreadable",
    "budget.refused",
    "garbage.waiting",
    "garbage.unlabelled",
    "garbage.staying",
    "garbage.lost",
    "access.throttled",
]


class AlertData(BaseModel):
    """The event, and the instance at the time of sending."""

    model_config = ConfigDict(frozen=True)

    instance_id: str
    """The instance."""
    sequence: int
    """Number of the event; `webhook-id` is made of instance and number."""
    phase: Phase
    """The phase after the event."""
    message: str
    """What happened, in words."""
    reason: Reason | None
    """Stable code of the reason; null if there is none."""
    attempt: int | None
    """The attempt that the event belongs to; null if to none."""
    details: dict[str, Any]
    """Details that depend on the event."""
    name: str | None
    """The name that the instance was launched with."""
    model_name: str
    """Name of the served model."""
    provider: str
    """The provider that it was launched on."""
    mode: Mode
    """`simulation` costs nothing and launches nothing."""
    labels: dict[str, str]
    """The instance's labels."""
    cost_usd: float
    """Cost of the instance so far, in USD."""


class Alert(BaseModel):
    """An alert, in the shape recommended by Standard Webhooks."""

    model_config = ConfigDict(frozen=True)

    type: str
    """An AlertType, or `garbage.…` of a later version."""
    timestamp: UtcTime
    """Time of the event."""
    data: AlertData | BudgetNotice | UnreadableNotice | GarbageNotice | AccessNotice
    """The budget for `budget.refused`, the record for `instance.unreadable`, the nodes for `garbage.…`, the address for
    `access.throttled`, otherwise the event."""


def type_of(event: Event) -> AlertType | None:
    """Return the type of alert for an event, or None."""
    if event.type is EventType.ALERT:
        return "instance.alert"
    if event.type is not EventType.PHASE:
        return None
    if event.phase is Phase.TERMINATING and event.reason is Reason.POISON_MESSAGE:
        return "instance.poisoned"
    return "instance.failed" if event.phase is Phase.FAILED else "instance.phase_changed"


def is_wanted(event: Event, words: Collection[str]) -> bool:
    """Return whether an event is sent, given the words of GPULAUNCH_WEBHOOK_EVENTS."""
    kind = type_of(event)
    if kind is None:
        return False
    if kind == "instance.alert":
        return "alert" in words
    return "phase" in words or event.phase.value in words or (kind == "instance.poisoned" and "poison" in words)


def alert_of(record: InstanceRecord, event: Event, kind: AlertType, now: datetime) -> Alert:
    """Return the alert about an event."""
    return Alert(
        type=kind,
        timestamp=event.at,
        data=AlertData(
            instance_id=record.instance_id,
            sequence=event.sequence,
            phase=event.phase,
            message=event.message,
            reason=event.reason,
            attempt=event.attempt,
            details=dict(event.data),
            name=record.request.name,
            model_name=record.request.model_name,
            provider=record.request.provider,
            mode=record.mode,
            labels=record.request.labels,
            cost_usd=round(cost_so_far(record, record.ended_at or now), 4),
        ),
    )
