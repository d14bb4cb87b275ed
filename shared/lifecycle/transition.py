"""The result of a transition: the changed record, its events, and when the next step is due."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from gpulaunch.errors import GpulaunchError
from gpulaunch.models.instances import EventType, Phase, Reason
from gpulaunch.models.times import seconds_between
from shared.domain.event import Event
from shared.domain.instance import Attempt, InstanceRecord

StepName = Literal["advance", "teardown"]

_NODE = (Phase.INSTALLING, Phase.LOADING_MODEL, Phase.STARTING_SERVER, Phase.REGISTERING)
LEGAL: dict[Phase, tuple[Phase, ...]] = {
    Phase.QUEUED: (Phase.VALIDATING, Phase.TERMINATING),
    Phase.VALIDATING: (Phase.PROVISIONING, Phase.TERMINATING),
    Phase.PROVISIONING: (*_NODE, Phase.TERMINATING),
    # A node that fails or is lost before it is ready sends the instance back to provisioning, on another offer.
    Phase.INSTALLING: (*_NODE[1:], Phase.PROVISIONING, Phase.TERMINATING),
    Phase.LOADING_MODEL: (*_NODE[2:], Phase.PROVISIONING, Phase.TERMINATING),
    Phase.STARTING_SERVER: (Phase.REGISTERING, Phase.PROVISIONING, Phase.TERMINATING),
    Phase.REGISTERING: (Phase.READY, Phase.PROVISIONING, Phase.TERMINATING),
    Phase.READY: (Phase.RECOVERING, Phase.TERMINATING),
    Phase.RECOVERING: (Phase.PROVISIONING, Phase.TERMINATING),
    Phase.TERMINATING: (Phase.TERMINATED, Phase.FAILED),
    Phase.TERMINATED: (),
    Phase.FAILED: (),
}
"""Which phase may follow which."""


class IllegalTransitionError(GpulaunchError):
    """A transition that LEGAL does not allow: a bug, never a result of input."""


@dataclass(frozen=True)
class NextStep:
    """The next step, due after a delay."""

    step: StepName
    delay_seconds: float


@dataclass(frozen=True)
class Decision:
    """The outcome of one transition."""

    record: InstanceRecord
    events: tuple[Event, ...] = ()
    next_step: NextStep | None = None
    claimed: bool = False
    """This step holds the submit lease now and continues with the submission."""
    changed: bool = True
    """False if the record is unchanged and nothing needs to be written."""


class Transition:
    """A record being changed by one transition, and the events collected on the way."""

    def __init__(self, record: InstanceRecord, now: datetime) -> None:
        self.before = record
        self.record = record
        self.now = now
        self._events: list[Event] = []

    def change(self, **fields: Any) -> None:
        """Set fields of the record."""
        self.record = self.record.model_copy(update=fields)

    def change_attempt(self, **fields: Any) -> Attempt:
        """Set fields of the latest attempt."""
        changed = self.record.attempts[-1].model_copy(update=fields)
        self.change(attempts=[*self.record.attempts[:-1], changed])
        return changed

    def event(
        self,
        kind: EventType,
        message: str,
        *,
        reason: Reason | None = None,
        duration: float | None = None,
        data: dict[str, Any] | None = None,
    ) -> None:
        """Add an event."""
        attempt = self.record.attempt
        self._events.append(
            Event(
                sequence=self.record.event_count,
                at=self.now,
                type=kind,
                phase=self.record.phase,
                message=message,
                reason=reason,
                attempt=attempt.number if attempt else None,
                duration_seconds=None if duration is None else round(duration, 3),
                data=data or {},
            )
        )
        self.change(event_count=self.record.event_count + 1)

    def move(self, phase: Phase, message: str, reason: Reason | None = None) -> None:
        """Go to another phase.

        Raises
        ------
        IllegalTransitionError
            The table of phases does not allow it.
        """
        here = self.record.phase
        if phase not in LEGAL[here]:
            raise IllegalTransitionError(f"{here.value} is not followed by {phase.value}")
        lasted = seconds_between(self.record.phase_since, self.now)
        self.change(phase=phase, phase_since=self.now)
        data = {"from": here.value, "to": phase.value}
        self.event(EventType.PHASE, message, reason=reason, duration=lasted, data=data)

    def wait_until(self, due_at: datetime | None) -> Decision:
        """Finish without a message; the sweep returns once `due_at` has passed."""
        self.change(due_at=due_at, updated_at=self.now)
        return Decision(self.record, tuple(self._events))

    def requeue_after(self, step: StepName, delay_seconds: float = 0.0, *, claimed: bool = False) -> Decision:
        """Finish with a next step after a delay."""
        self.change(due_at=self.now + timedelta(seconds=delay_seconds), updated_at=self.now)
        return Decision(self.record, tuple(self._events), NextStep(step, delay_seconds), claimed)


def unchanged(record: InstanceRecord) -> Decision:
    """Return a decision without a change or a next step."""
    return Decision(record, changed=False)
