"""One step of one instance: load, observe or act, decide, write, send the follow-up."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace

from gpulaunch.deadlines import time_left, time_limit
from gpulaunch.models.instances import Phase
from shared.control.observer import Observer
from shared.control.records import Lifecycle, Records, queue_of
from shared.domain.errors import MessageError
from shared.domain.instance import Event
from shared.domain.messages import StepMessage
from shared.errors import StaleRecordError
from shared.lifecycle.observations import Act, Decide, Nothing
from shared.lifecycle.transition import Decision, NextStep
from shared.observability.instances import InstanceTelemetry
from shared.storage.base import InstanceStore, UnreadableRecordError, Versioned

log = logging.getLogger("gpulaunch.steps")

_ROUNDS = 8
"""Follow-ups that one invocation takes itself; more than any legal run of undelayed steps, fewer than a loop."""
_IN_PLACE = 1.0
"""Seconds that a step waits itself rather than by a message: queues count in whole seconds."""
ACT_SECONDS = 240.0
"""For all calls of one act: listing a model takes two minutes at most, and its headers one more. A round begins only
where this much is left of the step's time, so that what an act has learned is still written."""


@dataclass(frozen=True)
class StepRunner:
    store: InstanceStore
    observer: Observer
    records: Records
    lifecycle: Lifecycle
    telemetry: InstanceTelemetry
    sleep: Callable[[float], None]

    def run(self, message: StepMessage) -> None:
        """Bring an instance forward as far as it goes without waiting.

        Raises:
            MessageError: There is no such instance.
        """
        try:
            before = self.store.load(message.instanceId)
        except UnreadableRecordError as error:
            # For a version that can read it; until then the sweep reports it, and sends no further step.
            log.error("a step is dropped: %s", error)  # noqa: TRY400 - the error says all there is
            return
        if before is None:
            raise MessageError(f"there is no instance {message.instanceId}")
        if message.epoch < before.record.epoch:
            return
        with self.telemetry.span(f"step {message.step}", before.record):
            self._advance(before, message)

    def _advance(self, before: Versioned, message: StepMessage) -> None:
        here = queue_of(message.step)
        claimed = False
        unwritten: tuple[Event, ...] = ()
        record = before.record
        for left in reversed(range(_ROUNDS)):
            act = self.lifecycle.next_act(record, claimed=claimed)
            if isinstance(act, Nothing):
                return
            with time_limit(ACT_SECONDS):
                observed = self.observer.perform(record, act)
            decision = self.lifecycle.decide(record, observed)
            if not decision.changed:
                return
            record = decision.record
            if _can_wait(act, decision):
                # Nothing was done that a crash could hide, and nothing is about to be: one write for this and the next.
                unwritten += decision.events
                continue
            try:
                before = self.records.commit(before, replace(decision, events=unwritten + decision.events))
            except StaleRecordError:
                log.debug("%s: another step was first", record.instance_id)
                return
            unwritten = ()
            step = decision.next_step
            if step is None:
                return
            last = not left or time_left() < ACT_SECONDS
            if queue_of(step.step) != here or step.delay_seconds >= _IN_PLACE or last:
                self.records.follow_up(decision)
                return
            if step.delay_seconds > 0:
                self.sleep(step.delay_seconds)
            claimed = decision.claimed


def _can_wait(act: Act, decision: Decision) -> bool:
    """Whether a decision need not be written before the next one, which follows at once and is always written."""
    begun = isinstance(act, Decide) and decision.record.phase is Phase.VALIDATING
    return begun and decision.next_step == NextStep("advance", 0.0)
