"""Requests, one queue, nodes that take minutes to start, and a scaler that decides how many there are. Deterministic.

The queue and its dispatching are the same for all scalers: a request goes to the ready node with the fewest requests,
never beyond its slots, and is held while there is none. A node costs from the decision to start it until it has ended.
"""

import heapq
import math
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum

from bench.scaler.nodes import SLOTS, TARGET, Node
from bench.scaler.policies import MOST_NODES, Policy
from bench.scaler.traces import Trace

TAIL_SECONDS = 1800.0
"""After the last request, so that giving up nodes is paid for as well."""
SAMPLE_SECONDS, SAMPLES = 5.0, 12
"""The mean of what runs is that of a minute's samples."""
SAMPLED_FIRST = 1.0
LATEST_SERVICE = 0.02
"""Weight of the latest request in the expected service time."""


class _Event(Enum):
    LOOK = "look"
    NUDGE = "nudge"
    SAMPLE = "sample"
    READY = "ready"
    END = "end"


@dataclass(frozen=True, kw_only=True)
class Outcome:
    waits: list[float]
    """Seconds of each request, in the order of the trace, until a node took it or all was over."""
    served: list[int]
    """How often each request was given to a node."""
    node_hours: float
    starts: int
    nodes: list[tuple[float, int]]
    """(seconds, nodes paid for), whenever it changes."""

    def percentile(self, of_100: float) -> float:
        """Seconds that so many of 100 requests waited at most, interpolated between neighbours."""
        ordered = sorted(self.waits)
        place = (len(ordered) - 1) * of_100 / 100
        low = math.floor(place)
        high = min(low + 1, len(ordered) - 1)
        return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def simulate(trace: Trace, policy: Policy, start_seconds: Iterator[float], least: int = 0) -> Outcome:
    """Serve the whole trace, and wait for half an hour after it. `least`: nodes that there are always."""
    return _Simulation(trace, policy, start_seconds, least).run()


class _Simulation:
    """What happens, in order of time; its public properties are what a policy sees of it."""

    def __init__(self, trace: Trace, policy: Policy, start_seconds: Iterator[float], least: int) -> None:
        self._trace, self._policy, self._start_seconds, self._least = trace, policy, start_seconds, least
        self.now = 0.0
        self.running = 0
        self.service_seconds: float | None = None
        self._events: list[tuple[float, int, _Event, Node | None, int]] = []
        self._scheduled = 0
        self._arrived = 0
        self._nodes: list[Node] = []
        self._queue: deque[int] = deque()
        self._given: dict[int, tuple[float, int]] = {}
        self._ended: list[float] = []
        self._samples: deque[int] = deque(maxlen=SAMPLES)
        self._started: list[float] = []
        self._nudged_at = -math.inf
        self._waits = [0.0] * len(trace.at)
        self._served = [0] * len(trace.at)
        self._paid = 0.0
        self._starts = 0
        self._history: list[tuple[float, int]] = []

    # What a scaler sees

    @property
    def held(self) -> int:
        return len(self._queue)

    @property
    def ready(self) -> int:
        return sum(one.ready and not one.draining for one in self._nodes)

    @property
    def start_ages(self) -> list[float]:
        return [self.now - one.begun_at for one in self._nodes if not one.ready]

    @property
    def total(self) -> int:
        return sum(not one.draining for one in self._nodes)

    @property
    def running_mean(self) -> float:
        return sum(self._samples) / max(1, len(self._samples))

    def arrivals(self, seconds: float) -> int:
        return self._arrived - bisect_left(self._trace.at, self.now - seconds, 0, self._arrived)

    def completions(self, seconds: float) -> int:
        return len(self._ended) - bisect_left(self._ended, self.now - seconds)

    def take_starts(self) -> list[float]:
        taken, self._started = self._started, []
        return taken

    # What happens

    def run(self) -> Outcome:
        end = self._trace.at[-1] + TAIL_SECONDS
        happens: dict[_Event, Callable[[Node | None, int], None]] = {
            _Event.LOOK: self._on_look,
            _Event.NUDGE: self._on_nudge,
            _Event.SAMPLE: self._on_sample,
            _Event.READY: self._on_ready,
            _Event.END: self._on_end,
        }
        self._schedule(0.0, _Event.LOOK)
        self._schedule(SAMPLED_FIRST, _Event.SAMPLE)
        at, count = self._trace.at, len(self._trace.at)
        while True:
            comes = at[self._arrived] if self._arrived < count else math.inf
            if min(comes, self._events[0][0]) > end:
                break
            if comes <= self._events[0][0]:
                self.now = comes
                self._on_arrival()
            else:
                self.now, _, event, node, turn = heapq.heappop(self._events)
                happens[event](node, turn)
        self.now = end
        for node in list(self._nodes):
            self._release(node)
        for request in self._queue:
            self._waits[request] = end - self._trace.at[request]
        return Outcome(
            waits=self._waits,
            served=self._served,
            node_hours=self._paid / 3600,
            starts=self._starts,
            nodes=self._history,
        )

    def _schedule(self, at: float, event: _Event, node: Node | None = None, turn: int = 0) -> None:
        self._scheduled += 1
        heapq.heappush(self._events, (at, self._scheduled, event, node, turn))

    def _on_arrival(self) -> None:
        self._queue.append(self._arrived)
        self._arrived += 1
        if not self._nodes and self._policy.wakes_at_zero:
            self._decide(called=True)
        self._dispatch()
        pause = self._policy.nudge_interval
        if self._queue and pause is not None and self.now >= self._nudged_at + pause:
            self._on_nudge(None, 0)

    def _on_nudge(self, _node: Node | None, _turn: int) -> None:
        pause = self._policy.nudge_interval
        if not self._queue or pause is None:
            return
        self._nudged_at = self.now
        self._schedule(self.now + pause, _Event.NUDGE)
        self._decide(called=True)

    def _on_look(self, _node: Node | None, _turn: int) -> None:
        self._decide(called=False)
        self._schedule(self.now + self._policy.interval, _Event.LOOK)

    def _on_sample(self, _node: Node | None, _turn: int) -> None:
        self._samples.append(self.running)
        self._schedule(self.now + SAMPLE_SECONDS, _Event.SAMPLE)

    def _on_ready(self, node: Node | None, _turn: int) -> None:
        if node is None or node.released:
            return
        node.ready = True
        self._started.append(self.now - node.begun_at)
        self._dispatch()

    def _on_end(self, node: Node | None, turn: int) -> None:
        if node is None or turn != node.turn or node.released:
            return
        request = node.finish(self.now)
        self.running -= 1
        self._ended.append(self.now)
        given_at, shared_by = self._given.pop(request)
        if shared_by <= TARGET:
            took = self.now - given_at
            known = took if self.service_seconds is None else self.service_seconds
            self.service_seconds = known + LATEST_SERVICE * (took - known)
        if node.draining and not node.running:
            self._release(node)
            return
        self._expect_end(node)
        self._dispatch()

    def _expect_end(self, node: Node) -> None:
        if node.running:
            self._schedule(node.next_end, _Event.END, node, node.turn)

    def _dispatch(self) -> None:
        while self._queue:
            best, fewest = None, SLOTS
            for node in self._nodes:
                if node.running < fewest and node.ready and not node.draining:
                    best, fewest = node, node.running
            if best is None:
                return
            request = self._queue.popleft()
            self._waits[request] = self.now - self._trace.at[request]
            self._served[request] += 1
            best.serve(request, self._trace.work[request], self.now)
            self.running += 1
            self._given[request] = (self.now, best.running)
            self._expect_end(best)

    # What a scaler does

    def _decide(self, *, called: bool) -> None:
        wish = self._policy.look(self, called=called)
        if wish is not None:
            nodes = max(self._least, min(MOST_NODES, wish.nodes))
            missing = nodes - self.total
            if missing > 0:
                self._add(missing)
            elif missing < 0:
                self._remove(-missing, wish.releasable)
        self._dispatch()

    def _add(self, missing: int) -> None:
        draining = [one for one in self._nodes if one.draining][:missing]
        for node in draining:
            node.draining = False
        for _ in range(missing - len(draining)):
            node = Node(self.now, self.now + next(self._start_seconds))
            self._nodes.append(node)
            self._schedule(node.ready_at, _Event.READY, node)
            self._starts += 1
        self._note()

    def _remove(self, surplus: int, releasable: int | None) -> None:
        """Starts first, the youngest first; then ready nodes, those with the fewest requests first."""
        starts = sorted((one for one in self._nodes if not one.ready), key=lambda one: -one.begun_at)
        for node in starts[: surplus if releasable is None else min(surplus, releasable)]:
            self._release(node)
        serving = sorted((one for one in self._nodes if one.ready and not one.draining), key=lambda one: one.running)
        for node in serving[: max(0, surplus - len(starts))]:
            node.draining = True
            if not node.running:
                self._release(node)

    def _release(self, node: Node) -> None:
        node.released = True
        self._nodes.remove(node)
        self._paid += self.now - node.begun_at
        self._note()

    def _note(self) -> None:
        self._history.append((self.now, len(self._nodes)))
