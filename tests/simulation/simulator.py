"""The whole program under one seed: the real functions, a host, users, nodes and a cloud, on a simulated clock."""

import json
import logging
import random as global_random
from collections.abc import Callable, Iterable, Mapping, Sequence
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

from gpulaunch.models.instances import Mode, Phase
from gpulaunch.models.requests import LaunchRequest
from shared import app as runtime
from shared.adapters import Adapters, with_user
from shared.app import admission_rules, compose
from shared.auth import Deriver
from shared.backends.base import Backend
from shared.backends.simulation.cloud import SimulatedNode
from shared.backends.simulation.faults import check_fault_labels
from shared.backends.simulation.provider import SimulatedNodes, SimulationProvider
from shared.backends.skypilot import provider as skypilot
from shared.billing.budget import Running, over_budget
from shared.catalog.snapshot import snapshot
from shared.clouds.azure import compute as azure_compute
from shared.control import quota_check as quotas
from shared.control.offer_memory import REFUSED_SECONDS
from shared.control.sweep.probes import SLICE
from shared.domain.costs import micro_so_far
from shared.domain.instance import InstanceRecord
from shared.errors import StaleRecordError, StoreUnavailableError
from shared.lifecycle.timeouts import Timeouts
from shared.model_sources.assignment import AssignmentMaker
from shared.model_sources.base import ModelListing
from shared.queues import LAUNCHES, PROBES, TEARDOWNS
from shared.redaction import Redactor
from shared.settings import Settings
from tests.functional.world import ADMIN, MASTER, SWEEP_SECONDS, functions, settings
from tests.simulation.azure import AtOnce, AzureOfProcesses, FaultyAzure
from tests.simulation.chaos import Chaos, Rates, draw
from tests.simulation.checks import COLLECTED_AFTER, DELETED_AFTER, LATE, Checks
from tests.simulation.cloud import FaultyProvider, Machines, SkyServer
from tests.simulation.neighbours import CONFIRMED_EVERY, Neighbours, operate
from tests.simulation.nodes import Fleet, Node
from tests.simulation.reached import reached
from tests.simulation.scheduler import Process, Scheduler, Task
from tests.simulation.storage import FaultyQueues, FaultyStore, KeptByProcess, Table
from tests.simulation.users import User
from tests.twins.factories import DEPLOYMENT
from tests.twins.queues import LEASE_SECONDS
from tests.twins.simulated_cloud import MemorySimulatedCloud

CALM = 5400.0
"""Seconds in which everything comes to its end once nothing goes wrong any more: one attempt that hangs in each of its
phases until it is given up, and another one."""
RETRY_SECONDS = 5.0
MAX_DEQUEUES = 5
WORKERS = 2
LIMITS = Timeouts(
    provisioning=240, installing=240, loading_model=300, starting_server=240, registering=120, release_alert=150
)
"""Shorter phases than in life, so that a hanging node costs a simulated run minutes."""
_FUNCTIONS = {LAUNCHES: "provisioning", TEARDOWNS: "teardown", PROBES: "health"}


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
        self._chaos.storage(f"remove node {cluster_name[-7:]}", lambda: act(cluster_name))

    def nodes(self, first: str | None = None, last: str | None = None) -> list[SimulatedNode]:
        act = super().nodes
        return self._chaos.storage("list nodes", lambda: act(first, last))


@cache
def _settings(kind: str, money: tuple[tuple[str, str], ...], lease: str) -> Settings:
    given = dict(money)
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
        self.scheduler = Scheduler(self.random)
        self.kind = self.random.choice(("push", "push", "pull", "pull", "simulation"))
        asks_azure = self.kind != "simulation" and self.random.random() < 0.5
        rates = draw(self.random, azure=asks_azure)
        self.chaos = Chaos(self.scheduler, rates, self.random.choice((200.0, 500.0, 900.0, 1500.0)))
        self.money = _money(self.random)
        self.lease = self.random.choice(("180", "900"))
        self.given = _settings(self.kind, self.money, self.lease)
        self.machines = Machines()
        self.azure = self._faulty_azure() if asks_azure else None
        self.table = Table()
        self.checks = Checks(self.scheduler, lambda: self.table, self._running, self._launching, self.azure)
        self.checks.over_budget = self._beyond_cap
        self.store: Any = FaultyStore(self.chaos, self.table, self.checks)
        self.queues = FaultyQueues(self.chaos, self.checks, self._announce)
        self.fleet = Fleet(self.chaos)
        self.simulated = _SimulatedCloud(self.chaos, self.checks)
        self.sky = SkyServer(
            self.chaos, self.machines, self.checks, self._node_starts, self.fleet.gone, azure=self.azure
        )
        self.neighbours = Neighbours(seed)
        self.neighbours.move_in(self)
        self.deriver = Deriver(MASTER)
        self.probe_slice = self.random.choice((1, SLICE))
        self.adapters = self._adapters()
        self.workers = [Process(f"worker {number}") for number in range(WORKERS)]
        self.sweeping = False
        self.users: list[User] = []

    def _faulty_azure(self) -> FaultyAzure:
        def deleted(name: str) -> None:
            if self.machines.running.pop(name, None) is not None:
                self.fleet.gone(name)

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
            ),
            # With slices of one the probes of all but the oldest instance go through their queue.
            probe_slice=self.probe_slice,
            clouds={}
            if self.azure is None
            else {"azure": AzureOfProcesses(self.chaos, self.azure, self.given.skypilot_user_id)},
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
        for number in range(self.random.randint(2, 5)):
            user = User(self, number)
            self.users.append(user)
            self.scheduler.spawn(user.name, Process(user.name), user.live)
        self.scheduler.after(self.random.uniform(0, SWEEP_SECONDS), self._tick)
        if self.given.budget_action == "end" and self.random.random() < 0.5:
            self.scheduler.after(self.random.uniform(100, self.chaos.until), self._lower_budget)
        if self.chaos.rates.restart:
            self.scheduler.after(60, self._perhaps_restart)
        self.scheduler.after(CONFIRMED_EVERY, lambda: operate(self))
        self.scheduler.run(self.chaos.until)
        self.scheduler.note("nothing goes wrong any more")
        end = self.chaos.until + CALM
        collected = COLLECTED_AFTER if self.azure is None else COLLECTED_AFTER + DELETED_AFTER
        self.scheduler.run(self.chaos.until + collected, self._quiet)
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
            self.scheduler.seconds + 1800, lambda: self.checks.settled() and all(r.ended for r in self.checks.records)
        )
        if not self.scheduler.stopped:
            self.checks.at_rest(all_ended=True)
        for name in sorted(self.neighbours.lost(self._there())):
            self.checks.violated(f"{name} is another deployment's and was deleted")

    def _lower_budget(self) -> None:
        """The operator wants to spend less than is spent already, and restarts the app."""
        self.scheduler.note("the month's budget is lowered")
        money = {**dict(self.money), "GPULAUNCH_MONTHLY_BUDGET_USD": "0.01"}
        self.given = _settings(self.kind, tuple(money.items()), self.lease)
        self.adapters = replace(self.adapters, settings=self.given)
        runtime.use(compose(self.adapters))

    def _beyond_cap(self, records: Sequence[InstanceRecord]) -> Iterable[str]:
        """Ready instances that the month's budget does not allow any more, for some minutes."""
        then = self.scheduler.now() - LATE
        running = [
            Running(instance_id=one.instance_id, held=one.reservation, accrued=micro_so_far(one, then))
            for one in records
            if one.reservation is not None and one.phase is Phase.READY
        ]
        return over_budget(self.table.ledger().ledger, running, admission_rules(self.given).budgets)

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
                self.queues.give_up(queue, message)
                continue
            sent = func.QueueMessage(id=message.id, body=message.body, pop_receipt=message.pop_receipt)
            handler = functions()[_FUNCTIONS[queue]].get_user_function()

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
        self.scheduler.after(SWEEP_SECONDS, self._tick)
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

    def _there(self) -> set[str]:
        return self.simulated.names if self.kind == "simulation" else set(self.machines.running)

    def _running(self) -> set[str]:
        return self._there() - self.neighbours.names

    def _launching(self) -> set[str]:
        return set() if self.kind == "simulation" else self.sky.live_launches()

    def _node_starts(self, name: str, environment: Mapping[str, str]) -> None:
        node = self.fleet.nodes[name] = Node(name, environment, self.chaos)
        found = self.table.load(node.instance_id)
        if found is not None and found.record.request.job is not None:
            node.job_seconds = self.random.uniform(30, 300)
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
            return 0
        if answer.status != 200:
            self.checks.violated(f"{operation} answered {answer.status} {answer.json}")
            return None
        return 1 if operation == "node_assignment" or answer.json["renewed"] else 0

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
