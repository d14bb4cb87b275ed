"""One step of one instance: load, observe or act, decide, write, send the follow-up."""

import logging
from dataclasses import replace

from gpulaunch.models.instances import Phase
from gpulaunch.models.times import seconds_between
from shared.control.parts import Parts
from shared.control.placement import node_target, placed, placement, reaches_us, redacted
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
    Look,
    Looked,
    NotEnabled,
    Nothing,
    Observation,
    Refused,
    Release,
    Released,
    Submit,
    Submitted,
    Tick,
    Unanswered,
)
from shared.lifecycle.provision import in_time_to_submit
from shared.lifecycle.transition import Decision, Follow
from shared.observability.instances import about
from shared.storage.base import Versioned

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
    before = parts.store.load(message.instanceId)
    if before is None:
        raise MessageError(f"there is no instance {message.instanceId}")
    if message.epoch < before.record.epoch:
        return
    with parts.telemetry.span(f"step {message.step}", before.record.traceparent, **about(before.record)):
        _advance(parts, before, message)


def _advance(parts: Parts, before: Versioned, message: StepMessage) -> None:
    here = queue_of(Follow(message.step, 0))
    claimed = False
    unwritten: tuple[Event, ...] = ()
    record = before.record
    for round_number in range(1, _ROUNDS + 1):
        act = next_act(record, parts.clock.now(), claimed=claimed)
        if isinstance(act, Nothing):
            return
        found = perform(parts, record, act)
        decision = decide(record, found, parts.clock.now(), parts.limits)
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
        follow = decision.follow
        if follow is None:
            return
        if queue_of(follow) != here or follow.delay_seconds >= _IN_PLACE or round_number == _ROUNDS:
            send(parts, decision.record, follow)
            return
        if follow.delay_seconds > 0:
            parts.sleep(follow.delay_seconds)
        claimed = decision.claimed


def _can_wait(act: Act, decision: Decision) -> bool:
    """Whether a decision need not be written before the next one, which follows at once and is always written."""
    begun = isinstance(act, Decide) and decision.record.phase is Phase.VALIDATING
    return begun and decision.follow == Follow("advance", 0.0)


def perform(parts: Parts, record: InstanceRecord, act: Act) -> Observation:
    """Do what a step asks for and say what was found; errors of providers are findings too."""
    if isinstance(act, Decide | Nothing):
        return Tick()
    name = f"provider {type(act).__name__.lower()}"
    try:
        with parts.telemetry.span(name, record.traceparent, **about(record)):
            return _ask(parts, record, act)
    except LaunchRefusedError as error:
        return Refused(error.failure.model_copy(update={"message": parts.redactor.text(error.failure.message)}))
    except ProviderNotEnabledError as error:
        return NotEnabled(parts.redactor.text(str(error)))
    except ProviderUnavailableError as error:
        return Unanswered(parts.redactor.text(str(error)))


def _ask(parts: Parts, record: InstanceRecord, act: Check | Submit | Look | Release) -> Observation:
    """Ask the provider; its errors pass."""
    provider = parts.kit(record.mode).provider
    match act:
        case Check():
            elapsed = seconds_between(record.created_at, parts.clock.now())
            return Checked(provider.availability(record.request.provider, elapsed))
        case Submit():
            wanted = placement(parts, record)
            if not in_time_to_submit(record, parts.clock.now(), parts.limits):
                return Unanswered("What the node needs was not gathered in time to submit it.")
            return Submitted(provider.submit(wanted))
        case Look():
            return _node_s_own_word(parts, record) or _look_at_node(parts, record, provider.look(placed(record)))
        case Release():
            asked_at = parts.clock.now()
            return Released(release(parts, record), asked_at)


def _node_s_own_word(parts: Parts, record: InstanceRecord) -> Looked | None:
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


def _look_at_node(parts: Parts, record: InstanceRecord, view: NodeView) -> Looked:
    """Ask the node itself for what the provider can't know, where it can be asked."""
    if view.failure is not None:
        failure = view.failure.model_copy(update={"message": parts.redactor.text(view.failure.message)})
        view = NodeView(view.state, view.detail, view.address, view.request_id, failure, view.look_again_seconds)
    nodes = parts.kit(record.mode).nodes
    target = node_target(parts, record, view.address)
    if view.state is not NodeState.UP or target is None:
        return Looked(view)
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
    return Looked(view, status, probe)
