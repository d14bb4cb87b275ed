"""The health of a slice of live instances: probes side by side, and a write only where something changed."""

import logging
from collections.abc import Sequence

from gpulaunch.models.instances import Mode, Phase
from shared.control.launch_spec import attempt_ref, node_target, redacted
from shared.control.parts import Parts
from shared.control.records import commit, send
from shared.control.release import lost_in_cloud
from shared.domain.instance import InstanceRecord
from shared.domain.messages import ProbeMessage
from shared.domain.provider import NodeTarget, NodeView, Probe, ProviderNotEnabledError, ProviderUnavailableError
from shared.errors import StaleRecordError
from shared.lifecycle.machine import decide
from shared.lifecycle.observations import Probed, Reported
from shared.storage.base import Versioned, readable

log = logging.getLogger("gpulaunch.health")


def run_probe(parts: Parts, message: ProbeMessage) -> None:
    """Probe the ready nodes from `instanceId` down to `lastInstanceId`."""
    # Read in its turn, not before: what waits would be old, and takes the core from those that are asked.
    with parts.slices:
        live = parts.store.live(message.instanceId, message.lastInstanceId)
        _probe(parts, [found for found in readable(live) if found.record.phase is Phase.READY])


def probe_ready(parts: Parts, ready: Sequence[Versioned]) -> None:
    """Probe ready nodes and decide on each; a record that changed since it was read is left to the next sweep."""
    with parts.slices:
        _probe(parts, ready)


def _probe(parts: Parts, ready: Sequence[Versioned]) -> None:
    for mode in ("real", "simulation"):
        _probe_mode(parts, mode, [found for found in ready if found.record.mode == mode])


def _probe_mode(parts: Parts, mode: Mode, ready: list[Versioned]) -> None:
    targets: list[NodeTarget] = []
    for found in ready:
        target = node_target(parts, found.record, None)
        if target is not None:
            targets.append(target)
    if not targets:
        return
    nodes = parts.backend(mode).nodes
    # Nodes that can't call us are asked: it renews their lease, and only they know of their job and of notices.
    asked = [] if mode == "simulation" or parts.settings.public_url is not None else targets
    statuses = nodes.statuses(asked)
    probes = nodes.probe(targets)
    for found in ready:
        attempt = found.record.attempts[-1]
        status = statuses.get(attempt.cluster_name)
        probe = probes.get(attempt.cluster_name, Probe(alive=False, message="The node has no known address."))
        told = None if status is None else Reported(attempt.number, redacted(parts, status))
        _judge(parts, found, told, probe)


def _judge(parts: Parts, found: Versioned, told: Reported | None, probe: Probe) -> None:
    view = None if probe.alive else _ask_provider(parts, found.record)
    for observation in (told, Probed(probe, view)):
        if observation is None:
            continue
        decision = decide(found.record, observation, parts.clock.now(), parts.timeouts)
        try:
            found = commit(parts, found, decision)
        except StaleRecordError:
            log.debug("%s changed while it was probed; the next sweep looks again", found.record.instance_id)
            return
        if decision.changed and decision.next_step is not None:
            send(parts, decision.record, decision.next_step)
            return


def _ask_provider(parts: Parts, record: InstanceRecord) -> NodeView | None:
    """What the provider says of a node that did not answer; None when it does not say."""
    lost = lost_in_cloud(parts, record)
    if lost is not None:
        return lost
    try:
        return parts.backend(record.mode).provider.describe(attempt_ref(record))
    except (ProviderUnavailableError, ProviderNotEnabledError) as error:
        log.warning("%s: the provider did not say what became of its node: %s", record.instance_id, error)
        return None
