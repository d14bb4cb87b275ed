"""Changing one record from outside its steps: a user's wish, a node's word, a poisoned message."""

import logging

from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from gpulaunch.models.instances import EventType
from shared.billing.admission import write
from shared.control.offer_memory import remember_failures
from shared.control.parts import Parts
from shared.domain.instance import InstanceRecord
from shared.domain.messages import StepMessage
from shared.errors import StaleRecordError
from shared.lifecycle.machine import decide
from shared.lifecycle.observations import Observation
from shared.lifecycle.transition import Decision, NextStep
from shared.observability.instances import about, record_events
from shared.queues import LAUNCHES, TEARDOWNS
from shared.storage.base import Versioned
from shared.webhooks.announcements import announce

log = logging.getLogger("gpulaunch.lifecycle")

_TRIES = 8
"""Against one step that commits now and then, two tries do; eight outlast a dozen callers at once."""


def change(parts: Parts, instance_id: str, found: Observation) -> InstanceRecord | None:
    """Apply an observation to the newest state of a record, whoever else changes it; None: there is no such record.

    Raises
    ------
    StaleRecordError
        Others kept changing the record; nothing was written, the caller may ask again.
    """
    for attempt in Retrying(
        retry=retry_if_exception_type(StaleRecordError),
        stop=stop_after_attempt(_TRIES),
        wait=wait_random_exponential(multiplier=0.02, max=0.5),
        sleep=parts.sleep,
        reraise=True,
    ):
        with attempt:
            before = parts.store.load(instance_id)
            if before is None:
                return None
            decision = decide(before.record, found, parts.clock.now(), parts.timeouts)
            commit(parts, before, decision)
            if decision.changed and decision.next_step is not None:
                send(parts, decision.record, decision.next_step)
            return decision.record
    raise AssertionError("unreachable: the last try returns or raises")


def commit(parts: Parts, before: Versioned, decision: Decision) -> Versioned:
    """Write a decision; the record as it stands then. Raises StaleRecordError."""
    if not decision.changed:
        return before
    with parts.telemetry.span("commit", decision.record.traceparent, **about(decision.record)):
        etag = write(parts, before, decision.record, decision.events)
        record_events(parts, decision.record, decision.events)
        _log(decision)
    remember_failures(parts, before.record, decision.record)
    announce(parts, decision.record, decision.events)
    return Versioned(decision.record, etag)


def _log(decision: Decision) -> None:
    for event in decision.events:
        level = logging.WARNING if event.type in (EventType.ALERT, EventType.ATTEMPT_FAILED) else logging.INFO
        log.log(
            level,
            "%s %s: %s",
            decision.record.instance_id,
            event.phase.value,
            event.message,
            extra={
                "instance_id": decision.record.instance_id,
                "attempt": event.attempt,
                "phase": event.phase.value,
                "event": event.type.value,
                "reason": event.reason.value if event.reason else None,
            },
        )


def queue_of(next_step: NextStep) -> str:
    """The queue of a step."""
    return TEARDOWNS if next_step.step == "teardown" else LAUNCHES


def send(parts: Parts, record: InstanceRecord, next_step: NextStep) -> None:
    """Ask for the next step of an instance."""
    message = StepMessage(instanceId=record.instance_id, epoch=record.epoch, step=next_step.step)
    parts.queues.send(queue_of(next_step), message, next_step.delay_seconds)
