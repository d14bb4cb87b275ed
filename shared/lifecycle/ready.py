"""ready → ready, recovering or terminating: probes, notices and the termination rules."""

from datetime import datetime

from gpulaunch.models.instances import EventType, Reason
from shared.domain.instance import Failure, Health
from shared.domain.node import NodeNotice, NodePhase
from shared.domain.provider import NodeState, Probe
from shared.lifecycle.observations import Noticed, Probed, Reported
from shared.lifecycle.progress import LOG_LINES
from shared.lifecycle.recovery import recover
from shared.lifecycle.rules import next_deadline, termination_reason, unhealthy
from shared.lifecycle.termination import end
from shared.lifecycle.timeouts import Timeouts
from shared.lifecycle.transition import Decision, Transition, unchanged


def probed(transition: Transition, found: Probed, timeouts: Timeouts) -> Decision:
    """A probe of a ready node; written only when it changes what we know."""
    before = transition.record.health or Health(since=transition.now)
    if found.probe.alive:
        health = _healthy(before, found.probe, transition.now)
        if health == before:
            return unchanged(transition.before)
        if before.state == "unhealthy":
            transition.event(EventType.HEALTH, "The endpoint answers again.")
        transition.change(health=health)
        return transition.wait_until(next_deadline(transition.record, transition.now))
    lost = _lost(transition, found)
    if lost is not None:
        return recover(transition, lost, timeouts)
    failures = before.failures + 1
    sick = unhealthy(failures, timeouts.unhealthy_after, found.probe.message)
    if sick is not None:
        return recover(transition, sick, timeouts)
    if before.state == "healthy":
        transition.event(EventType.HEALTH, f"The endpoint does not answer: {found.probe.message}")
    since = before.since if before.state == "unhealthy" else transition.now
    # What was known of its load stays: a hiccup does not begin the idle time anew.
    changes = {"state": "unhealthy", "since": since, "failures": failures, "message": found.probe.message}
    transition.change(health=before.model_copy(update=changes))
    return transition.wait_until(next_deadline(transition.record, transition.now))


def noticed(transition: Transition, found: Noticed, timeouts: Timeouts) -> Decision:
    """The node expects to go away: don't wait until it has."""
    when = f" at {found.leaves_at:%H:%M:%S} UTC" if found.leaves_at else ""
    transition.event(EventType.NODE_NOTICE, f"The node says that it goes away{when}: {found.notice.value}.")
    reason = Reason.EVICTED if found.notice is NodeNotice.EVICTION else Reason.NODE_LOST
    return recover(transition, Failure(reason=reason, message=f"The node went away ({found.notice.value})."), timeouts)


def reported(transition: Transition, found: Reported, timeouts: Timeouts) -> Decision:
    """A ready node told us of its job, its log, or its end."""
    status = found.status
    attempt = transition.record.attempts[-1]
    transition.change_attempt(job=status.job or attempt.job, detail=status.detail)
    if status.log_tail:
        transition.change(log_tail=status.log_tail[-LOG_LINES:])
    # A job that ended comes before a node that goes away: it must not be run a second time.
    ending = termination_reason(transition.record, transition.now)
    if ending is not None:
        return end(transition, ending)
    if status.notice is not None:
        return noticed(transition, Noticed(found.attempt, status.notice, None), timeouts)
    if status.phase in (NodePhase.FAILED, NodePhase.STOPPING):
        message = f"The node does not serve any more ({status.phase.value}). {status.detail}".rstrip()
        return recover(transition, Failure(reason=Reason.UNHEALTHY, message=message), timeouts)
    if transition.record == transition.before:
        return unchanged(transition.before)
    return transition.wait_until(next_deadline(transition.record, transition.now))


def _healthy(before: Health, probe: Probe, now: datetime) -> Health:
    """The health after a good probe; equal to the one before unless something a rule depends on has changed."""
    busy = bool(probe.running_requests or probe.waiting_requests)
    unknown = probe.running_requests is None and probe.waiting_requests is None
    idle_since = before.idle_since
    counted = before.finished_requests
    if busy or unknown:
        idle_since = None
    elif idle_since is None or probe.finished_requests != counted:
        # Requests that came and went between two probes show in the count of finished ones.
        idle_since, counted = now, probe.finished_requests
    since = now if before.state == "unhealthy" else before.since
    if before.state == "healthy" and idle_since == before.idle_since:
        return before
    return Health(
        since=since,
        idle_since=idle_since,
        running_requests=probe.running_requests,
        waiting_requests=probe.waiting_requests,
        finished_requests=counted,
    )


def _lost(transition: Transition, found: Probed) -> Failure | None:
    """Whether the provider confirms that the node is gone."""
    view = found.view
    if view is None:
        return None
    spot = transition.record.attempts[-1].offer.use_spot
    if view.state is NodeState.STOPPED:
        reason = Reason.EVICTED if spot else Reason.NODE_LOST
        return Failure(reason=reason, message=f"The machine was stopped. {view.detail}".rstrip())
    if view.state is NodeState.ABSENT:
        return Failure(reason=Reason.NODE_LOST, message="The provider says that the node is gone.")
    return None
