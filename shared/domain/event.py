"""One line of an instance's timeline."""

from typing import Any

from gpulaunch.models.base import Kept, UtcTime
from gpulaunch.models.instances import EventType, Phase, Reason


class Event(Kept):
    """One line of an instance's story."""

    sequence: int
    """From 0, without gaps."""
    at: UtcTime
    type: EventType
    phase: Phase
    """The phase after the event."""
    message: str
    reason: Reason | None = None
    attempt: int | None = None
    duration_seconds: float | None = None
    """For `phase`: how long the phase before lasted; for `attempt_failed`: how long the attempt took."""
    data: dict[str, Any] = {}
    """More facts, by kind: from and to for `phase`; region, instance_type, price_per_hour for attempts."""
