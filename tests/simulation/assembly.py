"""The program of a seed: its adapters, each with the faults of the simulated world."""

from contextlib import nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING
from unittest.mock import patch

from gpulaunch.models.instances import Mode
from shared.adapters import Adapters
from shared.backends.base import Backend
from shared.backends.simulation.faults import check_fault_labels
from shared.backends.simulation.provider import SimulatedNodes, SimulationProvider
from shared.backends.skypilot import provider as skypilot
from shared.catalog.snapshot import snapshot
from shared.lifecycle.timeouts import Timeouts
from shared.model_sources.assignment import AssignmentMaker
from shared.redaction import Redactor
from tests.functional.world import ADMIN, MASTER
from tests.simulation.adapters import Files, Ids
from tests.simulation.azure import AzureOfProcesses, FaultyAzure
from tests.simulation.cloud import FaultyProvider
from tests.simulation.storage import KeptByProcess
from tests.twins.endpoints import MemoryEndpointStore
from tests.twins.factories import DEPLOYMENT

if TYPE_CHECKING:
    from tests.simulation.simulator import Simulator

REFUSED_SECONDS = 5.0
"""How long a process keeps what it knows of refused offers."""
LIMITS = Timeouts(
    provisioning=240, installing=240, loading_model=300, starting_server=240, registering=120, release_alert=150
)
"""Shorter phases than in life, so that a hanging node costs a simulated run minutes."""


def _backend(made: "Simulator", redactor: Redactor) -> Backend:
    if made.kind == "simulation":
        inner = SimulationProvider(made.simulated, made.clocks)
        return Backend(
            FaultyProvider(inner, made.chaos, made.checks, made.discarded),
            SimulatedNodes(made.simulated, made.clocks),
            check_labels=check_fault_labels,
        )
    with patch.object(skypilot, "SkyClient", return_value=made.sky):
        real = skypilot.SkyPilotProvider(made.given, made.clocks, redactor, environ={}, script=lambda: "run")
    return Backend(FaultyProvider(real, made.chaos, made.checks, made.discarded), made.fleet)


def _asked(made: "Simulator", azure: FaultyAzure) -> AzureOfProcesses:
    return AzureOfProcesses(made.chaos, azure, made.given.skypilot_user_id, made.checks.deletion_asked)


def adapters_of(made: "Simulator") -> Adapters:
    """The adapters of a simulated world, whose parts all stand."""
    redactor = Redactor([ADMIN, MASTER.get_secret_value()])
    backend = _backend(made, redactor)

    def backend_of(_: Mode) -> Backend:
        return backend

    return Adapters(
        settings=made.given,
        clock=made.clocks,
        ids=Ids(made.random),
        store=made.store,
        endpoints=MemoryEndpointStore() if made.endpoints is None else made.endpoints.store,
        queues=made.queues,
        backends=backend_of,
        catalog=snapshot(),
        deriver=made.deriver,
        assignments=AssignmentMaker(made.given, made.deriver, Files(made.chaos, made.last_of), made.clocks),
        redactor=redactor,
        deployment=DEPLOYMENT,
        sleep=made.scheduler.pause,
        # Within a process admissions queue up; without that lock they meet at the ledger's ETag, as processes do.
        ledger_lock=nullcontext(),
        # Tasks are greenlets of one thread: one that waited for a lock would wait for ever.
        probe_turns=nullcontext(),
        refused_offers=KeptByProcess(made.scheduler, REFUSED_SECONDS),
        timeouts=replace(
            LIMITS,
            poisoned=made.random.choice((0, 2)),
            max_attempts=made.random.choice((3, 12)),
            max_recoveries=made.random.choice((0, 1, 5)),
            # Where heartbeats are rarer, silence lasts longer.
            silent=LIMITS.silent * made.workload.pace,
            silence_observed=LIMITS.silence_observed * made.workload.pace,
            silence_vouched=LIMITS.silence_vouched * made.workload.pace,
            heard_lately=LIMITS.heard_lately * made.workload.pace,
        ),
        # With slices of one the probes of all but the oldest instance go through their queue.
        probe_slice=made.probe_slice,
        clouds={} if made.azure is None else {"azure": _asked(made, made.azure)},
    )
