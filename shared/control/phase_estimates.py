"""How long each phase may be expected to take."""

import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from gpulaunch.models.instances import STARTING, EventType, Phase
from shared.backends.simulation import course as sim
from shared.control.parts import Parts
from shared.domain.event import Event
from shared.domain.instance import InstanceRecord
from shared.storage.base import InstanceFilter, readable


@dataclass(frozen=True)
class Span:
    """Seconds a phase is expected to take."""

    least: float
    most: float


_SIMULATED: Final = {
    Phase.VALIDATING: sim.CHECKED,
    Phase.PROVISIONING: sim.UP,
    Phase.INSTALLING: sim.LOADING - sim.UP,
    Phase.LOADING_MODEL: sim.STARTING - sim.LOADING,
    Phase.STARTING_SERVER: sim.SERVING - sim.STARTING,
    Phase.REGISTERING: sim.READY - sim.SERVING,
}
_RANGES: Final = {
    # A check of credentials by SkyPilot, cold at most.
    Phase.VALIDATING: Span(1, 30),
    # Azure makes a machine in 2 to 10 minutes; SkyPilot's own set-up is in it.
    Phase.PROVISIONING: Span(120, 600),
    # 8 GB of vLLM and CUDA wheels at 10 to 100 MB/s; seconds where the image has them.
    Phase.INSTALLING: Span(60, 840),
    # 16 GB (8B in bfloat16) at 200 MB/s to 140 GB (70B) at 50 MB/s; fetched beside the installation.
    Phase.LOADING_MODEL: Span(60, 2800),
    # Reading the weights from a cloud disk, and up to five minutes of CUDA graphs.
    Phase.STARTING_SERVER: Span(45, 900),
    Phase.REGISTERING: Span(1, 60),
}
"""For the first real launch of a type; what earlier launches took takes their place."""

_SAMPLE: Final = 5
"""Earlier launches that a median is made of: five even out one slow morning, and cost five reads."""
_KEPT: Final = timedelta(minutes=10)
"""How long a process keeps what it found, so that watching an instance does not read others each time."""


class Expectations:
    """What a process knows of earlier launches."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, ...], tuple[datetime, Mapping[Phase, Span]]] = {}

    def of(self, parts: Parts, record: InstanceRecord) -> Mapping[Phase, Span]:
        """Expected seconds by phase. Raises StoreUnavailableError."""
        if record.mode == "simulation":
            speed = parts.settings.simulation_speed
            return {phase: Span(seconds / speed, seconds / speed) for phase, seconds in _SIMULATED.items()}
        key = (parts.settings.workspace, *kind_of(record))
        now = parts.clock.now()
        known = self._known.get(key)
        if known is None or now - known[0] > _KEPT:
            known = self._known[key] = (now, {**_RANGES, **medians(parts, record)})
        return known[1]


_known = Expectations()


def expected(parts: Parts, record: InstanceRecord) -> Mapping[Phase, Span]:
    """Expected seconds by phase, as this process knows them. Raises StoreUnavailableError."""
    return _known.of(parts, record)


def kind_of(record: InstanceRecord) -> tuple[str, str, str]:
    """What makes launches alike: provider, machine, model."""
    offer = record.attempts[-1].offer if record.attempts else record.offers[0]
    return (offer.provider, offer.instance_type or f"{offer.gpu}x{offer.gpu_count}", record.request.model_name)


def medians(parts: Parts, record: InstanceRecord) -> dict[Phase, Span]:
    """Median seconds by phase of earlier launches like this one that became ready; empty when there is none."""
    page = parts.store.page(InstanceFilter(provider=record.request.provider), 50, None)
    alike = [
        found.record
        for found in readable(page.records)
        if found.record.instance_id != record.instance_id
        and found.record.mode == record.mode
        and kind_of(found.record) == kind_of(record)
        and any(attempt.ready_at is not None for attempt in found.record.attempts)
    ]
    seen: dict[Phase, list[float]] = {}
    for one in alike[:_SAMPLE]:
        for phase, seconds in durations(parts.store.events(one.instance_id)).items():
            seen.setdefault(phase, []).append(seconds)
    return {
        phase: Span(middle, middle)
        for phase, values in seen.items()
        if phase is not Phase.QUEUED
        for middle in (statistics.median(values),)
    }


def durations(events: list[Event]) -> dict[Phase, float]:
    """Seconds of each step up to the last time that ready was reached, or up to now; of the last attempt only."""
    found: dict[Phase, float] = {}
    for event in events:
        if event.type is not EventType.PHASE:
            continue
        before, after = Phase(event.data["from"]), event.phase
        if before in STARTING and event.duration_seconds is not None:
            found[before] = event.duration_seconds
        if after in STARTING:
            # Going back to provisioning begins anew.
            for step in STARTING[STARTING.index(after) :]:
                found.pop(step, None)
    return found
