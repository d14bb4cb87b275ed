"""Connects the program to everything with I/O, a clock or chance in it."""

import logging
import os
import secrets
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from typing import TYPE_CHECKING, cast

from pydantic import SecretStr

from gpulaunch.models.requests import ProviderName
from shared.auth import Deriver
from shared.backends.base import Assignments, Backend, Backends, ModelInspector
from shared.cache import TTLCache
from shared.catalog.live import LiveCatalog
from shared.catalog.price_keeper import PriceKeeper, PriceLists, stored_lists
from shared.catalog.snapshot import snapshot
from shared.clock import Clock, Ids, SystemClock, UlidIds
from shared.clouds.base import CloudCompute
from shared.clouds.registry import configured_clouds
from shared.control.sweep.probes import SLICE
from shared.domain.catalog import Catalog
from shared.domain.deployment import RANDOM_BYTES, identity_of, is_identity, skypilot_user
from shared.errors import SettingsError, StoreError
from shared.lifecycle.timeouts import Timeouts
from shared.observability.base import SILENT, Telemetry
from shared.queues import ALERTS, QUEUES
from shared.redaction import Redactor, redact_all_logging
from shared.setting_names import misspelled
from shared.settings import DEVELOPMENT_KEY, Settings
from shared.storage.backup import TableBackups
from shared.storage.base import DEPLOYMENT, InstanceStore, Marker, Queues
from shared.storage.connect import REPORTS, backup_container, ensure, queue_service, table_client
from shared.storage.endpoint_tables import TableEndpointStore
from shared.storage.endpoints import EndpointStore
from shared.storage.queues import StorageQueues
from shared.storage.tables import TableInstanceStore

if TYPE_CHECKING:
    from azure.data.tables import TableClient
    from azure.storage.queue import QueueServiceClient

log = logging.getLogger("gpulaunch.settings")


@dataclass(frozen=True, kw_only=True)
class Adapters:
    """What the program is put together from: everything with I/O, a clock or chance in it."""

    settings: Settings
    clock: Clock
    ids: Ids
    store: InstanceStore
    endpoints: EndpointStore
    queues: Queues
    backends: Backends
    catalog: Catalog
    deriver: Deriver
    assignments: Assignments
    redactor: Redactor
    deployment: str
    """The deployment's identity."""
    sleep: Callable[[float], None]
    models: ModelInspector | None = None
    """Inspects models before a node is paid for; None: nothing does."""
    timeouts: Timeouts = field(default_factory=Timeouts)
    clouds: Mapping[ProviderName, CloudCompute] = field(default_factory=dict[ProviderName, CloudCompute])
    """The clouds' own APIs beside SkyPilot, where they are configured; empty: SkyPilot alone is asked."""
    prices: PriceKeeper | None = None
    """Renews the live prices; None: the catalog stays as it is."""
    back_up: Callable[[datetime], int] | None = None
    """Writes the night's copy of the table, and returns how many rows it has; None: there is none."""
    telemetry: Telemetry = SILENT
    """Where spans and counters go."""
    ledger_lock: AbstractContextManager[object] | None = None
    """None: a lock of its own."""
    probe_turns: AbstractContextManager[object] | None = None
    """None: turns of its own."""
    refused_offers: TTLCache[list[Marker]] | None = None
    """None: a cache of its own."""
    probe_slice: int = SLICE


def prepared(settings: Settings) -> "tuple[TableClient, TableClient, QueueServiceClient]":
    """Open the tables of instances and of gateways' reports, and the queues; what is missing is made.

    Where that is done before a host listens, its listeners log no error for each queue that is not there.

    Raises:
        StoreUnavailableError: Storage did not answer.
    """
    table, reports, queues = table_client(settings), table_client(settings, REPORTS), queue_service(settings)
    ensure(table, queues, (*QUEUES, ALERTS) if settings.webhooks else QUEUES)
    ensure(reports, queues, ())
    return table, reports, queues


def connect(settings: Settings) -> Adapters:
    """Connect to everything the settings name; makes the table and the queues where they are missing."""
    clock = SystemClock()
    redactor = Redactor(secrets_of(settings))
    redact_all_logging(redactor)
    for name, meant in misspelled(os.environ):
        log.warning("%s has no effect; the setting is called %s", name, meant)
    # One line per request of a library says nothing that our own lines don't, and would carry signed addresses.
    for library in ("httpx", "azure.core", "azure.identity"):
        logging.getLogger(library).setLevel(logging.WARNING)
    table, reports, queues = prepared(settings)
    deriver = Deriver(settings.master_key or SecretStr(DEVELOPMENT_KEY))
    store = TableInstanceStore(table, settings.workspace)
    deployment = identity(store, clock, settings.deployment)
    settings = with_user(settings, deployment)

    @cache
    def backends(mode: str) -> Backend:
        return _simulation(settings, clock) if mode == "simulation" else _real(settings, clock, redactor)

    catalog, prices = _prices(settings, clock, store)
    assignments, models = _sources(settings, deriver, clock)
    return Adapters(
        settings=settings,
        clock=clock,
        ids=UlidIds(),
        store=store,
        endpoints=TableEndpointStore(table, settings.workspace, reports),
        queues=StorageQueues(queues),
        backends=backends,
        catalog=catalog,
        deriver=deriver,
        assignments=assignments,
        models=models,
        redactor=redactor,
        deployment=deployment,
        sleep=time.sleep,
        clouds=configured_clouds(settings, clock),
        telemetry=_telemetry(settings, redactor),
        prices=prices,
        back_up=lambda now: TableBackups(table, backup_container(settings)).write_nightly(now),
    )


def identity(store: InstanceStore, clock: Clock, wanted: str | None = None) -> str:
    """The identity in the deployment's table; one read, and a write where there is none yet.

    Raises:
        SettingsError: Another identity than the `wanted` one is there.
        StoreUnavailableError: Storage did not answer.
        StoreError: What is there is not an identity.
    """
    made = wanted or identity_of(secrets.token_bytes(RANDOM_BYTES))
    found = store.claim_marker(Marker(kind=DEPLOYMENT, key="identity", at=clock.now(), text=made)).text
    if not is_identity(found):
        raise StoreError("the table's identity cannot be read; restore its row, or set it in a new workspace")
    if wanted not in (None, found):
        raise SettingsError(f"GPULAUNCH_DEPLOYMENT: this table belongs to the deployment {found}; unset it")
    return found


def with_user(settings: Settings, deployment: str) -> Settings:
    """The settings with SkyPilot's user id derived from the identity, unless they name one."""
    user_id = settings.skypilot_user_id or skypilot_user(deployment)
    return settings.model_copy(update={"skypilot_user_id": user_id})


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


def _sources(settings: Settings, deriver: Deriver, clock: Clock) -> tuple[Assignments, ModelInspector]:
    from shared.model_sources.assignment import AssignmentMaker
    from shared.model_sources.files import SourceFiles
    from shared.model_sources.inspection import SourceInspector

    files = SourceFiles(settings, clock)
    return AssignmentMaker(settings, deriver, files, clock), SourceInspector(files)


def _simulation(settings: Settings, clock: Clock) -> Backend:
    from shared.backends.simulation.cloud import TableSimulatedCloud
    from shared.backends.simulation.course import expected_seconds
    from shared.backends.simulation.faults import check_fault_labels
    from shared.backends.simulation.provider import SimulatedNodes, SimulationProvider

    cloud = TableSimulatedCloud(table_client(settings), settings.workspace)
    speed = settings.simulation_speed
    return Backend(
        SimulationProvider(cloud, clock, speed),
        SimulatedNodes(cloud, clock, speed),
        check_labels=check_fault_labels,
        expected_seconds=expected_seconds(speed),
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
