"""How long each phase is expected to take: known, or from earlier launches, or a range for a first one."""

import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from gpulaunch.models.instances import STARTING, EventType, Phase
from shared.backends.base import Backends
from shared.clock import Clock
from shared.domain.instance import Event, InstanceRecord
from shared.storage.base import InstanceFilter, InstanceStore, readable


@dataclass(frozen=True)
class PhaseSpan:
    least: float
    most: float


_RANGES: Final = {
    # A check of credentials by SkyPilot, cold at most.
    Phase.VALIDATING: PhaseSpan(1, 30),
    # Azure makes a machine in 2 to 10 minutes; SkyPilot's own set-up is in it.
    Phase.PROVISIONING: PhaseSpan(120, 600),
    # 8 GB of vLLM and CUDA wheels at 10 to 100 MB/s; seconds where the image has them.
    Phase.INSTALLING: PhaseSpan(60, 840),
    # 16 GB (8B in bfloat16) at 200 MB/s to 140 GB (70B) at 50 MB/s; fetched beside the installation.
    Phase.LOADING_MODEL: PhaseSpan(60, 2800),
    # Reading the weights from a cloud disk, and up to five minutes of CUDA graphs.
    Phase.STARTING_SERVER: PhaseSpan(45, 900),
    Phase.REGISTERING: PhaseSpan(1, 60),
}
"""For the first real launch of a type; the times of earlier launches take their place."""

_SAMPLE: Final = 5
"""Earlier launches that a median is made of: five even out one slow morning, and cost five reads."""
_FRESH: Final = timedelta(minutes=10)
"""How long a process keeps its estimates, so that watching an instance does not read others each time."""


@dataclass
class PhaseEstimates:
    """Expected seconds by phase; remembers what it has read."""

    store: InstanceStore
    backends: Backends
    clock: Clock
    _known: dict[tuple[str, ...], tuple[datetime, Mapping[Phase, PhaseSpan]]] = field(
        default_factory=dict[tuple[str, ...], tuple[datetime, Mapping[Phase, PhaseSpan]]], init=False
    )

    def of(self, record: InstanceRecord) -> Mapping[Phase, PhaseSpan]:
        """Expected seconds by phase.

        Raises:
            StoreUnavailableError: Storage did not answer.
        """
        exact = self.backends(record.mode).expected_seconds
        if exact:
            return {phase: PhaseSpan(seconds, seconds) for phase, seconds in exact.items()}
        key = kind_of(record)
        now = self.clock.now()
        known = self._known.get(key)
        if known is None or now - known[0] > _FRESH:
            known = self._known[key] = (now, {**_RANGES, **self._medians(record)})
        return known[1]

    def _medians(self, record: InstanceRecord) -> dict[Phase, PhaseSpan]:
        page = self.store.page(InstanceFilter(provider=record.request.provider), 50, None)
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
            for phase, seconds in durations(self.store.events(one.instance_id)).items():
                seen.setdefault(phase, []).append(seconds)
        return {
            phase: PhaseSpan(middle, middle)
            for phase, values in seen.items()
            if phase is not Phase.QUEUED
            for middle in (statistics.median(values),)
        }


def kind_of(record: InstanceRecord) -> tuple[str, str, str]:
    """What makes launches alike: provider, machine, model."""
    offer = record.attempts[-1].offer if record.attempts else record.offers[0]
    return (offer.provider, offer.instance_type or f"{offer.gpu}x{offer.gpu_count}", record.request.model_name)


def durations(events: list[Event]) -> dict[Phase, float]:
    """Seconds of each step up to the last time that ready was reached, or up to now; of the last attempt only."""
    found: dict[Phase, float] = {}
    for event in events:
        if event.type is not EventType.PHASE:
            continue
        before, after = Phase(event.data.get("from", "")), event.phase
        if before in STARTING and event.duration_seconds is not None:
            found[before] = event.duration_seconds
        if after in STARTING:
            # Going back to provisioning begins anew.
            for step in STARTING[STARTING.index(after) :]:
                found.pop(step, None)
    return found
