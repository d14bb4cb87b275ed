"""Carry out what a step asks for and report what was observed; errors of providers are observations too."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import assert_never

from gpulaunch.models.instances import Phase
from gpulaunch.models.times import seconds_between
from shared.backends.base import Backends
from shared.control.launch_spec import LaunchSpecs
from shared.control.model_check import ModelCheck
from shared.control.records import Lifecycle
from shared.control.release import NodeKeeper
from shared.domain.instance import InstanceRecord
from shared.domain.node import NodePhase, NodeStatus
from shared.domain.provider import (
    LaunchRefusedError,
    NodeState,
    NodeUnreachableError,
    NodeView,
    Probe,
    ProviderNotEnabledError,
    ProviderUnavailableError,
    RecordsLostError,
)
from shared.lifecycle.observations import (
    Act,
    CheckProvider,
    Decide,
    Describe,
    LaunchRefused,
    NotEnabled,
    Nothing,
    Observation,
    Observed,
    ProviderUnavailable,
    Release,
    Submit,
    Submitted,
    TimerFired,
)
from shared.observability.instances import InstanceTelemetry
from shared.redaction import Redactor

log = logging.getLogger("gpulaunch.steps")

_SPANS: Mapping[type[Act], str] = {
    CheckProvider: "check",
    Submit: "submit",
    Describe: "describe",
    Release: "release",
}
"""Names of the spans of acts, as docs/observability.md lists them."""


def redacted(redactor: Redactor, status: NodeStatus) -> NodeStatus:
    return status.model_copy(
        update={"detail": redactor.text(status.detail), "log_tail": redactor.lines(status.log_tail)}
    )


@dataclass(frozen=True)
class Observer:
    backends: Backends
    specs: LaunchSpecs
    nodes: NodeKeeper
    lifecycle: Lifecycle
    models: ModelCheck
    redactor: Redactor
    telemetry: InstanceTelemetry

    def perform(self, record: InstanceRecord, act: Act) -> Observation:
        """Do what a step asks for; never raises a provider's errors."""
        if isinstance(act, Decide | Nothing):
            return TimerFired()
        text = self.redactor.text
        try:
            with self.telemetry.span(f"provider {_SPANS[type(act)]}", record):
                return self._ask(record, act)
        except LaunchRefusedError as error:
            return LaunchRefused(error.failure.model_copy(update={"message": text(error.failure.message)}))
        except ProviderNotEnabledError as error:
            return NotEnabled(text(str(error)))
        except RecordsLostError as error:
            return ProviderUnavailable(text(str(error)), lost=True)
        except ProviderUnavailableError as error:
            return ProviderUnavailable(text(str(error)))

    def _ask(self, record: InstanceRecord, act: CheckProvider | Submit | Describe | Release) -> Observation:
        provider = self.backends(record.mode).provider
        match act:
            case CheckProvider():
                elapsed = seconds_between(record.created_at, self.lifecycle.clock.now())
                return self.models.check(record, provider.availability(record.request.provider, elapsed))
            case Submit():
                if record.attempts[-1].submitted_again and self.nodes.is_in_cloud(record):
                    # The first submission got through, whether SkyPilot remembers it or not: a second node of one name
                    # must not follow.
                    return Submitted(None)
                spec = self.specs.launch_spec(record)
                if not self.lifecycle.in_time_to_submit(record):
                    return ProviderUnavailable("What the node needs was not gathered in time to submit it.")
                spec = replace(spec, submit_until=self.lifecycle.submit_until())
                return Submitted(provider.submit(spec))
            case Describe():
                found = self._ask_node_first(record) or self._observe(record, self.nodes.describe_starting(record))
                created_at = self.nodes.created_at(record, found.view.created_at)
                return replace(found, view=replace(found.view, created_at=created_at))
            case Release():
                asked_at = self.lifecycle.clock.now()
                return replace(self.nodes.release(record), asked_at=asked_at)
            case _:
                assert_never(act)

    def _ask_node_first(self, record: InstanceRecord) -> Observed | None:
        """The report of a node that has reported before: while it answers, it exists. None: it cannot be asked.

        The provider is not asked beside it: SkyPilot takes two to three calls, each the work of one of its processes,
        for what the node answers in milliseconds.
        """
        attempt = record.attempts[-1]
        if record.mode != "real" or attempt.node_phase is None or attempt.address is None:
            return None
        found = self._observe(record, NodeView(state=NodeState.UP, address=attempt.address))
        answered = found.status is not None or (found.probe is not None and found.probe.alive)
        return found if answered else None

    def _observe(self, record: InstanceRecord, view: NodeView) -> Observed:
        """Ask the node itself for what the provider cannot know, where it can be asked."""
        if view.failure is not None:
            message = self.redactor.text(view.failure.message)
            view = replace(view, failure=view.failure.model_copy(update={"message": message}))
        target = self.specs.node_target(record, view.address)
        if view.state is not NodeState.UP or target is None:
            return Observed(view)
        nodes = self.backends(record.mode).nodes
        status: NodeStatus | None = None
        if not self.specs.calls_us(record):
            try:
                status = redacted(self.redactor, nodes.status(target))
            except NodeUnreachableError as error:
                # Its agent may not have started yet; the phase's time limit decides how long that is believed.
                log.debug("%s: the node does not answer yet: %s", record.instance_id, error)
            else:
                target = self.specs.node_target(record, view.address, status.port) or target
        serves = record.phase is Phase.REGISTERING or (status is not None and status.phase is NodePhase.SERVING)
        probe: Probe | None = None
        if serves and target.port is not None:
            probe = nodes.probe([target])[target.cluster_name]
        return Observed(view, status, probe)
