"""The whole program under one seed: the real functions, a host, users, nodes and a cloud, on a simulated clock."""

import json
import logging
import random as global_random
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cache
from random import Random
from typing import Any
from unittest.mock import patch

import azure.functions as func
from azure.functions.timer import TimerRequest
from ulid import ULID

from functions.queues import alerts
from gpulaunch.models.instances import Mode
from gpulaunch.models.requests import LaunchRequest
from shared import app as runtime
from shared.adapters import Adapters, with_user
from shared.app import compose
from shared.auth import Deriver
from shared.backends.base import Backend
from shared.backends.simulation.cloud import SimulatedNode
from shared.backends.simulation.faults import check_fault_labels
from shared.backends.simulation.provider import SimulatedNodes, SimulationProvider
from shared.backends.skypilot import provider as skypilot
from shared.catalog.snapshot import snapshot
from shared.clouds.azure import compute as azure_compute
from shared.control import quota_check as quotas
from shared.domain.references import Reference
from shared.errors import StaleRecordError, StoreUnavailableError
from shared.lifecycle.timeouts import Timeouts
from shared.model_sources.assignment import AssignmentMaker
from shared.model_sources.base import HubSource, ModelListing
from shared.queues import ALERTS, LAUNCHES, PROBES, TEARDOWNS
from shared.redaction import Redactor
from shared.settings import Settings
from shared.webhooks import delivery
from tests.functional.world import ADMIN, MASTER, SWEEP_SECONDS, functions, settings
from tests.simulation.azure import AtOnce, AzureOfProcesses, FaultyAzure
from tests.simulation.chaos import Chaos, Rates, draw
from tests.simulation.checks import COLLECTED_AFTER, DELETED_AFTER, Checks
from tests.simulation.cloud import FaultyProvider, Machines, SkyServer
from tests.simulation.neighbours import CONFIRMED_EVERY, Neighbours, operate
from tests.simulation.nodes import Fleet, Node
from tests.simulation.reached import reached
from tests.simulation.scheduler import Process, Scheduler, Task
from tests.simulation.storage import FaultyQueues, FaultyStore, KeptByProcess, Table
from tests.simulation.users import User
from tests.simulation.witness import LOOK_SECONDS, PATIENCE, WEBHOOK, Receiver, witness_of
from tests.simulation.workload import money_of, rates_of, workload_of
from tests.twins.factories import DEPLOYMENT
from tests.twins.queues import LEASE_SECONDS
from tests.twins.simulated_cloud import MemorySimulatedCloud

CALM = 5400.0
"""Seconds in which everything comes to its end once nothing goes wrong any more: one attempt that hangs in each of its
phases until it is given up, and another one."""
RETRY_SECONDS = 5.0
REFUSED_SECONDS = 5.0
"""How long a process keeps what it knows of refused offers."""
SLICE = 200
"""Nodes probed at once: more than there are."""
MAX_DEQUEUES = 5
WORKERS = 2
LIMITS = Timeouts(
    provisioning=240, installing=240, loading_model=300, starting_server=240, registering=120, release_alert=150
)
"""Shorter phases than in life, so that a hanging node costs a simulated run minutes."""
_FUNCTIONS = {LAUNCHES: "provisioning", TEARDOWNS: "teardown", PROBES: "health", ALERTS: "alerts"}


@dataclass(frozen=True)
class Outcome:
    seed: int
    violations: list[str]
    digest: str
    trace: list[tuple[int, str, str]]
    details: list[tuple[int, int, str, str]]
    rates: Rates
    summary: str
    reached: set[str]
    """What it came to, of REACHED."""


@dataclass(frozen=True)
class Answer:
    status: int
    json: Any


class _Errors(logging.Handler):
    """Errors in the log, as lines of the trace."""

    def __init__(self, scheduler: Scheduler) -> None:
        super().__init__()
        self._scheduler = scheduler

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        # An HTTP request's own id is no part of the seed.
        said = f"failed: {error!r}" if error is not None else record.getMessage()
        self._scheduler.note(f"logs {said}")


class _Ids:
    """Instance ids out of the seed."""

    def __init__(self, random: Random) -> None:
        self._random = random

    def instance_id(self, now: datetime) -> str:
        head = int(now.timestamp() * 1000).to_bytes(6, "big")
        return f"inst-{ULID.from_bytes(head + self._random.randbytes(10))}"


class _Files:
    """A model store."""

    def __init__(self, chaos: Chaos, name_of: Callable[[LaunchRequest], str]) -> None:
        self._chaos = chaos
        self._name_of = name_of

    def list_files(self, request: LaunchRequest) -> ModelListing:
        # In pages, each with its own time limit and tries.
        what = f"list files of {self._name_of(request)}"
        return self._chaos.sky(what, lambda: ModelListing([], request.model_name), longest=150.0)

    def beside(self, reference: Reference, name: str, revision: str) -> tuple[HubSource, ModelListing]:
        raise AssertionError(f"no user of the simulation names {reference}")


class _SimulatedCloud(MemorySimulatedCloud):
    """The simulation's own cloud under faults."""

    def __init__(self, chaos: Chaos, checks: Checks) -> None:
        super().__init__()
        self._chaos = chaos
        self._checks = checks

    @property
    def names(self) -> set[str]:
        return set(self._nodes)

    def add(self, node: SimulatedNode) -> bool:
        def effect() -> bool:
            if node.cluster_name not in self._nodes:
                self._checks.machine_comes(node.cluster_name)
                self._checks.launches[node.cluster_name] += 1
            return super(_SimulatedCloud, self).add(node)

        return self._chaos.storage(f"add node {node.cluster_name[-7:]}", effect)

    def get(self, cluster_name: str) -> SimulatedNode | None:
        act = super().get
        return self._chaos.storage(f"get node {cluster_name[-7:]}", lambda: act(cluster_name))

    def replace(self, node: SimulatedNode) -> None:
        act = super().replace
        self._chaos.storage(f"replace node {node.cluster_name[-7:]}", lambda: act(node))

    def remove(self, cluster_name: str) -> None:
        act = super().remove

        def effect() -> None:
            self._checks.deletion_asked(cluster_name)
            act(cluster_name)
            self._checks.machine_ended(cluster_name)

        self._chaos.storage(f"remove node {cluster_name[-7:]}", effect)

    def nodes(self, first: str | None = None, last: str | None = None) -> list[SimulatedNode]:
        act = super().nodes
        return self._chaos.storage("list nodes", lambda: act(first, last))


@cache
def _settings(kind: str, money: tuple[tuple[str, str], ...], lease: str) -> Settings:
    given = dict(money) | WEBHOOK
    if kind == "simulation":
        return with_user(settings(**given), DEPLOYMENT)
    given["GPULAUNCH_LEASE_SECONDS"] = lease
    given |= {"GPULAUNCH_ORCHESTRATOR": "skypilot", "SKYPILOT_API_SERVER_ENDPOINT": "https://sky.example.com"}
    if kind == "push":
        given["GPULAUNCH_PUBLIC_URL"] = "https://app.example.com"
    return with_user(settings(**given), DEPLOYMENT)


def _money(random: Random) -> tuple[tuple[str, str], ...]:
    """What a deployment counts; most seeds count nothing."""
    if random.random() < 0.6:
        return ()
    given = [("GPULAUNCH_MONTHLY_BUDGET_USD", random.choice(("60", "120", "1000")))]
    if random.random() < 0.5:
        given.append(("GPULAUNCH_BUDGET_ACTION", "end"))
    if random.random() < 0.5:
        given.append(("GPULAUNCH_MAX_INSTANCES", random.choice(("2", "4"))))
    return tuple(given)


class Simulator:
    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        # tenacity waits for times that it draws itself
        global_random.seed(seed)
        self.seed = seed
        self.workload = workload_of(seed)
        self.scheduler = Scheduler(self.random, self.workload.start)
        self.kind = self.random.choice(("push", "push", "pull", "pull", "simulation"))
        asks_azure = self.kind != "simulation" and self.random.random() < 0.5
        rates = rates_of(seed, self.workload, draw(self.random, azure=asks_azure))
        until = self.random.choice((200.0, 500.0, 900.0, 1500.0))
        self.chaos = Chaos(self.scheduler, rates, self.workload.faults or until)
        self.money = money_of(seed, self.workload, _money(self.random))
        lease = self.random.choice(("180", "900"))
        self.lease = self.workload.lease or lease
        self.given = _settings(self.kind, self.money, self.lease)
        self.machines = Machines()
        self.azure = self._faulty_azure() if asks_azure else None
        self.table = Table()
        self.checks = Checks(self.scheduler, lambda: self.table, self._running, self._launching, self.azure)
        self.store: Any = FaultyStore(self.chaos, self.table, self.checks)
        self.queues = FaultyQueues(self.chaos, self.checks, self._announce)
        self.fleet = Fleet(self.chaos)
        self.simulated = _SimulatedCloud(self.chaos, self.checks)
        self.sky = SkyServer(
            self.chaos, self.machines, self.checks, self._node_starts, self._machine_ended, azure=self.azure
        )
        self.neighbours = Neighbours(seed)
        self.neighbours.move_in(self)
        self.deriver = Deriver(MASTER)
        self.probe_slice = self.random.choice((1, SLICE))
        self.adapters = self._adapters()
        self.witness = self.checks.witness = witness_of(self)
        self.workers = [Process(f"worker {number}") for number in range(WORKERS)]
        self.sweeping = False
        self.users: list[User] = []

    def _faulty_azure(self) -> FaultyAzure:
        def deleted(name: str) -> None:
            if self.machines.running.pop(name, None) is not None:
                self._machine_ended(name)

        shared = self.random.random() < 0.3
        return FaultyAzure(self.chaos, self.given.skypilot_user_id, deleted, shared=shared)

    def _adapters(self) -> Adapters:
        redactor = Redactor([ADMIN, MASTER.get_secret_value()])
        if self.kind == "simulation":
            inner = SimulationProvider(self.simulated, self.scheduler)
            backend = Backend(
                FaultyProvider(inner, self.chaos, self.checks),
                SimulatedNodes(self.simulated, self.scheduler),
                check_labels=check_fault_labels,
            )
        else:
            with patch.object(skypilot, "SkyClient", return_value=self.sky):
                real = skypilot.SkyPilotProvider(self.given, self.scheduler, redactor, environ={}, script=lambda: "run")
            backend = Backend(FaultyProvider(real, self.chaos, self.checks), self.fleet)

        def backend_of(_: Mode) -> Backend:
            return backend

        return Adapters(
            settings=self.given,
            clock=self.scheduler,
            ids=_Ids(self.random),
            store=self.store,
            queues=self.queues,
            backends=backend_of,
            catalog=snapshot(),
            deriver=self.deriver,
            assignments=AssignmentMaker(self.given, self.deriver, _Files(self.chaos, self._last_of), self.scheduler),
            redactor=redactor,
            deployment=DEPLOYMENT,
            sleep=self.scheduler.pause,
            # Within a process admissions queue up; without that lock they meet at the ledger's ETag, as processes do.
            ledger_lock=nullcontext(),
            # Tasks are greenlets of one thread: one that waited for a lock would wait for ever.
            probe_turns=nullcontext(),
            refused_offers=KeptByProcess(self.scheduler, REFUSED_SECONDS),
            timeouts=replace(
                LIMITS,
                poisoned=self.random.choice((0, 2)),
                max_attempts=self.random.choice((3, 12)),
                max_recoveries=self.random.choice((0, 1, 5)),
                # Where heartbeats are rarer, silence lasts longer.
                silent=LIMITS.silent * self.workload.pace,
                silence_observed=LIMITS.silence_observed * self.workload.pace,
                silence_vouched=LIMITS.silence_vouched * self.workload.pace,
                heard_lately=LIMITS.heard_lately * self.workload.pace,
            ),
            # With slices of one the probes of all but the oldest instance go through their queue.
            probe_slice=self.probe_slice,
            clouds={}
            if self.azure is None
            else {
                "azure": AzureOfProcesses(
                    self.chaos, self.azure, self.given.skypilot_user_id, self.checks.deletion_asked
                )
            },
        )

    def run(self) -> Outcome:
        runtime.use(compose(self.adapters))
        logging.disable(logging.WARNING)
        listener = _Errors(self.scheduler)
        log = logging.getLogger("gpulaunch")
        log.addHandler(listener)
        log.propagate, propagated = False, log.propagate
        try:
            with (
                patch.object(azure_compute, "ThreadPoolExecutor", AtOnce),
                patch.object(quotas, "ThreadPoolExecutor", AtOnce),
                patch.object(delivery, "_post", Receiver(self)),
            ):
                self._play()
        finally:
            self.scheduler.close()
            log.propagate = propagated
            log.removeHandler(listener)
            logging.disable(logging.NOTSET)
            runtime.use(None)
        records = self.checks.records
        phases = [record.phase.value for record in records]
        kind = self.kind if self.azure is None else f"{self.kind} with Azure"
        return Outcome(
            self.seed,
            self.checks.violations,
            self.scheduler.digest(),
            self.scheduler.trace,
            self.scheduler.details or [],
            self.chaos.rates,
            f"{kind}, {', '.join(phases)}, {sum(len(r.attempts) for r in records)} attempts, "
            f"{self.scheduler.seconds:.0f} s",
            reached(self.scheduler.trace, records),
        )

    def _play(self) -> None:
        self.scheduler.note(f"workload: {self.workload.name}")
        few = self.random.randint(2, 5)
        for number in range(self.workload.users or few):
            user = User(self, number)
            self.users.append(user)
            self.scheduler.spawn(user.name, Process(user.name), user.live)
        first = self.random.uniform(0, SWEEP_SECONDS)
        self.scheduler.after(first if self.workload.name != "weeks" else 1.0, self._tick)
        if self.given.budget_action == "end" and self.random.random() < 0.5:
            self.scheduler.after(self.random.uniform(100, self.chaos.until), self._lower_budget)
        if self.chaos.rates.restart:
            self.scheduler.after(60, self._perhaps_restart)
        self.scheduler.after(CONFIRMED_EVERY, lambda: operate(self))
        self.scheduler.after(LOOK_SECONDS, self._look)
        self.scheduler.run(self.chaos.until)
        self.scheduler.note("nothing goes wrong any more")
        if self.workload.length:
            self.scheduler.run(self.workload.length)
        end = self.scheduler.seconds + CALM
        collected = COLLECTED_AFTER if self.azure is None else COLLECTED_AFTER + DELETED_AFTER
        self.scheduler.run(self.scheduler.seconds + collected, self._quiet)
        self.checks.garbage_is_gone(self.chaos.until)
        self.scheduler.run(end, self._quiet)
        # What hung at the end of the faults is given time to be noticed: a dead node, a late message, a lie.
        self.scheduler.run(self.scheduler.seconds + 240)
        self.scheduler.run(end + 240, self.checks.settled)
        if self.scheduler.stopped:
            return
        self.checks.at_rest(all_ended=False)
        for user in self.users:
            self.scheduler.spawn(f"{user.name} leaves", Process(user.name), user.leave)
        self.scheduler.run(
            self.scheduler.seconds + 1800 * self.workload.pace,
            lambda: self.checks.settled() and all(r.ended for r in self.checks.records),
        )
        if not self.scheduler.stopped:
            self.checks.at_rest(all_ended=True)
        if self.witness.waits():
            self.scheduler.run(self.scheduler.seconds + PATIENCE)
        if not self.scheduler.stopped:
            self.witness.close()

    def _look(self) -> None:
        self.witness.look()
        self.scheduler.after(LOOK_SECONDS * self.workload.pace, self._look)

    def _machine_ended(self, name: str) -> None:
        self.checks.machine_ended(name)
        self.fleet.gone(name)

    def kept_keys(self) -> list[datetime]:
        """When the launches were accepted whose Idempotency-Keys are still stored."""
        return self.table.kept_keys()

    def _lower_budget(self) -> None:
        """The operator wants to spend less than is spent already, and restarts the app."""
        self.scheduler.note("the month's budget is lowered")
        money = {**dict(self.money), "GPULAUNCH_MONTHLY_BUDGET_USD": "0.01"}
        self.given = _settings(self.kind, tuple(money.items()), self.lease)
        self.witness.world.terms = replace(self.witness.world.terms, monthly_budget_usd=0.01)
        self.adapters = replace(self.adapters, settings=self.given)
        for worker in self.workers:
            self.scheduler.kill(worker)
        runtime.use(compose(self.adapters))

    def _quiet(self) -> bool:
        return all(user.done for user in self.users) and self.checks.settled()

    # The host.

    def worker(self) -> Process:
        number = self.random.randrange(WORKERS)
        if not self.workers[number].alive:
            self.workers[number] = Process(f"worker {number}")
        return self.workers[number]

    def _announce(self, queue: str, seconds: float) -> None:
        self.scheduler.after(seconds, lambda: self._poll(queue))

    def _poll(self, queue: str) -> None:
        for message in self.queues.take(queue, 1):
            if message.dequeue_count > MAX_DEQUEUES:
                self.witness.gave_up(message.body)
                self.queues.give_up(queue, message)
                continue
            sent = func.QueueMessage(id=message.id, body=message.body, pop_receipt=message.pop_receipt)
            # The function for alerts is bound only where the environment names a receiver.
            handler = alerts if queue == ALERTS else functions()[_FUNCTIONS[queue]].get_user_function()

            def act(handler: Any = handler, sent: func.QueueMessage = sent) -> None:
                handler(sent)
                # Whoever dies here has done the work, and the message comes again.
                self.chaos.other("delete the message", lambda: None)

            def ended(task: Task, message: Any = message) -> None:
                if task.died:
                    self._announce(queue, LEASE_SECONDS)
                elif task.error is not None:
                    self._failed(task)
                    if message.dequeue_count >= MAX_DEQUEUES:
                        self.scheduler.note("a message failed too often")
                        self.witness.gave_up(message.body)
                        self.queues.give_up(queue, message)
                    else:
                        self.queues.show_again(message, RETRY_SECONDS)
                else:
                    super(FaultyQueues, self.queues).forget(message)

            self.scheduler.spawn(f"{_FUNCTIONS[queue]} {message.id[8:]}", self.worker(), act, ended)

    def _failed(self, task: Task) -> None:
        self.scheduler.note(f"{task.name} failed: {task.error!r}")
        if not isinstance(task.error, StoreUnavailableError | StaleRecordError):
            self.checks.violated(f"{task.name} raised {task.error!r}")

    def _tick(self) -> None:
        self.scheduler.after(SWEEP_SECONDS * self.workload.pace, self._tick)
        if self.sweeping:
            return
        self.sweeping = True
        handler = functions()["sweep"].get_user_function()
        request = TimerRequest(past_due=False)

        def ended(task: Task) -> None:
            self.sweeping = False
            if task.error is not None:
                self._failed(task)

        self.scheduler.spawn("sweep", self.worker(), lambda: handler(request), ended)

    def call(
        self, operation: str, route: Mapping[str, str], body: object, headers: Mapping[str, str], method: str = "POST"
    ) -> Answer | None:
        """Call the HTTP interface from within a task; None: no answer came."""
        rates = self.chaos.rates
        if self.chaos.strikes(rates.call_lost / 2):
            return None
        data = b"" if body is None else json.dumps(body).encode()
        request = func.HttpRequest(
            method, f"http://test/{operation}", headers=dict(headers), params={}, route_params=dict(route), body=data
        )
        handler = functions()[operation].get_user_function()
        caller = self.scheduler.current.name if self.scheduler.current else ""
        task = self.scheduler.spawn(f"{operation} of {caller}", self.worker(), lambda: handler(request))
        self.scheduler.join(task)
        if task.error is not None:
            raise task.error
        if task.died or self.chaos.strikes(rates.call_lost / 2):
            self.scheduler.note(f"{operation}: no answer")
            return None
        answer: func.HttpResponse = task.result
        if answer.status_code == 500:
            self.checks.violated(f"{operation} answered 500: {answer.get_body().decode()}")
        text = answer.get_body()
        return Answer(answer.status_code, json.loads(text) if text else None)

    # The cloud.

    def _last_of(self, request: LaunchRequest) -> str:
        """The end of the id of the newest instance that was launched with a request."""
        return next((one.instance_id[-4:] for one in reversed(self.checks.records) if one.request == request), "")

    def there(self) -> set[str]:
        return self.simulated.names if self.kind == "simulation" else set(self.machines.running)

    def _running(self) -> set[str]:
        return self.there() - self.neighbours.names

    def _launching(self) -> set[str]:
        return set() if self.kind == "simulation" else self.sky.live_launches()

    def _node_starts(self, name: str, environment: Mapping[str, str]) -> None:
        node = self.fleet.nodes[name] = Node(name, environment, self.chaos)
        found = self.table.load(node.instance_id)
        if found is not None and found.record.request.job is not None:
            node.job_seconds = self.random.uniform(30, 300)
        node.pace = self.workload.pace
        deletes = self.random.random() < 0.5
        node.begin(
            self._node_calls,
            lambda: self.sky.evict(name, delete=deletes),
            lambda: self.sky.ends_itself(name),
        )

    def _node_calls(self, operation: str, instance_id: str, token: str, body: object) -> int | None:
        headers = {"Authorization": f"Bearer {token}"}
        method = "GET" if operation == "node_assignment" else "POST"
        answer = self.call(operation, {"instanceId": instance_id}, body, headers, method)
        if answer is None or answer.status in (409, 503):
            return None
        if answer.status == 401 and self.chaos.rates.stale:
            return None  # a record as it was before knows nothing of the newest attempt
        if answer.status == 422 and operation == "node_assignment":
            return None
        if answer.status == 410:
            self._told_to_end(token)
            return 0
        if answer.status != 200:
            self.checks.violated(f"{operation} answered {answer.status} {answer.json}")
            return None
        if operation == "node_assignment" or answer.json["renewed"]:
            return 1
        self._told_to_end(token)
        return 0

    def _told_to_end(self, token: str) -> None:
        self.witness.node_told_to_end(next(name for name, one in self.fleet.nodes.items() if one.token == token))

    def _perhaps_restart(self) -> None:
        if self.chaos.strikes(self.chaos.rates.restart):
            self.sky.restart()
        if self.chaos.on:
            self.scheduler.after(60, self._perhaps_restart)


def play(seed: int, *, detailed: bool = False) -> Outcome:
    """Run one seed; `detailed`: every operation is written down as well."""
    state = global_random.getstate()
    try:
        simulator = Simulator(seed)
        simulator.scheduler.details = [] if detailed else None
        return simulator.run()
    finally:
        global_random.setstate(state)
