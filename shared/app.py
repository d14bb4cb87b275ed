"""The one place where the program is put together."""

import logging
import os
import threading
import time
from collections.abc import Iterable
from functools import cache
from typing import cast

from pydantic import SecretStr

from gpulaunch.models.instances import Mode
from shared.auth import Deriver
from shared.backends.base import Assignments, Backend
from shared.catalog.live import LiveCatalog
from shared.catalog.snapshot import snapshot
from shared.clock import Clock, SystemClock, UlidIds
from shared.clouds.registry import configured_clouds
from shared.control.parts import Parts
from shared.control.prices import PriceKeeper, PriceLists, stored_lists
from shared.domain.catalog import Catalog
from shared.observability.base import SILENT, Telemetry
from shared.queues import ALERTS, QUEUES
from shared.redaction import Redactor, redact_all_logging
from shared.settings import Settings, read_settings
from shared.storage.base import InstanceStore
from shared.storage.connect import ensure, queue_service, table_client
from shared.storage.queues import StorageQueues
from shared.storage.tables import TableInstanceStore

_DEVELOPMENT_KEY = SecretStr("only-for-development-on-ones-own-machine")
"""Stands in for the master key where `AZURE_FUNCTIONS_ENVIRONMENT=Development`; elsewhere the app does not start."""

_lock = threading.Lock()
_made: list[Parts] = []


def runtime() -> Parts:
    """The program's parts, made on the first call of a process.

    Raises SettingsError and StoreUnavailableError; the next call tries again.
    """
    if not _made:
        with _lock:
            if not _made:
                _made.append(build(read_settings()))
    return _made[0]


def use(parts: Parts | None) -> None:
    """Put other parts in place, for tests; None: make them anew on the next call."""
    with _lock:
        _made.clear()
        if parts is not None:
            _made.append(parts)


def build(settings: Settings) -> Parts:
    """Put everything together for the given settings; makes the table and the queues where they are missing."""
    clock = SystemClock()
    redactor = Redactor(secrets_of(settings))
    redact_all_logging(redactor)
    # One line per request of a library says nothing that our own lines don't, and would carry signed addresses.
    for library in ("httpx", "azure.core", "azure.identity"):
        logging.getLogger(library).setLevel(logging.WARNING)
    table, queues = table_client(settings), queue_service(settings)
    ensure(table, queues, (*QUEUES, ALERTS) if settings.webhooks else QUEUES)
    deriver = Deriver(settings.master_key or _DEVELOPMENT_KEY)

    @cache
    def backend(mode: Mode) -> Backend:
        return _simulation(settings, clock) if mode == "simulation" else _real(settings, clock, redactor)

    store = TableInstanceStore(table, settings.workspace)
    catalog, prices = _prices(settings, clock, store)
    return Parts(
        settings=settings,
        clock=clock,
        ids=UlidIds(),
        store=store,
        queues=StorageQueues(queues),
        backend=backend,
        catalog=catalog,
        deriver=deriver,
        assignments=_assignments(settings, deriver, clock),
        redactor=redactor,
        sleep=time.sleep,
        cloud=next(iter(configured_clouds(settings, clock).values()), None),
        telemetry=_telemetry(settings, redactor),
        prices=prices,
    )


def _prices(settings: Settings, clock: Clock, store: InstanceStore) -> tuple[Catalog, PriceKeeper | None]:
    """The catalog, live where SkyPilot is used, and what keeps it so; nothing is asked or imported yet."""
    if settings.orchestrator == "simulation":
        return snapshot(), None
    catalog = LiveCatalog(snapshot(), lambda known: stored_lists(store, known), clock)

    @cache
    def lists() -> PriceLists:
        from shared.backends.skypilot.client import SkyClient
        from shared.backends.skypilot.local import local_endpoint
        from shared.backends.skypilot.prices import SkyPrices

        endpoint = settings.skypilot_endpoint
        token = None if endpoint is None else settings.skypilot_token
        return SkyPrices(SkyClient(endpoint or local_endpoint(os.environ), settings.skypilot_user_id, token))

    return catalog, PriceKeeper(lists, catalog, store)


def _telemetry(settings: Settings, redactor: Redactor) -> Telemetry:
    """Application Insights where its address is set; OpenTelemetry is imported then only."""
    if settings.insights_connection is None:
        return SILENT
    from shared.observability.azure_monitor import connect

    return connect(settings.insights_connection.get_secret_value(), redactor, on_console=settings.development)


def _assignments(settings: Settings, deriver: Deriver, clock: Clock) -> Assignments:
    from shared.model_sources.assignment import AssignmentMaker
    from shared.model_sources.files import SourceFiles

    return AssignmentMaker(settings, deriver, SourceFiles(settings, clock), clock)


def _simulation(settings: Settings, clock: Clock) -> Backend:
    from shared.backends.simulation.cloud import TableSimulatedCloud
    from shared.backends.simulation.nodes import SimulatedNodes
    from shared.backends.simulation.provider import SimulationProvider

    cloud = TableSimulatedCloud(table_client(settings), settings.workspace)
    return Backend(
        SimulationProvider(cloud, clock, settings.simulation_speed),
        SimulatedNodes(cloud, clock, settings.simulation_speed),
    )


def _real(settings: Settings, clock: Clock, redactor: Redactor) -> Backend:
    from shared.backends.nodes import HttpNodes
    from shared.backends.skypilot.provider import SkyPilotProvider

    return Backend(SkyPilotProvider(settings, clock, redactor), HttpNodes())


def secrets_of(settings: Settings) -> Iterable[str]:
    """Every secret value the process holds, for the redactor."""
    held: list[str] = []
    for name in type(settings).model_fields:
        value: object = getattr(settings, name)
        values = cast("tuple[object, ...]", value) if isinstance(value, tuple) else (value,)
        held += [item.get_secret_value() for item in values if isinstance(item, SecretStr)]
    held += [hook.url.get_secret_value() for hook in settings.webhooks]
    connection = settings.storage_connection
    if connection is not None:
        for part in connection.get_secret_value().split(";"):
            name, _, value = part.partition("=")
            if name in ("AccountKey", "SharedAccessSignature"):
                held.append(value)
    site_key = os.environ.get("WEBSITE_AUTH_ENCRYPTION_KEY", "")
    return [*held, site_key]
