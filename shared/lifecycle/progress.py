"""provisioning → installing → loading_model → starting_server → registering → ready: the node's way up."""

from gpulaunch.models.instances import Phase, Reason
from gpulaunch.models.times import seconds_between
from shared.domain.instance import AttemptState, Failure, Health
from shared.domain.node import NodeNotice, NodePhase, NodeStatus
from shared.domain.provider import NodeState, NodeView, Probe
from shared.lifecycle.observations import Looked, NotEnabled, Registered, Reported, Unanswered
from shared.lifecycle.provision import give_up_attempt
from shared.lifecycle.rules import next_check, overdue, verdict
from shared.lifecycle.termination import end
from shared.lifecycle.timeouts import Limits
from shared.lifecycle.transition import Decision, Draft, unchanged

_PHASES = {
    NodePhase.INSTALLING: Phase.INSTALLING,
    NodePhase.LOADING_MODEL: Phase.LOADING_MODEL,
    NodePhase.STARTING_SERVER: Phase.STARTING_SERVER,
    NodePhase.SERVING: Phase.REGISTERING,
}
_ORDER = [
    Phase.PROVISIONING,
    Phase.INSTALLING,
    Phase.LOADING_MODEL,
    Phase.STARTING_SERVER,
    Phase.REGISTERING,
    Phase.READY,
]
_TEXTS = {
    Phase.INSTALLING: "The node runs; installing vLLM.",
    Phase.LOADING_MODEL: "vLLM is installed; fetching the model.",
    Phase.STARTING_SERVER: "The model is on the node; starting vLLM.",
    Phase.REGISTERING: "vLLM serves on its node; checking its address.",
}
_FAILURES = {
    "install_failed": Reason.INSTALL_FAILED,
    "model_fetch_failed": Reason.MODEL_FETCH_FAILED,
    "server_failed": Reason.SERVER_FAILED,
    "port_taken": Reason.PORT_TAKEN,
}
LOG_LINES = 100
"""Log lines kept in the record: enough to see why a server did not start, small enough for a table row."""


def looked(draft: Draft, found: Looked, limits: Limits) -> Decision:
    """A look at the attempt through the provider, and at the node where it could be asked."""
    attempt = draft.record.attempts[-1]
    view, status = found.view, found.status
    if status is not None:
        _take_status(draft, status)
        ending = verdict(draft.record, draft.now)
        if ending is not None:
            return end(draft, ending)
    failure = _failure_of(draft, view, status) or overdue(draft.record, draft.now, limits.allowed)
    if failure is not None:
        return give_up_attempt(draft, failure, limits)
    if view.state is NodeState.UP and attempt.node_up_at is None:
        draft.change_attempt(node_up_at=draft.now)
    draft.change_attempt(address=view.address or attempt.address, detail=_detail(view, status))
    _advance(draft, view, status)
    if draft.record.phase is Phase.REGISTERING and found.probe is not None and found.probe.alive:
        return _ready(draft, found.probe)
    return draft.follow("advance", _next_look(draft, view, limits))


def unanswered(draft: Draft, found: Unanswered | NotEnabled, limits: Limits) -> Decision:
    """The provider did not answer a look or a submission: the attempt's time runs on."""
    late = overdue(draft.record, draft.now, limits.allowed)
    if late is not None:
        return give_up_attempt(draft, late.model_copy(update={"message": f"{late.message} {found.message}"}), limits)
    return draft.follow("advance", limits.unanswered_poll)


def reported(draft: Draft, found: Reported, limits: Limits) -> Decision:
    """The node told us its progress."""
    _node_is_up(draft)
    _take_status(draft, found.status)
    ending = verdict(draft.record, draft.now)
    if ending is not None:
        return end(draft, ending)
    failure = _node_failure(found.status)
    if failure is not None:
        return give_up_attempt(draft, failure, limits)
    _advance(draft, NodeView(NodeState.UP), found.status)
    if draft.record == draft.before:
        return unchanged(draft.before)
    if draft.record.phase is draft.before.phase:
        # The look that is due stays due: a node that talks often must not put off the end of its phase's time.
        return draft.rest(draft.before.due_at)
    return draft.follow("advance", _next_look(draft, NodeView(NodeState.UP), limits))


def registered(draft: Draft, found: Registered) -> Decision:
    """The node says that it serves: look at once whether its address answers us too."""
    _node_is_up(draft)
    registration = found.registration
    attempt = draft.record.attempts[-1]
    draft.change_attempt(
        port=registration.port, address=registration.address or attempt.address, node_phase=NodePhase.SERVING
    )
    _to(draft, Phase.REGISTERING)
    return draft.follow("advance")


def leaving(notice: NodeNotice | None) -> Failure:
    """Why an attempt failed whose node goes away before it was ready."""
    reason = Reason.EVICTED if notice is NodeNotice.EVICTION else Reason.NODE_LOST
    said = notice.value if notice else "stopping"
    return Failure(reason=reason, message=f"The node goes away before it was ready ({said}).")


def _node_is_up(draft: Draft) -> None:
    """A node that calls us runs: it costs money from now at the latest, and the provider has taken the attempt."""
    attempt = draft.record.attempts[-1]
    if not attempt.calls_us:
        draft.change_attempt(calls_us=True)
    if attempt.node_up_at is None:
        draft.change_attempt(node_up_at=draft.now)
    if attempt.state is AttemptState.SUBMITTING:
        # The lease stays: the step that submits has not come back yet, and may be asking a second time.
        draft.change_attempt(state=AttemptState.SUBMITTED)


def _take_status(draft: Draft, status: NodeStatus) -> None:
    attempt = draft.record.attempts[-1]
    draft.change_attempt(
        node_phase=status.phase,
        detail=status.detail,
        fetched_bytes=status.fetched_bytes if status.fetched_bytes is not None else attempt.fetched_bytes,
        total_bytes=status.total_bytes if status.total_bytes is not None else attempt.total_bytes,
        port=status.port or attempt.port,
        job=status.job or attempt.job,
    )
    if status.log_tail:
        draft.change(log_tail=status.log_tail[-LOG_LINES:])


def _detail(view: NodeView, status: NodeStatus | None) -> str:
    return status.detail if status is not None and status.detail else view.detail


def _advance(draft: Draft, view: NodeView, status: NodeStatus | None) -> None:
    if status is not None and status.phase in _PHASES:
        _to(draft, _PHASES[status.phase])
    elif view.state is NodeState.UP:
        _to(draft, Phase.INSTALLING)


def _to(draft: Draft, phase: Phase) -> None:
    """Forward only: a late report of an earlier phase changes nothing."""
    if draft.record.phase in _ORDER and _ORDER.index(phase) > _ORDER.index(draft.record.phase):
        draft.move(phase, _TEXTS[phase])


def _ready(draft: Draft, probe: Probe) -> Decision:
    draft.change_attempt(ready_at=draft.now, detail="")
    idle = probe.running_requests == 0 and probe.waiting_requests == 0
    draft.change(
        health=Health(
            since=draft.now,
            idle_since=draft.now if idle else None,
            running_requests=probe.running_requests,
            waiting_requests=probe.waiting_requests,
            finished_requests=probe.finished_requests,
        )
    )
    draft.move(Phase.READY, "The endpoint answers.")
    return draft.rest(next_check(draft.record, draft.now))


def _node_failure(status: NodeStatus) -> Failure | None:
    if status.phase is NodePhase.FAILED:
        reason = _FAILURES.get(status.failure or "", Reason.SETUP_FAILED)
        return Failure(reason=reason, message=status.detail or "The node failed without saying why.")
    if status.notice is not None or status.phase is NodePhase.STOPPING:
        return leaving(status.notice)
    return None


def _failure_of(draft: Draft, view: NodeView, status: NodeStatus | None) -> Failure | None:
    """Why the attempt failed, as far as this look tells; the node's own word before the provider's."""
    attempt = draft.record.attempts[-1]
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
        message = "The provider knows neither a request nor a node of this attempt any more."
        return Failure(reason=Reason.PROVIDER_UNAVAILABLE, message=message)
    return None


def _next_look(draft: Draft, view: NodeView, limits: Limits) -> float:
    if view.look_again_seconds is not None:
        return view.look_again_seconds
    if draft.record.phase is Phase.REGISTERING:
        return limits.registering_poll
    if draft.record.attempts[-1].calls_us:
        return limits.reporting_poll
    return limits.poll(seconds_between(draft.record.phase_since, draft.now))
