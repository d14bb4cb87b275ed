"""From provisioning to ready, following the node's progress."""

from gpulaunch.models.instances import STARTING, Phase, Reason
from gpulaunch.models.times import seconds_between
from shared.domain.instance import AttemptState, Failure, Health
from shared.domain.node import NodeNotice, NodePhase, NodeStatus
from shared.domain.provider import NodeState, NodeView, Probe
from shared.domain.request import StoredJobResult
from shared.lifecycle.liveness import is_heard, may_have_been_unheard, never_reported, note_heard
from shared.lifecycle.observations import NotEnabled, Observed, ProviderUnavailable, Registered, Reported
from shared.lifecycle.provision import bill_from_creation, give_up_attempt
from shared.lifecycle.rules import next_deadline, overdue, termination_reason
from shared.lifecycle.termination import terminate
from shared.lifecycle.timeouts import Timeouts
from shared.lifecycle.transition import Decision, Transition, unchanged

_PHASES = {
    NodePhase.INSTALLING: Phase.INSTALLING,
    NodePhase.LOADING_MODEL: Phase.LOADING_MODEL,
    NodePhase.STARTING_SERVER: Phase.STARTING_SERVER,
    NodePhase.SERVING: Phase.REGISTERING,
}
_UPWARD = (*STARTING[STARTING.index(Phase.PROVISIONING) :], Phase.READY)
_TEXTS = {
    Phase.INSTALLING: "The node is running; installing vLLM.",
    Phase.LOADING_MODEL: "vLLM is installed; downloading the model.",
    Phase.STARTING_SERVER: "The model is downloaded; starting vLLM.",
    Phase.REGISTERING: "vLLM is up; checking that its address is reachable.",
}
_FAILURES = {
    "install_failed": Reason.INSTALL_FAILED,
    "model_fetch_failed": Reason.MODEL_FETCH_FAILED,
    "server_failed": Reason.SERVER_FAILED,
    "port_taken": Reason.PORT_TAKEN,
}

_REFUSALS = frozenset({Reason.NO_CAPACITY, Reason.QUOTA_EXCEEDED, Reason.PERMISSION_DENIED, Reason.IMAGE_UNAVAILABLE})
"""What a cloud says instead of creating a machine, which then costs nothing."""


def observed(transition: Transition, found: Observed, timeouts: Timeouts) -> Decision:
    """Advance or give up an attempt after the provider described it."""
    attempt = transition.record.attempts[-1]
    view, status = found.view, found.status
    bill_from_creation(transition, view.created_at)
    if view.listed:
        transition.change_attempt(listed=True)
    if status is not None:
        note_heard(transition, timeouts)
        _take_status(transition, status)
        ending = termination_reason(transition.record, transition.now)
        if ending is not None:
            return terminate(transition, ending)
    failure = _failure_of(transition, view, status, timeouts)
    if failure is None:
        if view.state is NodeState.UP and attempt.node_up_at is None:
            transition.change_attempt(node_up_at=transition.now)
        transition.change_attempt(address=view.address or attempt.address, detail=_detail(view, status))
        _advance(transition, view, status)
        if transition.record.phase is Phase.REGISTERING and found.probe is not None and found.probe.alive:
            return _ready(transition, found.probe)
        # Only now: a node that went on unobserved is not late.
        failure = overdue(transition.record, transition.now, timeouts.allowed) or never_reported(
            transition.record, transition.now, timeouts
        )
        if failure is not None and may_have_been_unheard(transition.before, transition.now, timeouts):
            return transition.requeue_after("advance", timeouts.silence_observed)
    if failure is not None:
        if attempt.node_up_at is None and not attempt.submitted_again and _never_had_machine(view):
            transition.change_attempt(billed_from=None)
        return give_up_attempt(transition, failure, timeouts)
    return transition.requeue_after("advance", _next_poll(transition, view, timeouts))


def unanswered(transition: Transition, found: ProviderUnavailable | NotEnabled, timeouts: Timeouts) -> Decision:
    """Poll again after the provider did not answer; the attempt's time limit keeps running.

    A node that says itself that it is alive is not given up by time alone: what it waits for may be the provider, which
    comes back unless it has lost its records.
    """
    late = overdue(transition.record, transition.now, timeouts.allowed)
    lost = isinstance(found, ProviderUnavailable) and found.lost
    if late is not None and (lost or not is_heard(transition.record, transition.now, timeouts)):
        return give_up_attempt(
            transition, Failure(reason=late.reason, message=f"{late.message} {found.message}"), timeouts
        )
    return transition.requeue_after("advance", timeouts.unanswered_poll)


def reported(transition: Transition, found: Reported, timeouts: Timeouts) -> Decision:
    """Advance or give up an attempt after its node's report."""
    _node_is_up(transition, timeouts)
    _take_status(transition, found.status)
    ending = termination_reason(transition.record, transition.now)
    if ending is not None:
        return terminate(transition, ending)
    failure = _node_failure(found.status)
    if failure is not None:
        return give_up_attempt(transition, failure, timeouts)
    _advance(transition, NodeView(state=NodeState.UP), found.status)
    if transition.record == transition.before:
        return unchanged(transition.before)
    if transition.record.phase is transition.before.phase:
        # Keep the next poll's time: a node that reports often must not postpone the end of its phase's time limit.
        return transition.wait_until(transition.before.due_at)
    return transition.requeue_after("advance", _next_poll(transition, NodeView(state=NodeState.UP), timeouts))


def registered(transition: Transition, found: Registered, timeouts: Timeouts) -> Decision:
    """Check at once whether a registered node's address is reachable."""
    _node_is_up(transition, timeouts)
    transition.change_attempt(port=found.registration.port, node_phase=NodePhase.SERVING)
    _to(transition, Phase.REGISTERING)
    return transition.requeue_after("advance")


def leaving(notice: NodeNotice | None) -> Failure:
    reason = Reason.EVICTED if notice is NodeNotice.EVICTION else Reason.NODE_LOST
    said = notice.value if notice else "stopping"
    return Failure(reason=reason, message=f"The machine was shut down before it was ready ({said}).")


def _node_is_up(transition: Transition, timeouts: Timeouts) -> None:
    """Note that a callback proves the node is up, and that the provider accepted the attempt."""
    note_heard(transition, timeouts)
    attempt = transition.record.attempts[-1]
    if not attempt.calls_us:
        transition.change_attempt(calls_us=True)
    if attempt.node_up_at is None:
        transition.change_attempt(node_up_at=transition.now)
    if attempt.state is AttemptState.SUBMITTING:
        # Keep the lease: the submitting step has not returned yet and may be retrying.
        transition.change_attempt(state=AttemptState.SUBMITTED)


def _take_status(transition: Transition, status: NodeStatus) -> None:
    attempt = transition.record.attempts[-1]
    transition.change_attempt(
        node_phase=status.phase,
        detail=status.detail,
        fetched_bytes=status.fetched_bytes if status.fetched_bytes is not None else attempt.fetched_bytes,
        total_bytes=status.total_bytes if status.total_bytes is not None else attempt.total_bytes,
        port=status.port or attempt.port,
        job=StoredJobResult.of(status.job) if status.job else attempt.job,
    )
    if status.log_tail:
        transition.log(status.log_tail)


def _detail(view: NodeView, status: NodeStatus | None) -> str:
    return status.detail if status is not None and status.detail else view.detail


def _advance(transition: Transition, view: NodeView, status: NodeStatus | None) -> None:
    if status is not None and status.phase in _PHASES:
        _to(transition, _PHASES[status.phase])
    elif view.state is NodeState.UP:
        _to(transition, Phase.INSTALLING)


def _to(transition: Transition, phase: Phase) -> None:
    """Move forward only: a late report of an earlier phase changes nothing."""
    if transition.record.phase in _UPWARD and _UPWARD.index(phase) > _UPWARD.index(transition.record.phase):
        transition.move(phase, _TEXTS[phase])


def _ready(transition: Transition, probe: Probe) -> Decision:
    transition.change_attempt(ready_at=transition.now, detail="")
    idle = probe.running_requests == 0 and probe.waiting_requests == 0
    transition.change(
        health=Health(
            since=transition.now,
            idle_since=transition.now if idle else None,
            running_requests=probe.running_requests,
            waiting_requests=probe.waiting_requests,
            finished_requests=probe.finished_requests,
        )
    )
    transition.move(Phase.READY, "The endpoint is ready.")
    return transition.wait_until(next_deadline(transition.record, transition.now))


def _node_failure(status: NodeStatus) -> Failure | None:
    if status.phase is NodePhase.FAILED:
        reason = _FAILURES.get(status.failure or "", Reason.SETUP_FAILED)
        return Failure(reason=reason, message=status.detail or "The node failed without giving a reason.")
    if status.notice is not None or status.phase is NodePhase.STOPPING:
        return leaving(status.notice)
    return None


def _failure_of(
    transition: Transition, view: NodeView, status: NodeStatus | None, timeouts: Timeouts
) -> Failure | None:
    """Return why the attempt failed, if it did; the node's report takes precedence over the provider's."""
    attempt = transition.record.attempts[-1]
    if status is not None:
        failure = _node_failure(status)
        if failure is not None:
            return failure
    if view.failure is not None:
        return view.failure
    if view.state is NodeState.STOPPED:
        reason = Reason.EVICTED if attempt.offer.use_spot else Reason.NODE_LOST
        return Failure(reason=reason, message=f"The machine was stopped before it was ready. {view.detail}".rstrip())
    if view.state is NodeState.ABSENT:
        if attempt.node_up_at is not None:
            return Failure(reason=Reason.NODE_LOST, message="The node disappeared before it was ready.")
        if attempt.request_id is None and (late := overdue(transition.record, transition.now, timeouts.allowed)):
            return late  # it never knew one: another offer may have more luck
        message = "The provider no longer knows a request or a node of this attempt."
        return Failure(reason=Reason.PROVIDER_UNAVAILABLE, message=message)
    return None


def _never_had_machine(view: NodeView) -> bool:
    """Whether the cloud refused to create the machine, as far as its provider's word goes.

    Other failures, such as those of a set-up, come after the machine; a node that is left disproves a refusal.
    """
    refused = view.failure is not None and view.failure.reason in _REFUSALS
    return refused and view.state is NodeState.ABSENT and view.created_at is None


def _next_poll(transition: Transition, view: NodeView, timeouts: Timeouts) -> float:
    if view.look_again_seconds is not None:
        return view.look_again_seconds
    if transition.record.phase is Phase.REGISTERING:
        return timeouts.registering_poll
    if transition.record.attempts[-1].calls_us:
        return timeouts.reporting_poll
    return timeouts.poll(seconds_between(transition.record.phase_since, transition.now))
