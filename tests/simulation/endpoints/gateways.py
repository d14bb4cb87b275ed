"""Gateways in simulated time: the real one's code, on a loop of its own, with the table and the nodes of the world."""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from random import Random
from typing import TYPE_CHECKING, Any, TypeVar
from unittest.mock import patch

from azure.core.exceptions import ServiceRequestError

from gateway import report as gateway_report
from gateway import table as gateway_table
from gateway.app import Gateway
from gateway.report import Reports, row_of
from gateway.snapshot import Snapshot, Unseal, snapshot_of
from gateway.table import poll
from gpulaunch.models.gateways import GATEWAY_AREA, GatewayReport
from tests.simulation.endpoints.loop import SimulatedLoop
from tests.simulation.endpoints.serving import Serving, SimulatedUpstream
from tests.simulation.oracles import endpoint_facts as facts
from tests.simulation.scheduler import Process

if TYPE_CHECKING:
    from tests.simulation.endpoints.world import EndpointWorld

T = TypeVar("T")

POLLS = (2.0, 5.0, 10.0)
"""Seconds between two readings of the table, drawn by seed: the fewer there are, the less a seed costs."""
CALM_POLL = 10.0
"""Once nothing goes wrong any more."""
EVERY = 60.0
RESTART_SECONDS = 90.0
"""After which another gateway has taken a dead one's place, at most."""
LONGEST_AWAY = 400.0
_SILENT = 15.0
"""For which a table that is away may let a reader wait before it refuses."""


class GatewayProcess:
    """One process, from its start to its end."""

    def __init__(self, world: "EndpointWorld", name: str) -> None:
        self.name = name
        self.serving: dict[Serving, None] = {}
        """Its requests that are on a node, or on their way there."""
        scheduler = world.simulator.scheduler
        self.process = Process(name)
        self.process.on_end = self._died
        self._world = world
        self.loop = SimulatedLoop(scheduler, self.process, self._failed)
        self.gateway = Gateway(SimulatedUpstream(world, self), self.loop.time, now=self._now)
        self.reports = Reports(self.gateway, name, _Row(world, name), now=self._now)
        self.is_ending = False
        self.fact = facts.Gateway(
            name=name,
            began=scheduler.now(),
            counted_broken=lambda: sum(self.gateway.counts.broken_streams.values()),
            in_flight=self.gateway.balancer.by_instance,
            held=lambda: sum(self.gateway.room.held(one) for one in world.names),
        )
        self._polling = self.loop.create_task(poll(self.gateway, self._read, world.unseal, self.reports))
        self._polling.add_done_callback(self._stopped)

    def nodes(self) -> Counter[str]:
        """Requests under way, by instance."""
        return Counter(one.instance_id for one in self.serving)

    def begin(self, scope: Mapping[str, Any], receive: Any, send: Any) -> "asyncio.Task[None]":
        return self.loop.create_task(self.gateway(scope, receive, send))

    def kill(self) -> None:
        self._world.simulator.scheduler.note(f"{self.name} is killed")
        self._world.simulator.scheduler.kill(self.process)

    def end(self) -> None:
        """Finish what is under way, and nothing new, as at SIGTERM."""
        self.is_ending = True
        self._world.simulator.scheduler.note(f"{self.name} is asked to end")
        self.loop.create_task(self._end())

    async def _end(self) -> None:
        while any(one.gateway == self.name for one in self._world.service.requests.values()):
            await asyncio.sleep(1)
        self._polling.cancel()
        await asyncio.gather(self._polling, return_exceptions=True)
        await self.reports.end()
        self._world.simulator.scheduler.note(f"{self.name} has ended")
        self._world.simulator.scheduler.kill(self.process)

    def _died(self) -> None:
        self.loop.kill()
        for one in list(self.serving):
            one.release()
        self._world.gateways.died(self)

    def _stopped(self, polling: "asyncio.Task[None]") -> None:
        if not polling.cancelled() and (error := polling.exception()) is not None:
            self._failed(f"reads no more: {error!r}")

    def _failed(self, what: str) -> None:
        self._world.violated(f"{self.name}: {what}")

    def _now(self) -> datetime:
        return self._world.simulator.clocks.now_of(self.name)

    def _read(self) -> Iterable[Mapping[str, Any]]:
        world, began = self._world, self._world.now()
        rows = world.gateways.request(self, "read endpoints", world.store.rows)
        return _Reading(self.fact, began, rows)


class _Reading(list[Mapping[str, Any]]):
    """Rows as a gateway read them, and when; one that is left behind is never used."""

    def __init__(self, gateway: facts.Gateway, began: datetime, rows: Sequence[tuple[str, Mapping[str, Any]]]) -> None:
        super().__init__(row for _, row in rows)
        self.etags = tuple(etag for etag, _ in rows)
        self.gateway = gateway
        self.began = began


class _Row:
    """A gateway's row, in a table of its own."""

    def __init__(self, world: "EndpointWorld", gateway_id: str) -> None:
        self._world = world
        self._key = f"{GATEWAY_AREA}|{gateway_id}"
        self._gateway_id = gateway_id
        self._writes = 0

    def write(self, report: GatewayReport) -> None:
        def effect() -> None:
            self._writes += 1
            row = {name: str(one) for name, one in row_of("", report).items()}
            self._world.store.table.rows[self._key] = (f'W/"{self._gateway_id} {self._writes}"', row)

        self._world.gateways.request(self._own(), "write its report", effect)

    def remove(self) -> None:
        rows = self._world.store.table.rows
        self._world.gateways.request(self._own(), "remove its report", lambda: rows.pop(self._key, None))

    def _own(self) -> GatewayProcess:
        return self._world.gateways.by_name[self._gateway_id]


@dataclass
class _Away:
    until: float = 0.0
    whose: str = ""
    """The name of a gateway; empty: everybody's."""


class Gateways:
    """All gateways: one or two at a time, each of them replaced when it has died."""

    def __init__(self, world: "EndpointWorld") -> None:
        self.by_name: dict[str, GatewayProcess] = {}
        self._world = world
        self._chaos = world.simulator.chaos
        self._random = Random(f"gateways {world.simulator.seed}")
        self._away = _Away()
        self._started = 0
        self._poll = self._random.choice(POLLS)
        self._snapshots: dict[tuple[str, ...], Snapshot] = {}
        self._patches = ExitStack()

    @property
    def alive(self) -> list[GatewayProcess]:
        """Those that take requests."""
        return [one for one in self.by_name.values() if one.process.alive and not one.is_ending]

    def open(self) -> None:
        for change in (
            patch.object(gateway_table, "within", self._within),
            patch.object(gateway_report, "within", self._within),
            patch.object(gateway_table, "snapshot_of", self._snapshot),
            patch.object(gateway_table, "EVERY_SECONDS", self._poll),
        ):
            self._patches.enter_context(change)
        for _ in range(self._random.choice((1, 2, 2))):
            self._start()
        scheduler = self._world.simulator.scheduler
        scheduler.after(EVERY, self._perhaps)
        scheduler.after(self._chaos.until + EVERY, self._relax)

    def close(self) -> None:
        for one in self.by_name.values():
            one.loop.kill()
        self._patches.close()

    def died(self, gateway: GatewayProcess) -> None:
        self._world.gateway_died(gateway)
        if not self._world.simulator.scheduler.stopped:
            self._world.simulator.scheduler.after(self._random.uniform(1, RESTART_SECONDS), self._start)

    def request(self, gateway: GatewayProcess, what: str, effect: Callable[[], T]) -> T:
        """One request of a gateway to its table."""
        scheduler = self._world.simulator.scheduler
        if scheduler.seconds < self._away.until and self._away.whose in ("", gateway.name):
            scheduler.pause(self._random.uniform(0, _SILENT))
            raise ServiceRequestError("the table cannot be reached")
        return self._chaos.wire(f"{gateway.name}: {what}", effect)

    def _start(self) -> None:
        self._started += 1
        name = f"gateway {self._started}"
        made = self.by_name[name] = GatewayProcess(self._world, name)
        self._world.simulator.scheduler.note(f"{name} starts")
        self._world.service.gateways.append(made.fact)

    def _perhaps(self) -> None:
        chaos, scheduler = self._chaos, self._world.simulator.scheduler
        if not chaos.on:
            return
        scheduler.after(EVERY, self._perhaps)
        for rate, act in ((chaos.rates.gateway_dies, "kill"), (chaos.rates.gateway_ends, "end")):
            if self.alive and self._random.random() < rate:
                chosen = self._random.choice(self.alive)
                scheduler.after(self._random.uniform(0, EVERY), lambda one=chosen, act=act: _do(one, act))
        if self._random.random() < chaos.rates.table_away and scheduler.seconds > self._away.until:
            seconds = self._random.uniform(20, LONGEST_AWAY)
            whose = self._random.choice(["", *(one.name for one in self.alive)])
            self._away = _Away(min(scheduler.seconds + seconds, chaos.until), whose)
            scheduler.note(f"the table is away from {whose or 'all gateways'} for {seconds:.0f} s")

    def _relax(self) -> None:
        self._patches.enter_context(patch.object(gateway_table, "EVERY_SECONDS", CALM_POLL))

    def _within(self, seconds: float, work: Callable[[], T]) -> T:
        """As `deadlines.within`: what lasts longer is left behind, and goes on."""
        scheduler = self._world.simulator.scheduler
        assert scheduler.current is not None
        if not self._chaos.on:
            return work()
        process = scheduler.current.process
        task = scheduler.spawn(f"{process.name} call", process, work)
        if not scheduler.join_within(task, seconds):
            scheduler.note("is left behind: no answer in time")
            raise TimeoutError
        if task.error is not None:
            raise task.error
        return task.result

    def _snapshot(self, rows: _Reading, unseal: Unseal, now: datetime) -> Snapshot:
        """The real one, once for each state of the rows."""
        rows.gateway.read_began, rows.gateway.read_at = rows.began, self._world.now()
        if rows.etags not in self._snapshots:
            self._snapshots[rows.etags] = snapshot_of(rows, unseal, now)
        return self._snapshots[rows.etags]


def _do(gateway: GatewayProcess, act: str) -> None:
    if gateway.process.alive and not gateway.is_ending:
        getattr(gateway, act)()
