"""Whether a node itself shows that it is alive, and whether it works. Pure.

Whatever answers on a node's address need not be the node: addresses of evicted machines are given to others. A node is
heard when it calls with its attempt's token, or when its agent answers a challenge that only it can.
"""

from datetime import datetime

from gpulaunch.models.instances import Phase, Reason
from gpulaunch.models.times import seconds_between
from shared.domain.instance import Failure, Health, InstanceRecord
from shared.domain.provider import Probe
from shared.lifecycle.timeouts import Timeouts
from shared.lifecycle.transition import Decision, Transition, unchanged


def note_heard(transition: Transition, timeouts: Timeouts) -> None:
    """Write down now and then that the latest attempt's node was heard; a simulated one is asked until it is ready."""
    if transition.record.mode != "real":
        return
    last = transition.record.attempts[-1].heard_at
    if last is None or seconds_between(last, transition.now) >= timeouts.heard_every:
        transition.change_attempt(heard_at=transition.now)


def heard(transition: Transition, timeouts: Timeouts) -> Decision:
    """Apply a heartbeat."""
    note_heard(transition, timeouts)
    if transition.record is transition.before:
        return unchanged(transition.before)
    return transition.wait_until(transition.record.due_at)


def is_heard(record: InstanceRecord, now: datetime, timeouts: Timeouts) -> bool:
    """Whether the latest attempt's node was heard lately."""
    last = record.attempts[-1].heard_at
    return last is not None and seconds_between(last, now) < timeouts.heard_lately


def may_have_been_unheard(record: InstanceRecord, now: datetime, timeouts: Timeouts) -> bool:
    """Whether a node that calls had no one to call: this step is as late as after an outage of the app.

    Such a node may be further than its record says, and says so within two minutes.
    """
    attempt = record.attempts[-1]
    if not attempt.calls_us or attempt.heard_at is None or is_heard(record, now, timeouts):
        return False
    return record.due_at is not None and seconds_between(record.due_at, now) >= timeouts.heard_lately


def is_silent(record: InstanceRecord, now: datetime, timeouts: Timeouts) -> bool:
    """Whether the node of a ready instance, which was heard before, is heard no more."""
    last = record.attempts[-1].heard_at
    return record.phase is Phase.READY and last is not None and seconds_between(last, now) >= timeouts.silent


def problem(record: InstanceRecord, probe: Probe, now: datetime, timeouts: Timeouts) -> str | None:
    """Return what is wrong with a ready node by a probe of it, or None."""
    if not probe.alive:
        return probe.message
    if is_silent(record, now, timeouts):
        since = record.attempts[-1].heard_at
        return f"it answers, but its agent has been silent since {since:%H:%M} UTC; is it another machine?"
    health = record.health
    if health is None or health.work_at is None or not is_busy(probe) or probe.tokens is None:
        return None
    if probe.tokens != health.work_mark or seconds_between(health.work_at, now) < timeouts.stalled:
        return None
    minutes = timeouts.stalled / 60
    return f"it answers, but none of its requests has made any progress for {minutes:.0f} minutes"


def is_busy(probe: Probe) -> bool:
    return bool(probe.running_requests or probe.waiting_requests)


def worked(health: Health, probe: Probe, now: datetime, timeouts: Timeouts) -> Health:
    """Return the health with the mark by which progress is measured; moved now and then, since a write costs money."""
    if not is_busy(probe) or probe.tokens is None:
        return health if health.work_at is None else health.model_copy(update={"work_mark": None, "work_at": None})
    moved = probe.tokens != health.work_mark
    if health.work_at is not None and (not moved or seconds_between(health.work_at, now) < timeouts.heard_every):
        return health
    return health.model_copy(update={"work_mark": probe.tokens, "work_at": now})


def never_reported(record: InstanceRecord, now: datetime, timeouts: Timeouts) -> Failure | None:
    """Return why a node is given up that runs and has an agent that does nothing, or None."""
    attempt = record.attempts[-1]
    if attempt.node_up_at is None or attempt.heard_at is not None or attempt.calls_us or attempt.node_phase is not None:
        return None
    if seconds_between(attempt.node_up_at, now) < timeouts.first_report:
        return None
    message = (
        f"The node has been running for {timeouts.first_report / 60:.0f} minutes, and its agent has not reported. "
        "Check that nodes reach GPULAUNCH_PUBLIC_URL or, without it, that the app reaches them."
    )
    return Failure(reason=Reason.INSTALL_TIMEOUT, message=message)
