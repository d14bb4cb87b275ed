"""The result of a transition: the changed record, its events, and when the next step is due."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal, Unpack

from pydantic import BaseModel, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from gpulaunch.errors import GpulaunchError
from gpulaunch.models.base import UtcTime
from gpulaunch.models.instances import EventType, Phase, Reason
from gpulaunch.models.offers import Offer
from gpulaunch.models.times import seconds_between
from shared.domain.instance import Attempt, AttemptState, Event, EventData, Failure, Health, InstanceRecord
from shared.domain.model import ModelFacts
from shared.domain.node import NodePhase
from shared.domain.request import StoredJobResult
from shared.domain.text import DETAIL_UNITS, FAILURE_UNITS, MESSAGE_UNITS, last_lines, shorten

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


class RecordChange(TypedDict, total=False):
    """The fields of a record that a transition may set by name; `move`, `event` and `wait_until` set the others."""

    epoch: int
    model: ModelFacts | None
    offers: list[Offer]
    next_offer: int
    tried_in_round: int
    attempts: list[Attempt]
    recoveries: int
    health: Health | None
    ending: Failure | None
    ends_as: Literal["terminated", "failed"] | None
    ended_at: UtcTime | None
    poisoned: int
    poison_ids: list[str]


class AttemptChange(TypedDict, total=False):
    """The fields of an attempt that may change once it is written down."""

    state: AttemptState
    submit_lease_until: UtcTime
    submitted_again: bool
    request_id: str | None
    node_phase: NodePhase | str | None
    listed: bool
    calls_us: bool
    heard_at: UtcTime | None
    detail: str
    fetched_bytes: int | None
    total_bytes: int | None
    address: str | None
    port: int | None
    node_up_at: UtcTime | None
    billed_from: UtcTime | None
    ready_at: UtcTime | None
    failure: Failure | None
    drains_until: UtcTime | None
    release_since: UtcTime | None
    release_tries: int
    release_found: bool
    alerted_at: UtcTime | None
    alert_event: int | None
    gone_at: UtcTime | None
    job: StoredJobResult | None


_RECORD_CHANGE = TypeAdapter[Any](RecordChange)
_ATTEMPT_CHANGE = TypeAdapter[Any](AttemptChange)


class IllegalTransitionError(GpulaunchError):
    """A transition that makes no sense: a bug, never a result of input. Nothing of it is written."""


@dataclass(frozen=True)
class NextStep:
    """The next step, due after a delay."""

    step: StepName
    delay_seconds: float


@dataclass(frozen=True, kw_only=True)
class Decision:
    record: InstanceRecord
    events: tuple[Event, ...] = ()
    next_step: NextStep | None = None
    claimed: bool = False
    """This step holds the submit lease now and continues with the submission."""
    changed: bool = True
    """False if the record is unchanged and nothing needs to be written."""


class Transition:
    """A record being changed by one transition, and the events collected on the way.

    Whatever text enters a record or an event passes through here, and is cleaned and cut to size: no node and no
    provider can fill a row.
    """

    def __init__(self, record: InstanceRecord, now: datetime) -> None:
        self.before = record
        self.record = record
        self.now = now
        self._events: list[Event] = []

    def change(self, **fields: Unpack[RecordChange]) -> None:
        """Set fields of the record.

        Raises:
            IllegalTransitionError: there is no such field, or it is not one to be set like this.
        """
        _assert(fields.keys() <= RecordChange.__annotations__.keys(), "a record has no {} to change", ", ".join(fields))
        if (ending := fields.get("ending")) is not None:
            fields["ending"] = ending.shortened(MESSAGE_UNITS)
        if (health := fields.get("health")) is not None:
            fields["health"] = health.model_copy(update={"message": shorten(health.message, DETAIL_UNITS)})
        self._set(**fields)

    def change_attempt(self, **fields: Unpack[AttemptChange]) -> Attempt:
        """Set fields of the latest attempt.

        Raises:
            IllegalTransitionError: there is no such field, or it is not one that changes.
        """
        known = AttemptChange.__annotations__.keys()
        _assert(fields.keys() <= known, "an attempt has no {} to change", ", ".join(fields))
        if "detail" in fields:
            fields["detail"] = shorten(fields["detail"], DETAIL_UNITS)
        if (failure := fields.get("failure")) is not None:
            fields["failure"] = failure.shortened(FAILURE_UNITS)
        changed = self.record.attempts[-1].model_copy(update=dict(fields))
        self._set(attempts=[*self.record.attempts[:-1], changed])
        return changed

    def log(self, lines: Sequence[str]) -> None:
        """Keep the last lines of a node's log, as many as a record has room for."""
        self._set(log_tail=last_lines(lines))

    def event(
        self,
        kind: EventType,
        message: str,
        *,
        reason: Reason | None = None,
        duration: float | None = None,
        data: EventData | None = None,
    ) -> None:
        attempt = self.record.attempt
        self._events.append(
            Event(
                sequence=self.record.event_count,
                at=self.now,
                type=kind,
                phase=self.record.phase,
                message=shorten(message, MESSAGE_UNITS),
                reason=reason,
                attempt=attempt.number if attempt else None,
                duration_seconds=None if duration is None else round(duration, 3),
                data=data or {},
            )
        )
        self._set(event_count=self.record.event_count + 1)

    def move(self, phase: Phase, message: str, reason: Reason | None = None) -> None:
        """Go to another phase.

        Raises:
            IllegalTransitionError: LEGAL does not allow it.
        """
        here = self.record.phase
        _assert(phase in LEGAL[here], "{} is not followed by {}", here.value, phase.value)
        lasted = seconds_between(self.record.phase_since, self.now)
        self._set(phase=phase, phase_since=self.now)
        data: EventData = {"from": here.value, "to": phase.value}
        self.event(EventType.PHASE, message, reason=reason, duration=lasted, data=data)

    def wait_until(self, due_at: datetime | None) -> Decision:
        """Finish without a message; the sweep returns once `due_at` has passed."""
        self._set(due_at=due_at, updated_at=self.now)
        return self._decision()

    def claim_until(self, lease_until: datetime) -> Decision:
        """Finish with a step that follows at once; no other acts before the lease that it took is over."""
        self._set(due_at=lease_until, updated_at=self.now)
        return self._decision(NextStep("advance", 0.0), claimed=True)

    def requeue_after(self, step: StepName, delay_seconds: float = 0.0) -> Decision:
        """Finish with a next step after a delay."""
        self._set(due_at=self.now + timedelta(seconds=delay_seconds), updated_at=self.now)
        return self._decision(NextStep(step, delay_seconds))

    def _set(self, **fields: Any) -> None:
        self.record = self.record.model_copy(update=fields)

    def _decision(self, next_step: NextStep | None = None, *, claimed: bool = False) -> Decision:
        _check(self.before, self.record, self._events)
        return Decision(record=self.record, events=tuple(self._events), next_step=next_step, claimed=claimed)


def unchanged(record: InstanceRecord) -> Decision:
    return Decision(record=record, changed=False)


def _check(before: InstanceRecord, record: InstanceRecord, events: list[Event]) -> None:
    """Assert what holds after every transition; see `RecordChange` for what none can change.

    Raises:
        IllegalTransitionError: something does not hold, or a field has a value that could not be read again.
    """
    _validate(_RECORD_CHANGE, record, before)
    if record.attempt is not None and record.attempt is not before.attempt:
        _validate(_ATTEMPT_CHANGE, record.attempt, before.attempt)
    numbers = [event.sequence for event in events]
    _assert(numbers == list(range(before.event_count, record.event_count)), "events {} leave gaps", numbers)
    numbers = [one.number for one in record.attempts]
    _assert(numbers == list(range(1, len(numbers) + 1)), "attempts are numbered {}", numbers)
    _assert(len(numbers) >= len(before.attempts), "an attempt was lost")
    left = [one.number for one in record.attempts[: None if record.ended else -1] if one.state is not AttemptState.GONE]
    _assert(not left, "in {}, attempt {} may still have a node", record.phase.value, left)
    _assert(record.epoch >= before.epoch, "the epoch went back")


def _validate(change: "TypeAdapter[Any]", model: BaseModel, before: BaseModel | None) -> None:
    """Assert that each field that changed has a value of its type.

    Only these, and not the whole model: instances that start are polled every few seconds.
    """
    old: Mapping[str, Any] = {} if before is None else before.__dict__
    changed = {name: value for name, value in model.__dict__.items() if value is not old.get(name)}
    try:
        change.validate_python(changed, strict=True)
    except ValidationError as error:
        raise IllegalTransitionError(f"{type(model).__name__}: {error}") from error


def _assert(holds: bool, message: str, *facts: object) -> None:
    """Fail unless it holds; only then is the message put together."""
    if not holds:
        raise IllegalTransitionError(message.format(*facts))
