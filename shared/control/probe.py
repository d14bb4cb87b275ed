"""The health of ready instances: probes side by side, and a write only where something changed."""

import logging
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

from gpulaunch.models.instances import Mode, Phase
from shared.backends.base import Backends
from shared.control.launch_spec import LaunchSpecs
from shared.control.observer import redacted
from shared.control.records import Lifecycle, Records
from shared.control.release import NodeKeeper
from shared.control.sweep.base import each
from shared.domain.messages import ProbeMessage
from shared.domain.provider import Probe
from shared.errors import StaleRecordError
from shared.lifecycle.observations import Probed, Reported
from shared.redaction import Redactor
from shared.storage.base import InstanceStore, Versioned, readable

log = logging.getLogger("gpulaunch.health")

SLICES_AT_ONCE = 4
"""Slices of nodes that one process reads and probes side by side. More would not be faster on its one core, and so many
answers at once could wait for their turn until they time out: a healthy node would be taken for dead."""
SLICE_SECONDS = 120.0
"""How long a slice waits for the others, which take seconds each; later it comes again as a message."""


@dataclass(frozen=True)
class NodeProbes:
    backends: Backends
    specs: LaunchSpecs
    redactor: Redactor

    def ask(self, mode: Mode, ready: Sequence[Versioned]) -> list[tuple[Versioned, Reported | None, Probe]]:
        """For each instance of a mode what its node reports, where it is asked, and the probe of its server."""
        targets = {
            target.cluster_name: target
            for found in ready
            if (target := self.specs.node_target(found.record)) is not None
        }
        if not targets:
            return []
        nodes = self.backends(mode).nodes
        # Nodes that can't call us are asked: it renews their lease, and only they know of their job and of notices.
        asked = [
            targets[found.record.attempts[-1].cluster_name]
            for found in ready
            if found.record.attempts[-1].cluster_name in targets and self._asks(found)
        ]
        statuses = nodes.statuses(asked)
        probes = nodes.probe(list(targets.values()))
        answers: list[tuple[Versioned, Reported | None, Probe]] = []
        for found in ready:
            attempt = found.record.attempts[-1]
            status = statuses.get(attempt.cluster_name)
            probe = probes.get(attempt.cluster_name, Probe(alive=False, message="The node has no known address."))
            report = None if status is None else Reported(attempt.number, redacted(self.redactor, status))
            answers.append((found, report, probe))
        return answers

    def _asks(self, found: Versioned) -> bool:
        # By how it was launched, whatever GPULAUNCH_PUBLIC_URL is now.
        return found.record.mode == "real" and not found.record.attempts[-1].calls_us


@dataclass(frozen=True)
class Prober:
    store: InstanceStore
    probes: NodeProbes
    nodes: NodeKeeper
    records: Records
    lifecycle: Lifecycle
    slices: AbstractContextManager[object]
    """Lets SLICES_AT_ONCE callers in."""

    def run(self, message: ProbeMessage) -> None:
        """Probe the ready nodes from `instanceId` down to `lastInstanceId`."""
        # Load the slice after acquiring the semaphore: a waiting slice goes stale, and parsing it starves probes in
        # flight.
        with self.slices:
            live = self.store.live(message.instanceId, message.lastInstanceId)
            self._probe([found for found in readable(live) if found.record.phase is Phase.READY])

    def probe(self, ready: Sequence[Versioned]) -> None:
        """Probe ready nodes; a record that changed since it was read is left to the next sweep."""
        with self.slices:
            self._probe(ready)

    def _probe(self, ready: Sequence[Versioned]) -> None:
        modes: tuple[Mode, ...] = ("real", "simulation")
        answers = (
            answer
            for mode in modes
            for answer in self.probes.ask(mode, [one for one in ready if one.record.mode == mode])
        )
        # One record of many, such as one without room for another change, must not end the others' probes.
        each(answers, lambda answer: self._judge(*answer), lambda answer: answer[0].instance_id)

    def _judge(self, found: Versioned, report: Reported | None, probe: Probe) -> bool:
        silent = report is None and self.lifecycle.is_silent(found.record)
        view = None if probe.alive and not silent else self.nodes.describe(found.record)
        for observation in (report, Probed(probe, view)):
            if observation is None:
                continue
            decision = self.lifecycle.decide(found.record, observation)
            try:
                found = self.records.commit(found, decision)
            except StaleRecordError:
                log.debug("%s changed while it was probed; the next sweep probes again", found.record.instance_id)
                return False
            if self.records.follow_up(decision):
                break
        return True
