"""The sweep: one walk over the live instances that makes good what was lost, and has the ready ones probed."""

import logging
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta

from gpulaunch.models.instances import Phase
from shared.billing.admission import BudgetCapMonitor
from shared.control.parts import Parts
from shared.control.probe import probe_ready
from shared.control.records import change, send
from shared.control.sweep.garbage import collect, list_clusters, should_list_skypilot
from shared.domain.instance import AttemptState, InstanceRecord
from shared.domain.messages import ProbeMessage, StepMessage, read_message
from shared.errors import MessageError, StaleRecordError
from shared.lifecycle.observations import Poisoned, TerminationRequested
from shared.lifecycle.transition import NextStep, StepName
from shared.queues import HEALTH, QUEUES
from shared.storage.base import QueuedMessage, Unreadable, UnreadableRecordError, Versioned

log = logging.getLogger("gpulaunch.sweep")

GRACE = timedelta(seconds=20)
"""How late a step may be before it is sent again: polling and a busy queue cost seconds, a lost message never comes."""
SLICE = 200
"""Ready instances per probe message: with 20 ms a probe and 64 at once, well under a second of work. The sweep itself
probes the last slice, which for a small fleet is all of it: a message and a second reading would cost more."""
COLLECT_EVERY = timedelta(minutes=2)
"""Between two looks for garbage: each costs one listing of the cloud, and an orphan gets five minutes' grace anyway."""
QUIET_CHECK = timedelta(minutes=10)
"""The poison queues are read when something is overdue, and this often anyway."""


@dataclass(frozen=True)
class SweepReport:
    """What one sweep did."""

    live: int
    ready: int
    resent: int
    probes: int
    """Slices that were sent to be probed elsewhere."""
    poisoned: int
    collected: int
    """Orphans that were taken away."""
    over_budget: int = 0
    """Instances that begin to end because a month's budget is used up."""


def run_sweep(parts: Parts) -> SweepReport:
    """Walk once over all live instances."""
    now = parts.clock.now()
    # The cloud is listed before the records: what is launched in between is in neither list, or in the records' alone.
    found_clusters = (
        list_clusters(parts, books=should_list_skypilot(parts, now)) if _is_time(now, COLLECT_EVERY) else None
    )
    known: set[str] = set()
    live = ready = resent = probes = 0
    here: list[Versioned] = []
    cap = BudgetCapMonitor(parts, now)
    for found in parts.store.live():
        live += 1
        if isinstance(found, Unreadable):
            log.error("%s cannot be read: %s", found.instance_id, found.why, extra={"event": "unreadable"})
            known.update(name for name in (found_clusters.clusters if found_clusters else ()) if found.owns(name))
            continue
        record = found.record
        cap.see(record)
        known.update(attempt.cluster_name for attempt in record.attempts if attempt.state is not AttemptState.GONE)
        if _overdue(record, now):
            send(parts, record, NextStep(_step_of(record), 0.0))
            resent += 1
        if record.phase is Phase.READY:
            ready += 1
            if len(here) == SLICE:
                newest, oldest = here[0].record.instance_id, here[-1].record.instance_id
                parts.queues.send(HEALTH, ProbeMessage(instanceId=newest, lastInstanceId=oldest))
                probes += 1
                here = []
            here.append(found)
    poisoned = sum(_read_poison(parts, queue) for queue in QUEUES) if resent or _is_time(now, QUIET_CHECK) else 0
    collected = 0 if found_clusters is None else collect(parts, found_clusters, known, now)
    over_budget = _end_over_budget(parts, cap)
    report = SweepReport(live, ready, resent, probes, poisoned, collected, over_budget)
    log.info("sweep: %s", report, extra={"event": "sweep", **asdict(report)})
    # Last, since nodes that don't answer take seconds.
    probe_ready(parts, here)
    if parts.prices is not None:
        parts.prices.step(now)
    return report


def _end_over_budget(parts: Parts, cap: BudgetCapMonitor) -> int:
    """Begin to end what runs on a budget that is used up; how many."""
    ended = 0
    for instance_id, failure in cap.to_end().items():
        try:
            change(parts, instance_id, TerminationRequested(failure))
        except StaleRecordError:
            log.warning("%s kept changing; the next sweep ends it: %s", instance_id, failure.message)
        else:
            ended += 1
    return ended


def _is_time(now: datetime, every: timedelta) -> bool:
    """Whether this is the first sweep of a stretch of time; sweeps come every half minute."""
    return now.minute % (every.seconds // 60) == 0 and now.second < 30


def _overdue(record: InstanceRecord, now: datetime) -> bool:
    if record.due_at is None:
        return False
    # Nobody sends a message for a ready instance's deadline or idle time: the sweep is what enforces them.
    grace = timedelta(0) if record.phase is Phase.READY else GRACE
    return record.due_at + grace <= now


def _step_of(record: InstanceRecord) -> StepName:
    return "teardown" if record.phase is Phase.TERMINATING else "advance"


def _read_poison(parts: Parts, queue: str) -> int:
    """Tell the instances whose messages were given up; what can't be understood stays where it is. How many."""
    told = 0
    for message in parts.queues.poisoned(queue):
        if _settle(parts, queue, message):
            parts.queues.forget(message)
            told += 1
    return told


def _settle(parts: Parts, queue: str, message: QueuedMessage) -> bool:
    """Whether a message that the host poisoned in a queue is dealt with for good."""
    try:
        if queue == HEALTH:
            probe = read_message(ProbeMessage, message.body)
            text = "a probe down from %s failed again and again; the next sweep sends a new one"
            log.error(text, probe.instanceId, extra={"event": "poison"})
            return True
        step = read_message(StepMessage, message.body)
    except MessageError:
        return False
    told = {"event": "poison", "instance_id": step.instanceId}
    log.warning("%s: the host gave up a message of step %s", step.instanceId, step.step, extra=told)
    try:
        return change(parts, step.instanceId, Poisoned(step.epoch)) is not None
    except (StaleRecordError, UnreadableRecordError):
        return False
