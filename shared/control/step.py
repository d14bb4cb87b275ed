"""One step of one instance: load, observe or act, decide, write, send the follow-up."""

import logging
from dataclasses import replace

from gpulaunch.models.instances import Phase
from gpulaunch.models.times import seconds_between
from shared.control.launch_spec import attempt_ref, launch_spec, node_target, reaches_us, redacted
from shared.control.parts import Parts
from shared.control.records import commit, queue_of, send
from shared.control.release import release
from shared.domain.event import Event
from shared.domain.instance import InstanceRecord
from shared.domain.messages import StepMessage
from shared.domain.node import NodePhase, NodeStatus
from shared.domain.provider import (
    LaunchRefusedError,
    NodeState,
    NodeUnreachableError,
    NodeView,
    Probe,
    ProviderNotEnabledError,
    ProviderUnavailableError,
)
from shared.errors import MessageError, StaleRecordError
from shared.lifecycle.machine import decide, next_act
from shared.lifecycle.observations import (
    Act,
    Check,
    Checked,
    Decide,
    Describe,
    LaunchRefused,
    NotEnabled,
    Nothing,
    Observation,
    Observed,
    ProviderUnavailable,
    Release,
    Released,
    Submit,
    Submitted,
    TimerFired,
)
from shared.lifecycle.provision import in_time_to_submit
from shared.lifecycle.transition import Decision, NextStep
from shared.observability.instances import about
from shared.storage.base import UnreadableRecordError, Versioned

log = logging.getLogger("gpulaunch.steps")

_ROUNDS = 8
"""Follow-ups that one invocation takes itself; more than any legal run of undelayed steps, fewer than a loop."""
_IN_PLACE = 1.0
"""Seconds that a step waits itself rather than by a message: queues count in whole seconds."""


def run_step(parts: Parts, message: StepMessage) -> None:
    """Bring an instance forward as far as it goes without waiting.

    Raises
    ------
    MessageError
        There is no such instance.
    """
    try:
        before = parts.store.load(message.instanceId)
    except UnreadableRecordError as error:
        # For a version that can read it; until then the sweep reports it, and sends no further step.
        log.error("a step is dropped: %s", error)  # noqa: TRY400 - the error says all there is
        return
    if before is None:
        raise MessageError(f"there is no instance {message.instanceId}")
    if message.epoch < before.record.epoch:
        return
    with parts.telemetry.span(f"step {message.step}", before.record.traceparent, **about(before.record)):
        _advance(parts, before, message)


def _advance(parts: Parts, before: Versioned, message: StepMessage) -> None:
    here = queue_of(NextStep(message.step, 0))
    claimed = False
    unwritten: tuple[Event, ...] = ()
    record = before.record
    for round_number in range(1, _ROUNDS + 1):
        act = next_act(record, parts.clock.now(), claimed=claimed)
        if isinstance(act, Nothing):
            return
        found = perform(parts, record, act)
        decision = decide(record, found, parts.clock.now(), parts.timeouts)
        if not decision.changed:
            return
        record = decision.record
        if _can_wait(act, decision):
            # Nothing was done that a crash could hide, and nothing is about to be: one write for this and the next.
            unwritten += decision.events
            continue
        try:
            before = commit(parts, before, replace(decision, events=unwritten + decision.events))
        except StaleRecordError:
            log.debug("%s: somebody else took this step", record.instance_id)
            return
        unwritten = ()
        next_step = decision.next_step
        if next_step is None:
            return
        if queue_of(next_step) != here or next_step.delay_seconds >= _IN_PLACE or round_number == _ROUNDS:
            send(parts, decision.record, next_step)
            return
        if next_step.delay_seconds > 0:
            parts.sleep(next_step.delay_seconds)
        claimed = decision.claimed


def _can_wait(act: Act, decision: Decision) -> bool:
    """Whether a decision need not be written before the next one, which follows at once and is always written."""
    begun = isinstance(act, Decide) and decision.record.phase is Phase.VALIDATING
    return begun and decision.next_step == NextStep("advance", 0.0)


def perform(parts: Parts, record: InstanceRecord, act: Act) -> Observation:
    """Do what a step asks for and say what was found; errors of providers are findings too."""
    if isinstance(act, Decide | Nothing):
        return TimerFired()
    name = f"provider {type(act).__name__.lower()}"
    try:
        with parts.telemetry.span(name, record.traceparent, **about(record)):
            return _ask(parts, record, act)
    except LaunchRefusedError as error:
        return LaunchRefused(error.failure.model_copy(update={"message": parts.redactor.text(error.failure.message)}))
    except ProviderNotEnabledError as error:
        return NotEnabled(parts.redactor.text(str(error)))
    except ProviderUnavailableError as error:
        return ProviderUnavailable(parts.redactor.text(str(error)))


def _ask(parts: Parts, record: InstanceRecord, act: Check | Submit | Describe | Release) -> Observation:
    """Ask the provider; its errors pass."""
    provider = parts.backend(record.mode).provider
    match act:
        case Check():
            elapsed = seconds_between(record.created_at, parts.clock.now())
            return Checked(provider.availability(record.request.provider, elapsed))
        case Submit():
            wanted = launch_spec(parts, record)
            if not in_time_to_submit(record, parts.clock.now(), parts.timeouts):
                return ProviderUnavailable("What the node needs was not gathered in time to submit it.")
            return Submitted(provider.submit(wanted))
        case Describe():
            return _node_s_own_word(parts, record) or _look_at_node(
                parts, record, provider.describe(attempt_ref(record))
            )
        case Release():
            asked_at = parts.clock.now()
            return Released(release(parts, record), asked_at)


def _node_s_own_word(parts: Parts, record: InstanceRecord) -> Observed | None:
    """What a node says that has spoken before: while it answers, it is there. None: it does not, or can't be asked.

    A provider is not asked beside it: SkyPilot takes two to three calls, each the work of one of its processes, for
    what the node answers in milliseconds.
    """
    attempt = record.attempts[-1]
    if record.mode != "real" or attempt.node_phase is None or attempt.address is None:
        return None
    found = _look_at_node(parts, record, NodeView(NodeState.UP, "", attempt.address))
    answered = found.status is not None or (found.probe is not None and found.probe.alive)
    return found if answered else None


def _look_at_node(parts: Parts, record: InstanceRecord, view: NodeView) -> Observed:
    """Ask the node itself for what the provider can't know, where it can be asked."""
    if view.failure is not None:
        failure = view.failure.model_copy(update={"message": parts.redactor.text(view.failure.message)})
        view = NodeView(view.state, view.detail, view.address, view.request_id, failure, view.look_again_seconds)
    nodes = parts.backend(record.mode).nodes
    target = node_target(parts, record, view.address)
    if view.state is not NodeState.UP or target is None:
        return Observed(view)
    status: NodeStatus | None = None
    if not reaches_us(parts, record):
        try:
            answer = nodes.status(target)
        except NodeUnreachableError as error:
            # Its agent may not have started yet; the phase's time limit decides how long that is believed.
            log.debug("%s: the node does not answer yet: %s", record.instance_id, error)
        else:
            status = redacted(parts, answer)
            target = node_target(parts, record, view.address, status.port) or target
    serves = record.phase is Phase.REGISTERING or (status is not None and status.phase is NodePhase.SERVING)
    probe: Probe | None = None
    if serves and target.port is not None:
        probe = nodes.probe([target])[target.cluster_name]
    return Observed(view, status, probe)
