"""Every change of a record: load, decide, write with its bookings, pass on what happened, send the next step."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Protocol

from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from gpulaunch.models.instances import EventType
from shared.billing.gate import LedgerGate
from shared.billing.ledger import AttemptCosts, settle
from shared.clock import Clock
from shared.domain.costs import micro_so_far
from shared.domain.instance import Event, InstanceRecord
from shared.domain.messages import StepMessage
from shared.errors import RowTooLargeError, StaleRecordError
from shared.lifecycle import machine
from shared.lifecycle.liveness import is_silent
from shared.lifecycle.observations import Act, Observation
from shared.lifecycle.provision import in_time_to_submit
from shared.lifecycle.timeouts import Timeouts
from shared.lifecycle.transition import Decision, NextStep
from shared.observability.instances import InstanceTelemetry
from shared.queues import LAUNCHES, TEARDOWNS
from shared.storage.base import Booking, InstanceStore, Queues, Versioned, VersionedLedger

log = logging.getLogger("gpulaunch.lifecycle")

_TRIES = 8
"""Against one step that commits now and then, two tries do; eight outlast a dozen callers at once."""


def while_stale(sleep: Callable[[float], None]) -> Retrying:
    """Repeat a change that others keep overtaking; in the end it raises StaleRecordError."""
    return Retrying(
        retry=retry_if_exception_type(StaleRecordError),
        stop=stop_after_attempt(_TRIES),
        wait=wait_random_exponential(multiplier=0.02, max=0.5),
        sleep=sleep,
        reraise=True,
    )


@dataclass(frozen=True)
class Lifecycle:
    """The pure lifecycle with a clock and the deployment's timeouts."""

    clock: Clock
    timeouts: Timeouts = field(default_factory=Timeouts)

    def next_act(self, record: InstanceRecord, *, claimed: bool) -> Act:
        """What to do for an instance whose step message came; `claimed`: this step wrote the submit lease."""
        return machine.next_act(record, self.clock.now(), claimed=claimed)

    def decide(self, record: InstanceRecord, observed: Observation) -> Decision:
        """What follows from an observation."""
        return machine.decide(record, observed, self.clock.now(), self.timeouts)

    def in_time_to_submit(self, record: InstanceRecord) -> bool:
        """Whether a submission that begins now is over before its lease."""
        return in_time_to_submit(record, self.clock.now(), self.timeouts)

    def is_silent(self, record: InstanceRecord) -> bool:
        """Whether a ready node is heard no more, so that what answers on its address need not be it."""
        return is_silent(record, self.clock.now(), self.timeouts)

    def submit_until(self) -> datetime:
        """When a submission that begins now has to be over."""
        return self.clock.now() + timedelta(seconds=self.timeouts.submit)


def queue_of(step: str) -> str:
    """Teardowns have a queue of their own, so that they never wait behind a burst of launches."""
    return TEARDOWNS if step == "teardown" else LAUNCHES


def send_step(queues: Queues, record: InstanceRecord, step: NextStep) -> None:
    """Ask for the next step of an instance.

    Raises:
        StoreUnavailableError: The message may be lost; the sweep sends it again once the step is overdue.
    """
    message = StepMessage(instanceId=record.instance_id, epoch=record.epoch, step=step.step)
    queues.send(queue_of(step.step), message, step.delay_seconds)


class CommitListener(Protocol):
    """Learns of each change once it is written; never raises. Delivery is at most once: a crash loses it."""

    def committed(self, before: InstanceRecord, after: InstanceRecord, events: Sequence[Event]) -> None: ...


@dataclass(frozen=True)
class RecordWriter:
    store: InstanceStore
    gate: LedgerGate
    costs: AttemptCosts
    telemetry: InstanceTelemetry

    def write(self, before: Versioned, record: InstanceRecord, events: Sequence[Event]) -> str:
        """Write and return the new ETag.

        An attempt whose node is deleted gets its cost entry; an ended record's reservation is settled. Both happen
        once, since the record changes in the same transaction.

        Raises:
            StaleRecordError: Another writer changed the record first.
            StoreUnavailableError: Storage did not answer, or others kept changing the ledger.
        """
        with self.telemetry.span("commit", record):
            costs = self.costs.final(before.record, record)
            reservation = record.reservation
            if reservation is None or not record.ended or before.record.ended:
                etag = self.store.commit(before, record, events, Booking(costs=costs))
            else:
                actual = micro_so_far(record, record.updated_at)

                def attempt(found: VersionedLedger) -> str:
                    booking = Booking(settle(found.ledger, reservation, actual), found.etag, costs)
                    return self.store.commit(before, record, events, booking)

                etag = self.gate.change(attempt)
            self.telemetry.costs(costs)
            self.telemetry.events(record, events)
            _log(record, events)
        return etag


@dataclass(frozen=True)
class Records:
    """The one way in which records change."""

    store: InstanceStore
    writer: RecordWriter
    lifecycle: Lifecycle
    queues: Queues
    listeners: Sequence[CommitListener]
    sleep: Callable[[float], None]

    def change(self, instance_id: str, observed: Observation, before: Versioned | None = None) -> InstanceRecord | None:
        """Apply an observation to the newest state of a record, whoever else changes it; None: no such record.

        `before` is the record as the caller has just read it, which saves a read unless it is stale.

        Raises:
            StaleRecordError: Others kept changing the record; nothing was written, the caller may ask again.
        """
        known = [before] if before is not None else []
        return while_stale(self.sleep)(self._once, instance_id, observed, known)

    def _once(self, instance_id: str, observed: Observation, known: list[Versioned]) -> InstanceRecord | None:
        before = known.pop() if known else self.store.load(instance_id)
        return None if before is None else self.change_seen(before, observed)

    def change_seen(self, before: Versioned, observed: Observation) -> InstanceRecord:
        """Apply an observation to a record as the caller has just read it.

        Raises:
            StaleRecordError: It has changed since; nothing was written.
        """
        decision = self.lifecycle.decide(before.record, observed)
        written = self.commit(before, decision)
        self.follow_up(decision)
        return written.record

    def commit(self, before: Versioned, decision: Decision) -> Versioned:
        """Write a decision and return the record as it stands then.

        A record without room for the change is written without its log and details: they never stop what is decided.

        Raises:
            StaleRecordError: Another writer changed the record first.
        """
        if not decision.changed:
            return before
        try:
            etag = self.writer.write(before, decision.record, decision.events)
        except RowTooLargeError as error:
            log.warning("%s: %s; written without its log and details", decision.record.instance_id, error)
            decision = replace(decision, record=decision.record.shortened())
            etag = self.writer.write(before, decision.record, decision.events)
        for listener in self.listeners:
            listener.committed(before.record, decision.record, decision.events)
        return Versioned(decision.record, etag)

    def follow_up(self, decision: Decision) -> bool:
        """Send the step that a written decision asks for; whether there is one."""
        if not decision.changed or decision.next_step is None:
            return False
        send_step(self.queues, decision.record, decision.next_step)
        return True


def _log(record: InstanceRecord, events: Sequence[Event]) -> None:
    for event in events:
        level = logging.WARNING if event.type in (EventType.ALERT, EventType.ATTEMPT_FAILED) else logging.INFO
        log.log(
            level,
            "%s %s: %s",
            record.instance_id,
            event.phase.value,
            event.message,
            extra={
                "instance_id": record.instance_id,
                "attempt": event.attempt,
                "phase": event.phase.value,
                "event": event.type.value,
                "reason": event.reason.value if event.reason else None,
            },
        )
