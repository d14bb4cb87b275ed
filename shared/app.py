"""The composition root: the one place where the program is put together."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING

from gpulaunch.models.reports import CostsAnswer
from shared.adapters import Adapters, connect
from shared.agent.task import server_port
from shared.auth import Deriver
from shared.billing.admission import Admission, AdmissionRules
from shared.billing.budget import Budgets
from shared.billing.gate import LedgerGate
from shared.billing.ledger import AttemptCosts, to_micro
from shared.billing.limits import AdmissionLimits
from shared.cache import TTLCache
from shared.clock import Clock
from shared.clouds.registry import CHECKABLE
from shared.control.access import FailedAttempts, RefusalLog
from shared.control.adoption import Adopter
from shared.control.clusters import MODES_IN_USE, ClusterListing
from shared.control.costs import CostReports
from shared.control.endpoint_keys import EndpointKeys
from shared.control.endpoints import EndpointQueries, Endpoints
from shared.control.garbage_report import GarbageReports
from shared.control.idempotency import IdempotentLauncher
from shared.control.launch import Launcher, LaunchPreparation
from shared.control.launch_arguments import LaunchArguments
from shared.control.launch_planner import LaunchDefaults, LaunchPlanner
from shared.control.launch_spec import LaunchSpecs
from shared.control.mode import ModeChooser
from shared.control.model_check import ModelCheck
from shared.control.node_calls import NodeCalls, NodeDoor
from shared.control.observer import Observer
from shared.control.offer_memory import OfferMemory
from shared.control.phase_estimates import PhaseEstimates
from shared.control.probe import SLICE_SECONDS, SLICES_AT_ONCE, NodeProbes, Prober
from shared.control.queries import CatalogQueries, HealthReports, InstanceQueries
from shared.control.quota_check import QuotaCheck
from shared.control.records import Lifecycle, Records, RecordWriter
from shared.control.release import NodeKeeper
from shared.control.replicas import ReplicaKeeper, ReplicaNews
from shared.control.routes import RouteMaker
from shared.control.sessions import EndedSessions
from shared.control.step import StepRunner
from shared.control.sweep.base import SweepTask
from shared.control.sweep.budget_cap import BudgetCap
from shared.control.sweep.burning import LateReleases, StayingOrphans
from shared.control.sweep.endpoint_replicas import EndpointReplicas
from shared.control.sweep.expiry import Expiry
from shared.control.sweep.garbage import GarbageCollection
from shared.control.sweep.lost_nodes import LostNodes
from shared.control.sweep.lost_records import LostRecords
from shared.control.sweep.poison import PoisonQueues
from shared.control.sweep.price_refresh import PriceRefresh
from shared.control.sweep.probes import ProbeReady
from shared.control.sweep.requeue import Requeue
from shared.control.sweep.status import SweepStatusStore
from shared.control.sweep.sweep import Sweep
from shared.control.sweep.unreadable_rows import UnreadableRows
from shared.control.termination import Terminator, UnreadableTermination
from shared.domain.catalog import Catalog
from shared.domain.messages import AlertMessage, EndpointMessage, StepMessage
from shared.model_sources.addresses import check_source
from shared.observability.instances import InstanceTelemetry
from shared.settings import Settings, read_settings
from shared.storage.base import Queues
from shared.turns import Turns
from shared.webhooks.announcements import AlertQueue

if TYPE_CHECKING:
    from shared.webhooks.delivery import AlertDelivery

log = logging.getLogger("gpulaunch.backup")


@dataclass(frozen=True, kw_only=True)
class App:
    """The program as the edge sees it: its use cases, and what answers are made with."""

    settings: Settings
    deployment: str
    """The deployment's identity."""
    clock: Clock
    catalog: Catalog
    deriver: Deriver
    queues: Queues
    failures: FailedAttempts
    refusals: RefusalLog
    ended_sessions: EndedSessions
    preparation: LaunchPreparation
    launcher: IdempotentLauncher
    planner: LaunchPlanner
    instances: InstanceQueries
    endpoints: Endpoints
    endpoint_keys: EndpointKeys
    endpoint_queries: EndpointQueries
    replicas: ReplicaKeeper
    estimates: PhaseEstimates
    terminator: Terminator
    node_door: NodeDoor
    node_calls: NodeCalls
    adopter: Adopter
    catalog_queries: CatalogQueries
    costs: CostReports
    quota: QuotaCheck
    health: HealthReports
    garbage: GarbageReports
    steps: StepRunner
    prober: Prober
    sweep: Sweep
    back_up: Callable[[], object]
    """Writes the night's copy of the table."""
    deliver_alert: Callable[[AlertMessage], None]
    recent_costs: Mapping[int, TTLCache[tuple[datetime, CostsAnswer, CostsAnswer]]]
    """By day and by model, for the page of costs, by the number of days: a report reads every live instance and all
    that ended meanwhile."""

    def step(self, message: StepMessage | EndpointMessage) -> None:
        """Do what a message of the queue of launches asks for."""
        if isinstance(message, EndpointMessage):
            self.replicas.reconcile(message.endpoint)
        else:
            self.steps.run(message)


COST_PERIODS = (14, 30, 90)
"""Days that the page of costs can show; the first by default."""
_COSTS_SECONDS = 60.0

_lock = Turns(1, 12.0, "the app's connection to storage")
"""Each caller tries to start the app, one after the other; while storage is silent most are refused instead."""
_made: list[App] = []


def runtime() -> App:
    """The program, put together on the first call of a process.

    Raises:
        SettingsError: A setting is missing or wrong.
        StoreUnavailableError: Storage did not answer; the next call tries again.
    """
    if not _made:
        with _lock:
            if not _made:
                _made.append(compose(connect(read_settings())))
    return _made[0]


def use(app: App | None) -> None:
    """Put another program in place, for tests; None: make it anew on the next call."""
    with _lock:
        _made.clear()
        if app is not None:
            _made.append(app)


def compose(adapters: Adapters) -> App:
    made = adapters
    settings, store, clock = made.settings, made.store, made.clock
    rules = admission_rules(settings)
    telemetry = InstanceTelemetry(made.telemetry)
    gate = LedgerGate(store, made.sleep, made.ledger_lock)
    costs = AttemptCosts(made.catalog)
    lifecycle = Lifecycle(clock, made.timeouts.with_lease(settings.lease_seconds))
    memory = OfferMemory(store, clock, made.refused_offers)
    alerts = AlertQueue(made.queues, len(settings.webhooks), settings.webhook_events)
    writer = RecordWriter(store, gate, costs, telemetry)
    records = Records(store, writer, lifecycle, made.queues, (memory, alerts, ReplicaNews(made.queues)), made.sleep)
    specs = LaunchSpecs(settings, made.deriver, made.assignments, made.deployment)
    garbage = GarbageReports(store, clock, made.deployment)
    keeper = NodeKeeper(made.backends, made.clouds, garbage.is_deleted)
    models = ModelCheck(made.models, made.catalog)
    observer = Observer(made.backends, specs, keeper, lifecycle, models, made.redactor, telemetry)
    turns = made.probe_turns or Turns(SLICES_AT_ONCE, SLICE_SECONDS, "the probing of nodes")
    prober = Prober(store, NodeProbes(made.backends, specs, made.redactor), keeper, records, lifecycle, turns)
    listing = ClusterListing(store, made.backends, made.clouds, MODES_IN_USE[settings.orchestrator])
    terminator = Terminator(records, UnreadableTermination(store, listing, garbage, clock))
    statuses = SweepStatusStore(store)
    quota = QuotaCheck(made.clouds, CHECKABLE, store, made.redactor)
    arguments = LaunchArguments(made.redactor, frozenset(settings.allowed_vllm_options))
    planner = LaunchPlanner(made.catalog, rules.limits, _defaults(settings), memory, clock, arguments)
    modes = ModeChooser(settings.orchestrator, made.backends, made.redactor, made.sleep)
    admission = Admission(store, gate, rules, alerts)
    source_check = partial(check_source, public_only=not settings.development)
    preparation = LaunchPreparation(planner, modes, quota, made.backends, source_check)
    launcher = Launcher(preparation, admission, made.queues, clock, made.ids, telemetry)
    replicas = ReplicaKeeper(made.endpoints, store, launcher, terminator, records, clock, RouteMaker(made.deriver))
    endpoints = Endpoints(made.endpoints, preparation, made.queues, clock, made.ids, made.sleep)
    adopter = Adopter(
        store, listing, garbage, made.catalog, admission, made.queues, clock, settings, made.deployment, made.timeouts
    )
    tasks: Sequence[SweepTask] = (
        # The cloud is listed when this begins, before the records are read.
        GarbageCollection(
            store, listing, made.deployment, garbage, LostRecords(listing, alerts.garbage), alerts.garbage
        ),
        LostNodes(store, listing, adopter, specs, made.backends, clock),
        Requeue(made.queues, store, clock),
        PoisonQueues(made.queues, records),
        EndpointReplicas(made.endpoints, replicas),
        BudgetCap(store, records, rules.budgets),
        UnreadableRows(store, terminator, alerts.unreadable),
        LateReleases(store, records, alerts.burning),
        StayingOrphans(store, garbage, alerts.staying, timedelta(seconds=made.timeouts.release_alert_again)),
        # Late, since nodes that don't answer take seconds.
        ProbeReady(made.queues, prober, made.probe_slice),
        Expiry(store),
        PriceRefresh(None if made.prices is None else made.prices.step),
    )
    return App(
        settings=settings,
        deployment=made.deployment,
        clock=clock,
        catalog=made.catalog,
        deriver=made.deriver,
        queues=made.queues,
        failures=FailedAttempts(clock, alerts.access),
        refusals=RefusalLog(clock),
        ended_sessions=EndedSessions(store, clock),
        preparation=preparation,
        launcher=IdempotentLauncher(store, launcher.launch),
        planner=planner,
        instances=InstanceQueries(store),
        estimates=PhaseEstimates(store, made.backends, clock),
        endpoints=endpoints,
        endpoint_keys=EndpointKeys(endpoints, clock),
        endpoint_queries=EndpointQueries(made.endpoints, store),
        replicas=replicas,
        terminator=terminator,
        node_door=NodeDoor(store, made.deriver, clock),
        adopter=adopter,
        node_calls=NodeCalls(
            records,
            made.assignments,
            clock,
            made.redactor,
            settings.lease_seconds,
            lambda provider: server_port(provider, settings),
        ),
        catalog_queries=CatalogQueries(made.catalog),
        costs=CostReports(store, costs, rules.budgets, clock),
        quota=quota,
        health=HealthReports(statuses, garbage, clock),
        garbage=garbage,
        steps=StepRunner(store, observer, records, lifecycle, telemetry, made.sleep),
        prober=prober,
        sweep=Sweep(store, tasks, clock, statuses),
        back_up=lambda: _back_up(made),
        recent_costs={days: TTLCache(_COSTS_SECONDS) for days in COST_PERIODS},
        deliver_alert=lambda message: _delivery(made).deliver(message),
    )


def _back_up(adapters: Adapters) -> None:
    if adapters.back_up is not None:
        rows = adapters.back_up(adapters.clock.now())
        # The alert for missing copies counts these lines.
        log.info("backup: %d rows", rows, extra={"event": "backup", "rows": rows})


def _delivery(adapters: Adapters) -> "AlertDelivery":
    """Made when there is an alert: its HTTP client costs imports that most processes never need."""
    from shared.webhooks.delivery import AlertDelivery

    settings = adapters.settings
    hooks, secret = settings.webhooks, settings.webhook_secret
    return AlertDelivery(adapters.store, adapters.queues, adapters.clock, hooks, secret)


def admission_rules(settings: Settings) -> AdmissionRules:
    monthly = settings.monthly_budget_usd
    return AdmissionRules(
        Budgets(
            monthly=None if monthly is None else to_micro(monthly),
            labels={label: to_micro(usd) for label, usd in settings.label_budgets.items()},
            end_at_cap=settings.budget_action == "end",
        ),
        AdmissionLimits(
            instances=settings.max_instances,
            gpus=settings.max_gpus,
            label_instances=settings.label_max_instances,
            label_gpus=settings.label_max_gpus,
            launches_per_minute=settings.launches_per_minute,
            lifetime_minutes=settings.max_lifetime_minutes,
            providers=settings.allowed_providers,
            regions=settings.allowed_regions,
            types=settings.allowed_types,
            gpu_names=settings.allowed_gpus,
        ),
    )


def _defaults(settings: Settings) -> LaunchDefaults:
    return LaunchDefaults(
        lifetime_minutes=settings.default_lifetime_minutes,
        idle_minutes=settings.default_idle_minutes,
        simulated=settings.orchestrator == "simulation",
    )
