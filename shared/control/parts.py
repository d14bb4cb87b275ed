"""What the engine works with; put together in one place, shared.app, or in a test."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from gpulaunch.models.instances import Mode
from shared.auth import Deriver
from shared.backends.base import Assignments, Backend
from shared.cache import TTLCache
from shared.clock import Clock, Ids
from shared.clouds.base import CloudCompute
from shared.control.prices import PriceKeeper
from shared.domain.catalog import Catalog
from shared.lifecycle.timeouts import Timeouts
from shared.observability.base import SILENT, Telemetry
from shared.redaction import Redactor
from shared.settings import Settings
from shared.storage.base import InstanceStore, Marker, Queues

REFUSED_SECONDS = 5.0
"""A plan that misses a refusal of another process in these seconds costs one try that fails, and the next offer."""

SLICES_AT_ONCE = 4
"""Slices of nodes that one process reads and probes side by side. More would not be faster on its one core, and so many
answers at once could wait for their turn until their time is over: a healthy node would be taken for dead."""


@dataclass(frozen=True)
class Parts:
    """Everything the engine needs, behind Protocols."""

    settings: Settings
    clock: Clock
    ids: Ids
    store: InstanceStore
    queues: Queues
    backend: Callable[[Mode], Backend]
    """The kit of a mode, made on first use: the real one costs imports that a simulation never needs."""
    catalog: Catalog
    deriver: Deriver
    assignments: Assignments
    redactor: Redactor
    sleep: Callable[[float], None]
    timeouts: Timeouts = field(default_factory=Timeouts)
    cloud: CloudCompute | None = None
    """The cloud itself, beside SkyPilot; None: SkyPilot's books are all there is."""
    prices: PriceKeeper | None = None
    """Renews the live prices; None: the catalog is what it is."""
    refused: TTLCache[list[Marker]] = field(default_factory=lambda: TTLCache[list[Marker]](REFUSED_SECONDS))
    """The offers that were refused lately, so that a burst of launches reads them once."""
    telemetry: Telemetry = SILENT
    """Where spans and counters go; nowhere unless the deployment says so."""
    ledger_lock: threading.Lock = field(default_factory=threading.Lock)
    """Held from reading the ledger to writing it, so that calls of one process queue up for it."""
    slices: threading.BoundedSemaphore = field(default_factory=lambda: threading.BoundedSemaphore(SLICES_AT_ONCE))
    """Held from reading a slice of ready instances until its nodes were probed."""
