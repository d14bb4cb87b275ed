"""Every change of a record: load, decide, write with its bookings, pass on what happened, send the next step."""

import logging
from collections.abc import Callable, Sequence
from typing import Protocol

from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from gpulaunch.models.instances import EventType
from shared.billing.attempt_costs import AttemptCosts
from shared.billing.gate import LedgerGate
from shared.billing.ledger import settle
from shared.control.lifecycle import Lifecycle
from shared.control.step_queue import StepQueue
from shared.domain.costs import micro_so_far
from shared.domain.event import Event
from shared.domain.instance import InstanceRecord
from shared.errors import StaleRecordError
from shared.lifecycle.observations import Observation
from shared.lifecycle.transition import Decision
from shared.observability.instances import InstanceTelemetry
from shared.storage.base import Booking, InstanceStore, Versioned, VersionedLedger

log = logging.getLogger("gpulaunch.lifecycle")

_TRIES = 8
"""Against one step that commits now and then, two tries do; eight outlast a dozen callers at once."""


class CommitListener(Protocol):
    """Learns of each change once it is written; never raises. Delivery is at most once: a crash loses it."""

    def committed(self, before: InstanceRecord, after: InstanceRecord, events: Sequence[Event]) -> None:
        """React to a change that was written."""
        ...


class RecordWriter:
    """Writes a changed record, its events and their bookings, in one transaction."""

    def __init__(
        self, store: InstanceStore, gate: LedgerGate, costs: AttemptCosts, telemetry: InstanceTelemetry
    ) -> None:
        self._store = store
        self._gate = gate
        self._costs = costs
        self._telemetry = telemetry

    def write(self, before: Versioned, record: InstanceRecord, events: Sequence[Event]) -> str:
        """Write and return the new ETag.

        An attempt whose node is deleted gets its cost entry; an ended record's reservation is settled. Both happen
        once, since the record changes in the same transaction.

        Raises:
            StaleRecordError: Another writer changed the record first.
            StoreUnavailableError: Storage did not answer, or others kept changing the ledger.
        """
        with self._telemetry.span("commit", record):
            costs = self._costs.final(before.record, record)
            reservation = record.reservation
            if reservation is None or not record.ended or before.record.ended:
                etag = self._store.commit(before, record, events, Booking(costs=costs))
            else:
                actual = micro_so_far(record, record.updated_at)

                def attempt(found: VersionedLedger) -> str:
                    booking = Booking(settle(found.ledger, reservation, actual), found.etag, costs)
                    return self._store.commit(before, record, events, booking)

                etag = self._gate.change(attempt)
            self._telemetry.costs(costs)
            self._telemetry.events(record, events)
            _log(record, events)
        return etag


class Records:
    """The one way in which records change."""

    def __init__(
        self,
        store: InstanceStore,
        writer: RecordWriter,
        lifecycle: Lifecycle,
        steps: StepQueue,
        listeners: Sequence[CommitListener],
        sleep: Callable[[float], None],
    ) -> None:
        self._store = store
        self._writer = writer
        self._lifecycle = lifecycle
        self._steps = steps
        self._listeners = listeners
        self._sleep = sleep

    def change(self, instance_id: str, observed: Observation, before: Versioned | None = None) -> InstanceRecord | None:
        """Apply an observation to the newest state of a record, whoever else changes it; None: no such record.

        `before` is the record as the caller has just read it, which saves a read unless it is stale.

        Raises:
            StaleRecordError: Others kept changing the record; nothing was written, the caller may ask again.
        """
        known = [before] if before is not None else []
        retrying = Retrying(
            retry=retry_if_exception_type(StaleRecordError),
            stop=stop_after_attempt(_TRIES),
            wait=wait_random_exponential(multiplier=0.02, max=0.5),
            sleep=self._sleep,
            reraise=True,
        )
        return retrying(self._once, instance_id, observed, known)

    def _once(self, instance_id: str, observed: Observation, known: list[Versioned]) -> InstanceRecord | None:
        before = known.pop() if known else self._store.load(instance_id)
        if before is None:
            return None
        decision = self._lifecycle.decide(before.record, observed)
        self.commit(before, decision)
        self.follow_up(decision)
        return decision.record

    def commit(self, before: Versioned, decision: Decision) -> Versioned:
        """Write a decision and return the record as it stands then.

        Raises:
            StaleRecordError: Another writer changed the record first.
        """
        if not decision.changed:
            return before
        etag = self._writer.write(before, decision.record, decision.events)
        for listener in self._listeners:
            listener.committed(before.record, decision.record, decision.events)
        return Versioned(decision.record, etag)

    def follow_up(self, decision: Decision) -> bool:
        """Send the step that a written decision asks for; whether there is one."""
        if not decision.changed or decision.next_step is None:
            return False
        self._steps.send(decision.record, decision.next_step)
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
