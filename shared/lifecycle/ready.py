"""Ready instances: probes, interruption notices and termination rules."""

from datetime import datetime, timedelta

from gpulaunch.models.instances import EventType, Phase, Reason
from gpulaunch.models.times import seconds_between
from shared.domain.instance import Failure, Health
from shared.domain.node import NodeNotice, NodePhase
from shared.domain.provider import NodeState, Probe
from shared.domain.request import StoredJobResult
from shared.lifecycle.liveness import note_heard, problem, worked
from shared.lifecycle.observations import Noticed, Probed, Reported
from shared.lifecycle.provision import fail_attempt
from shared.lifecycle.rules import idle_for_so_long, lost_too_often, next_deadline, termination_reason, unhealthy
from shared.lifecycle.termination import terminate
from shared.lifecycle.timeouts import Timeouts
from shared.lifecycle.transition import Decision, Transition, unchanged

NOTICE_DRAIN = {NodeNotice.EVICTION: timedelta(seconds=25), NodeNotice.SIGTERM: timedelta(seconds=10)}
"""For what a node works on before its machine is shut down: Azure gives notice 30 s before, and Slurm and containers
kill 30 s after SIGTERM, of which an agent waits ten (`agent.py`)."""


def probed(transition: Transition, found: Probed, timeouts: Timeouts) -> Decision:
    """Apply a probe of a ready node; write only if it changes anything."""
    before = transition.record.health or Health(since=transition.now)
    message = problem(transition.record, found.probe, transition.now, timeouts)
    if found.probe.alive:
        health = worked(_healthy(before, found.probe, transition.now), found.probe, transition.now, timeouts)
        health = _without_metrics(transition, health, found.probe, timeouts)
        idle = idle_for_so_long(transition.record.model_copy(update={"health": health}), transition.now)
        if idle is not None:
            return terminate(transition, idle)
    else:
        health = before
    if message is None:
        if health == before:
            return unchanged(transition.before)
        if before.state == "unhealthy" and not before.untold:
            transition.event(EventType.HEALTH, "The endpoint answers again.")
        transition.change(health=health)
        return transition.wait_until(next_deadline(transition.record, transition.now))
    lost = _lost(transition, found)
    if lost is not None:
        return recover(transition, lost, timeouts)
    failures = before.failures + 1
    since = before.since if before.state == "unhealthy" else transition.now
    sick = unhealthy(failures, timeouts.unhealthy_after, message)
    if sick is not None and seconds_between(since, transition.now) >= _patience(found, timeouts):
        return recover(transition, sick, timeouts)
    # Keep what is known about its load: a hiccup does not restart the idle time.
    health = before.fail(since, failures, message)
    if before.state == "healthy":
        health = _tell(transition, health, found.probe, timeouts)
    transition.change(health=health)
    return transition.wait_until(next_deadline(transition.record, transition.now))


def noticed(transition: Transition, found: Noticed, timeouts: Timeouts) -> Decision:
    when = f" at {found.leaves_at:%H:%M:%S} UTC" if found.leaves_at else ""
    transition.event(EventType.NODE_NOTICE, f"The machine is about to be shut down{when}: {found.notice.value}.")
    failure = Failure(
        reason=Reason.EVICTED if found.notice is NodeNotice.EVICTION else Reason.NODE_LOST,
        message=f"The machine was shut down ({found.notice.value}).",
    )
    drained = transition.now + NOTICE_DRAIN.get(found.notice, timedelta())
    return recover(transition, failure, timeouts, min(drained, found.leaves_at or drained))


def recover(transition: Transition, failure: Failure, timeouts: Timeouts, drained: datetime | None = None) -> Decision:
    """Give up a ready instance's node and start a new round of offers, unless it was lost too often.

    The node is deleted at once, or after `drained`.
    """
    record = transition.record
    fail_attempt(transition, failure)
    ending = lost_too_often(record, timeouts.max_recoveries, failure)
    if ending is not None:
        return terminate(transition, ending)
    transition.change(recoveries=record.recoveries + 1, tried_in_round=0, epoch=record.epoch + 1, health=None)
    transition.move(Phase.RECOVERING, "Deleting the lost node before provisioning a new one.", failure.reason)
    if drained is None or drained <= transition.now:
        return transition.requeue_after("advance")
    transition.change_attempt(drains_until=drained)
    return transition.requeue_after("advance", seconds_between(transition.now, drained))


def reported(transition: Transition, found: Reported, timeouts: Timeouts) -> Decision:
    status = found.status
    note_heard(transition, timeouts)
    attempt = transition.record.attempts[-1]
    transition.change_attempt(job=StoredJobResult.of(status.job) if status.job else attempt.job, detail=status.detail)
    if status.log_tail:
        transition.log(status.log_tail)
    # A finished job takes precedence over a shutdown: it must not run a second time.
    ending = termination_reason(transition.record, transition.now)
    if ending is not None:
        return terminate(transition, ending)
    if status.notice is not None:
        return noticed(transition, Noticed(found.attempt, status.notice, None), timeouts)
    if status.phase in (NodePhase.FAILED, NodePhase.STOPPING):
        message = f"The node has stopped serving ({status.phase.value}). {status.detail}".rstrip()
        return recover(transition, Failure(reason=Reason.UNHEALTHY, message=message), timeouts)
    if transition.record == transition.before:
        return unchanged(transition.before)
    return transition.wait_until(next_deadline(transition.record, transition.now))


def _patience(found: Probed, timeouts: Timeouts) -> float:
    """Return the seconds for which a node has to be unhealthy before it is given up."""
    if not found.probe.alive:
        return 0.0
    vouched = found.view is not None and found.view.state is NodeState.UP
    return timeouts.silence_vouched if vouched else timeouts.silence_observed


def _tell(transition: Transition, health: Health, probe: Probe, timeouts: Timeouts) -> Health:
    """Write an event of a node that does not answer, unless it flaps: then count, for the next event to say so."""
    told_at, now = health.told_at, transition.now
    if told_at is not None and seconds_between(told_at, now) < timeouts.flapping_quiet:
        return health.model_copy(update={"untold": health.untold + 1})
    more = "" if told_at is None or not health.untold else f" ({health.untold} more times since {told_at:%H:%M} UTC)"
    what = "is not healthy" if probe.alive else "does not answer"
    transition.event(EventType.HEALTH, f"The endpoint {what}: {health.message}{more}")
    return health.model_copy(update={"told_at": now, "untold": 0})


def _without_metrics(transition: Transition, health: Health, probe: Probe, timeouts: Timeouts) -> Health:
    """Write an event when a node's load is not known, on which its idle rule depends; not each time if it flaps."""
    unknown = probe.running_requests is None and probe.waiting_requests is None
    message = probe.message if unknown and transition.record.request.idle_minutes is not None else ""
    if message == health.message:
        return health
    told_at, now = health.told_at, transition.now
    if message and not health.message and (told_at is None or seconds_between(told_at, now) >= timeouts.flapping_quiet):
        transition.event(EventType.HEALTH, f"idle_minutes has no effect while {message}.")
        health = health.model_copy(update={"told_at": now})
    return health.model_copy(update={"message": message})


def _healthy(before: Health, probe: Probe, now: datetime) -> Health:
    """Return the health after a good probe; unchanged unless something that a rule depends on has changed."""
    busy = bool(probe.running_requests or probe.waiting_requests)
    unknown = probe.running_requests is None and probe.waiting_requests is None
    idle_since = before.idle_since
    counted = before.finished_requests
    if busy or unknown:
        idle_since = None
    elif idle_since is None or probe.finished_requests != counted:
        # The count of finished requests reveals those that ran between two probes.
        idle_since, counted = now, probe.finished_requests
    since = now if before.state == "unhealthy" else before.since
    if before.state == "healthy" and idle_since == before.idle_since:
        return before
    return before.model_copy(
        update={
            "state": "healthy",
            "since": since,
            "failures": 0,
            "message": "",
            "idle_since": idle_since,
            "running_requests": probe.running_requests,
            "waiting_requests": probe.waiting_requests,
            "finished_requests": counted,
        }
    )


def _lost(transition: Transition, found: Probed) -> Failure | None:
    """Return the failure if the provider confirms that the node was lost."""
    view = found.view
    if view is None:
        return None
    spot = transition.record.attempts[-1].offer.use_spot
    if view.state is NodeState.STOPPED:
        reason = Reason.EVICTED if spot else Reason.NODE_LOST
        return Failure(reason=reason, message=f"The machine was stopped. {view.detail}".rstrip())
    if view.state is NodeState.ABSENT:
        return Failure(reason=Reason.NODE_LOST, message="The provider reports that the node no longer exists.")
    return None
