"""The whole program under one seed: the real functions, a host, users, nodes and a cloud, on a simulated clock."""

import logging
import random as global_random
from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from datetime import datetime
from random import Random
from typing import Any
from unittest.mock import patch

from gpulaunch.models.requests import LaunchRequest
from shared import app as runtime
from shared.app import compose
from shared.auth import Deriver
from shared.clouds.azure import compute as azure_compute
from shared.control import quota_check as quotas
from shared.webhooks import delivery
from tests.functional.world import MASTER, SWEEP_SECONDS
from tests.simulation.adapters import FaultySimulatedCloud, draw_money, settings_of
from tests.simulation.assembly import adapters_of
from tests.simulation.azure import AtOnce, FaultyAzure
from tests.simulation.bad_items import BadItems
from tests.simulation.books import LostBooks
from tests.simulation.chaos import Chaos, Rates, draw, draw_apart
from tests.simulation.checks import COLLECTED_AFTER, DELETED_AFTER, Checks
from tests.simulation.clocks import Clocks
from tests.simulation.cloud import Machines, SkyServer
from tests.simulation.endpoints.world import EndpointWorld
from tests.simulation.host import Errors, Host
from tests.simulation.neighbours import CONFIRMED_EVERY, Neighbours, operate
from tests.simulation.nodes import Fleet, Node
from tests.simulation.reached import reached
from tests.simulation.restored import RestoredTable
from tests.simulation.scheduler import Process, Scheduler
from tests.simulation.storage import FaultyQueues, FaultyStore, Table, Truth
from tests.simulation.unreadable import UnreadableRows
from tests.simulation.users import User
from tests.simulation.versions import Versions
from tests.simulation.wire import HostQueues, Wire
from tests.simulation.witness import LOOK_SECONDS, PATIENCE, Receiver, witness_of
from tests.simulation.workload import endpoints_of, money_of, rates_of, workload_of
from tests.standins.storage.tables import PAGE
from tests.standins.storage.transport import unpacked_batches

CALM = 5400.0
"""Seconds in which everything comes to its end once nothing goes wrong any more: one attempt that hangs in each of its
phases until it is given up, and another one."""
SLICE = 200
"""Nodes probed at once: more than there are."""


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


class Simulator:
    def __init__(self, seed: int, without: Iterable[str] = (), *, endpoints: bool = False) -> None:
        self.random = Random(f"endpoints {seed}" if endpoints else seed)
        # tenacity waits for times that it draws itself
        global_random.seed(seed)
        self.seed = seed
        self.workload = endpoints_of(seed) if endpoints else workload_of(seed)
        self.scheduler = Scheduler(self.random, self.workload.start)
        self.kind = self.random.choice(("push", "push", "pull", "pull", *(() if endpoints else ("simulation",))))
        asks_azure = self.kind != "simulation" and self.random.random() < 0.5
        rates = rates_of(seed, self.workload, draw(self.random, azure=asks_azure))
        rates = replace(rates, **(draw_apart(seed, endpoints=endpoints) | dict.fromkeys(without, 0.0)))
        until = self.random.choice((200.0, 500.0, 900.0, 1500.0))
        self.chaos = Chaos(self.scheduler, rates, self.workload.faults or until)
        self.money = money_of(seed, self.workload, draw_money(self.random))
        lease = self.random.choice(("180", "900"))
        self.lease = self.workload.lease or lease
        self.given = settings_of(self.kind, self.money, self.lease)
        self.clocks = Clocks(self.chaos, seed)
        self.machines = Machines()
        self.azure = self._faulty_azure() if asks_azure else None
        self.table = Table()
        self.checks = Checks(self.scheduler, lambda: self.truth, self.running, self._launching, self.azure)
        self.host = Host(self)
        self.store: Any
        self.queues: FaultyQueues | HostQueues
        self.versions = Versions(self.chaos, lambda: self.table, self.checks.violated)
        self.on_wire = rates.wire > 0
        if self.on_wire:
            page = Random(f"pages {seed}").choice((2, PAGE, PAGE))
            wire = Wire(self.chaos, self.checks, self.host.announce, self.versions, page)
            self.table, self.store, self.queues = wire.table, wire.store, wire.queues
        else:
            self.store = FaultyStore(self.chaos, self.table, self.checks, self.versions.written)
            self.queues = FaultyQueues(self.chaos, self.checks, self.host.announce, self.versions.sent)
        self.truth = Truth(self.table)
        self.fleet = Fleet(self.chaos)
        self.simulated = FaultySimulatedCloud(self.chaos, self.checks)
        self.sky = SkyServer(
            self.chaos, self.machines, self.checks, self._node_starts, self._machine_ended, azure=self.azure
        )
        self.neighbours = Neighbours(seed)
        self.neighbours.move_in(self)
        self.deriver = Deriver(MASTER)
        self.probe_slice = self.random.choice((1, SLICE))
        self.endpoints = EndpointWorld(self) if endpoints else None
        self.adapters = adapters_of(self)
        self.restored = RestoredTable(self)
        self.lost_books = LostBooks(self)
        self.bad_items = BadItems(self)
        self.unreadable_rows = UnreadableRows(self)
        self.witness = self.checks.witness = witness_of(self)
        self.users: list[User] = []

    def _faulty_azure(self) -> FaultyAzure:
        def deleted(name: str) -> None:
            if self.machines.running.pop(name, None) is not None:
                self._machine_ended(name)

        shared = self.random.random() < 0.3
        return FaultyAzure(self.chaos, self.given.skypilot_user_id, deleted, shared=shared)

    def run(self) -> Outcome:
        runtime.use(self.bad_items.around(compose(self.adapters)))
        logging.disable(logging.WARNING)
        listener = Errors(self.scheduler)
        log = logging.getLogger("gpulaunch")
        log.addHandler(listener)
        log.propagate, propagated = False, log.propagate
        try:
            with (
                patch.object(azure_compute, "ThreadPoolExecutor", AtOnce),
                patch.object(quotas, "ThreadPoolExecutor", AtOnce),
                patch.object(delivery, "_post", Receiver(self)),
                unpacked_batches() if self.on_wire else nullcontext(),
                self.bad_items.in_probes(),
            ):
                self._play()
        finally:
            if self.endpoints is not None:
                self.endpoints.close()
            self.scheduler.close()
            log.propagate = propagated
            log.removeHandler(listener)
            logging.disable(logging.NOTSET)
            runtime.use(None)
        records = self.checks.records
        phases = [record.phase.value for record in records]
        kind = self.kind if self.azure is None else f"{self.kind} with Azure"
        kind = f"{kind}, on the wire" if self.on_wire else kind
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
        for number in range(few if self.workload.users is None else self.workload.users):
            user = User(self, number)
            self.users.append(user)
            self.scheduler.spawn(user.name, Process(user.name), user.live)
        if self.endpoints is not None:
            self.endpoints.open()
        first = self.random.uniform(0, SWEEP_SECONDS)
        self.scheduler.after(first if self.workload.name != "weeks" else 1.0, self.host.tick)
        if self.given.budget_action == "end" and self.random.random() < 0.5:
            self.scheduler.after(self.random.uniform(100, self.chaos.until), self._lower_budget)
        if self.chaos.rates.restart:
            self.scheduler.after(60, self._perhaps_restart)
        if self.chaos.rates.busy:
            self.scheduler.after(60, self.host.perhaps_busy)
        self.scheduler.after(LOOK_SECONDS, self._look)
        if not self.chaos.rates.table_restored:
            self.scheduler.after(CONFIRMED_EVERY, lambda: operate(self))
        self.scheduler.run(self.chaos.until)
        self.scheduler.note("nothing goes wrong any more")
        if self.workload.length:
            self.scheduler.run(self.workload.length)
        end = self.scheduler.seconds + CALM
        collected = COLLECTED_AFTER if self.azure is None else COLLECTED_AFTER + DELETED_AFTER
        self.scheduler.run(self.scheduler.seconds + collected, self._quiet)
        if self.restored.done:
            self.restored.judge()
            return
        self.checks.garbage_is_gone(self.chaos.until)
        self.scheduler.run(end, self._quiet)
        # What hung at the end of the faults is given time to be noticed: a dead node, a late message, a lie.
        self.scheduler.run(self.scheduler.seconds + 240)
        self.scheduler.run(end + 240, self._settled)
        if self.scheduler.stopped:
            return
        self.checks.at_rest(all_ended=False)
        for user in self.users:
            self.scheduler.spawn(f"{user.name} leaves", Process(user.name), user.leave)
        if self.endpoints is not None:
            self.endpoints.leave()
        self.scheduler.run(
            self.scheduler.seconds + 1800 * self.workload.pace,
            lambda: self._settled() and all(r.ended for r in self.checks.records),
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
        self.given = settings_of(self.kind, tuple(money.items()), self.lease)
        self.witness.world.terms = replace(self.witness.world.terms, monthly_budget_usd=0.01)
        self.adapters = replace(self.adapters, settings=self.given)
        self.host.restart()
        self.chaos.restarted_at = self.scheduler.now()
        runtime.use(self.bad_items.around(compose(self.adapters)))

    def _quiet(self) -> bool:
        return all(user.done for user in self.users) and self._settled()

    def _settled(self) -> bool:
        return self.checks.settled() and (self.endpoints is None or self.endpoints.settled())

    # The cloud.

    def last_of(self, request: LaunchRequest) -> str:
        """The end of the id of the newest instance that was launched with a request."""
        return next((one.instance_id[-4:] for one in reversed(self.checks.records) if one.request == request), "")

    def there(self) -> set[str]:
        return self.simulated.names if self.kind == "simulation" else set(self.machines.running)

    def discarded(self, name: str) -> None:
        """The garbage collection deletes a node."""
        self.checks.discarded(name)
        self.restored.discarded(name)

    def running(self) -> set[str]:
        return self.there() - self.neighbours.names

    def _launching(self) -> set[str]:
        return set() if self.kind == "simulation" else self.sky.live_launches()

    def _node_starts(self, name: str, environment: Mapping[str, str]) -> None:
        node = self.fleet.nodes[name] = Node(name, environment, self.chaos)
        found = self.truth.load(node.instance_id)
        if found is not None and found.record.request.job is not None:
            node.job_seconds = self.random.uniform(30, 300)
        node.pace = self.workload.pace
        if self.endpoints is not None:
            self.endpoints.node_starts(node)
        deletes = self.random.random() < 0.5
        node.begin(
            self.host.node_call,
            lambda: self.sky.evict(name, delete=deletes),
            lambda: self.sky.ends_itself(name),
        )

    def _perhaps_restart(self) -> None:
        if self.chaos.strikes(self.chaos.rates.restart):
            self.sky.restart()
        if self.chaos.on:
            self.scheduler.after(60, self._perhaps_restart)


def play(seed: int, *, detailed: bool = False, without: Iterable[str] = (), endpoints: bool = False) -> Outcome:
    """Run one seed; `detailed`: every operation is written down as well; `without`: rates that are zero instead.

    Seeds with endpoints are others than those of the same number without.
    """
    state = global_random.getstate()
    try:
        simulator = Simulator(seed, without, endpoints=endpoints)
        simulator.scheduler.details = [] if detailed else None
        return simulator.run()
    finally:
        global_random.setstate(state)
