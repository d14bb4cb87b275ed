"""What runs on the machines: agents that call the program, or are asked by it, and their models."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from shared.domain.node import JobResult, NodeNotice, NodePhase, NodeStatus
from shared.domain.provider import NodeTarget, NodeUnreachableError, Probe
from tests.simulation.chaos import Chaos
from tests.simulation.scheduler import Process

Call = Callable[[str, str, str, object], "int | None"]
"""(operation, instance, token, body) → 1: renewed, 0: told to go, None: no answer."""

PORT = 8000
_PHASES = (NodePhase.INSTALLING, NodePhase.LOADING_MODEL, NodePhase.STARTING_SERVER)
LAST_PHASE = NodePhase.STARTING_SERVER
_FAILURES = ("install_failed", "model_fetch_failed", "server_failed", "port_taken", None)


class Breakable(Protocol):
    """A request that ends with its node."""

    def break_off(self) -> None: ...


@dataclass
class _Fate:
    """What becomes of a node, drawn when it starts; seconds since then."""

    silent: bool = False
    fails_at: NodePhase | None = None
    stuck_at: NodePhase | None = None
    dies_after: float | None = None
    evicted_after: float | None = None
    failure: str | None = None
    """What it fails with; None: with anything."""
    deaf: bool = False
    """It ends itself in no case."""
    stays: bool = False
    """It can't take its machine away."""


class Node:
    def __init__(self, name: str, environment: Mapping[str, str], chaos: Chaos) -> None:
        self.name = name
        self.instance_id = environment["GPULAUNCH_INSTANCE"]
        self.token = environment.get("GPULAUNCH_NODE_TOKEN", "")
        self.process = Process(f"node {name[-7:]}")
        self.status = NodeStatus(phase=NodePhase.INSTALLING)
        self.serving = False
        self.hiccup_until = 0.0
        self.heard = 0.0
        """When the control plane was heard of last; its lease is counted from then."""
        self.fate = _fate(chaos)
        self.busy = chaos.random.random() < 0.3
        self.job_seconds: float | None = None
        self.job_done_at: float | None = None
        self.result_told_at: float | None = None
        """When a call with the job's result was answered."""
        self.pace = 1.0
        """How much rarer than in life its heartbeats are."""
        self.under_way: dict[Breakable, None] = {}
        """Requests of gateways that it works on."""
        self.finished = 0
        self.used_since: datetime | None = None
        """Since when it is used by its own address, while it is busy."""
        self.troubled_at: datetime | None = None
        """When a caller last noticed something wrong with it."""
        self.failed_probes = 0
        self.noticed = False
        """It was told that its machine is about to be taken back."""
        self._lease = float(environment["GPULAUNCH_LEASE_SECONDS"])
        self._ends: Callable[[], None] = lambda: None
        self._chaos = chaos

    @property
    def alive(self) -> bool:
        return self.process.alive

    @property
    def failing(self) -> bool:
        """It reports that it does not serve."""
        return self.status.phase is NodePhase.FAILED

    def begin(self, call: Call, evict: Callable[[], None], ends: Callable[[], None]) -> None:
        """Start the agent, and what is to go wrong with it; `ends` takes the machine away."""
        scheduler, fate = self._chaos.scheduler, self.fate
        self._ends = ends
        scheduler.spawn(self.process.name, self.process, lambda: self._live(call))
        if fate.dies_after is not None:
            scheduler.after(fate.dies_after, self.die)
        if fate.evicted_after is not None:
            notice = self._chaos.random.random() < 0.6
            if notice:
                scheduler.after(max(0.0, fate.evicted_after - 30), lambda: self._notice(call))
            scheduler.after(fate.evicted_after, lambda: evict() if self._chaos.on else None)

    def die(self) -> None:
        self.serving = False
        for one in list(self.under_way):
            one.break_off()
        self._chaos.scheduler.kill(self.process)

    def _live(self, call: Call) -> None:
        scheduler, random = self._chaos.scheduler, self._chaos.random
        if self.fate.silent:
            return
        self.heard = scheduler.seconds

        def tell(operation: str, body: object) -> bool:
            answer = self._tell(call, operation, body)
            if answer is not None and self.token:
                self.heard = scheduler.seconds
            gone = answer == 0 or scheduler.seconds - self.heard > self._lease
            if gone and not self.fate.deaf:
                scheduler.note(f"ends itself: {'told to' if answer == 0 else 'its lease is lost'}")
                self.die()
                if not self.fate.stays:
                    self._ends()
                scheduler.pause(0)
            return answer == 1

        scheduler.pause(random.uniform(1, 10))
        tell("node_assignment", None)
        for phase in _PHASES:
            self.status = NodeStatus(phase=phase)
            if phase is self.fate.fails_at:
                failure = self.fate.failure or random.choice(_FAILURES)
                self.status = NodeStatus(phase=NodePhase.FAILED, failure=failure, detail="failed")
            tell("node_progress", self.status.model_dump(mode="json"))
            left = random.uniform(5, 40)
            while left > 0 or phase in (self.fate.stuck_at, self.fate.fails_at):
                scheduler.pause(10)
                left -= 10
                self.status = self.status.model_copy(update={"fetched_bytes": int(scheduler.seconds)})
                tell("node_progress", self.status.model_dump(mode="json"))
        self.status = NodeStatus(phase=NodePhase.SERVING, port=PORT)
        self.serving = True
        while not tell("node_register", {"port": PORT}):
            scheduler.pause(5)
        began = scheduler.seconds
        while True:
            scheduler.pause(random.uniform(20, 60) * self.pace)
            if self._chaos.strikes(self._chaos.rates.node_hiccups / 20):
                self.hiccup_until = scheduler.seconds + random.uniform(10, 120)
            tell("node_heartbeat", {"running_requests": 0, "waiting_requests": 0})
            if self.job_seconds is not None and scheduler.seconds - began > self.job_seconds:
                if self.job_done_at is None:
                    self.job_done_at = scheduler.seconds
                self.status = self.status.model_copy(update={"job": JobResult(exit_code=0)})
                tell("node_complete", {"exit_code": 0})

    def _tell(self, call: Call, operation: str, body: object) -> int | None:
        """One call; sometimes it comes a second time, later and out of order, whatever becomes of the node."""
        if not self.token:
            return 1
        chaos = self._chaos
        if chaos.strikes(chaos.rates.call_doubled):
            delay = chaos.random.uniform(0, 1 if chaos.random.random() < 0.5 else 300)
            network = Process("network")
            act = lambda: call(operation, self.instance_id, self.token, body)  # noqa: E731
            chaos.scheduler.spawn(f"late {operation}", network, act, delay=delay)
        answer = call(operation, self.instance_id, self.token, body)
        if operation == "node_complete" and answer is not None and self.result_told_at is None:
            self.result_told_at = chaos.scheduler.seconds
        return answer

    def _notice(self, call: Call) -> None:
        if not self.alive or not self._chaos.on:
            return
        self.noticed = True
        self.status = self.status.model_copy(update={"notice": NodeNotice.EVICTION})
        if self.token:
            body = {"notice": "eviction", "seconds_left": 30}
            act = lambda: call("node_notice", self.instance_id, self.token, body)  # noqa: E731
            self._chaos.scheduler.spawn(f"notice {self.name[-7:]}", self.process, act)


def _fate(chaos: Chaos) -> _Fate:
    rates, random = chaos.rates, chaos.random
    return _Fate(
        silent=chaos.strikes(rates.node_silent),
        fails_at=random.choice(_PHASES) if chaos.strikes(rates.node_fails) else None,
        stuck_at=random.choice(_PHASES) if chaos.strikes(rates.node_stuck) else None,
        dies_after=random.uniform(0, 600) if chaos.strikes(rates.node_dies) else None,
        evicted_after=random.uniform(0, random.choice((200, 600))) if chaos.strikes(rates.evicted) else None,
        deaf=random.random() < 0.2,
        stays=random.random() < 0.5,
    )


class Fleet:
    """All nodes; also the Nodes that the program asks."""

    def __init__(self, chaos: Chaos) -> None:
        self.nodes: dict[str, Node] = {}
        self._chaos = chaos

    def gone(self, name: str) -> None:
        node = self.nodes.get(name)
        if node is not None:
            node.die()

    def status(self, target: NodeTarget) -> NodeStatus:
        found = self._chaos.other(f"ask {target.cluster_name[-7:]}", lambda: self._ask(target.cluster_name))
        if found is None:
            raise NodeUnreachableError("the agent does not answer")
        return found

    def statuses(self, targets: Sequence[NodeTarget]) -> dict[str, NodeStatus]:
        def effect() -> dict[str, NodeStatus]:
            found = {target.cluster_name: self._ask(target.cluster_name) for target in targets}
            return {name: status for name, status in found.items() if status is not None}

        return self._chaos.other("ask all", effect)

    def probe(self, targets: Sequence[NodeTarget]) -> dict[str, Probe]:
        def effect() -> dict[str, Probe]:
            return {target.cluster_name: self._probe_one(target.cluster_name) for target in targets}

        return self._chaos.other("probe", effect)

    def _ask(self, name: str) -> NodeStatus | None:
        node = self.nodes.get(name)
        if node is None or not node.alive or node.fate.silent or self._chaos.strikes(self._chaos.rates.call_lost):
            return None
        node.heard = self._chaos.scheduler.seconds
        return node.status

    def _probe_one(self, name: str) -> Probe:
        found = self._probe_of(name)
        node = self.nodes.get(name)
        if node is not None and not found.alive:
            node.failed_probes += 1
        return found

    def _probe_of(self, name: str) -> Probe:
        node = self.nodes.get(name)
        now = self._chaos.scheduler.seconds
        lost = self._chaos.strikes(self._chaos.rates.call_lost)
        if node is None or not node.alive or not node.serving or lost or now < node.hiccup_until:
            return Probe(alive=False, message="no answer in time")
        running, finished = float(node.busy + len(node.under_way)), 1.0 + node.finished
        return Probe(alive=True, running_requests=running, waiting_requests=0.0, finished_requests=finished)
