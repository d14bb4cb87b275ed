"""The reference's own scaler, written anew from its formula: what `shared.autoscaling.scaler` was before it was tuned.

It looks every ten seconds at figures of that moment, and remembers every look.
"""

import math
from collections import deque

from bench.scaler.nodes import TARGET
from bench.scaler.policies import Load, Wish

SIGMAS, TOLERANCE, SOONEST, OVERDUE, LATEST_START = 3.0, 0.1, 5.0, 2.0, 0.3


class CapacityPlan:
    interval = 10.0
    wakes_at_zero = True
    nudge_interval: float | None = None

    def __init__(self, service_seconds: float, start_seconds: float, catch_up: float = 30.0, quiet: float = 300.0):
        self._service_seconds, self._start_seconds = service_seconds, start_seconds
        self._catch_up, self._quiet = catch_up, quiet
        self._steady: deque[tuple[float, int]] = deque()
        self._planned: deque[tuple[float, int]] = deque()
        self._first_at: float | None = None

    def look(self, load: Load, *, called: bool) -> Wish:
        for seconds in load.take_starts():
            self._start_seconds += LATEST_START * (seconds - self._start_seconds)
        if self._first_at is None and (load.held or load.arrivals(60)):
            self._first_at = load.now
        mu = TARGET / (load.service_seconds or self._service_seconds)
        known = max(15.0, load.now - (load.now if self._first_at is None else self._first_at))
        counts = {window: load.arrivals(window) for window in (30, 60, 120, 240)}
        sure = max((count - SIGMAS * math.sqrt(count)) / min(window, known) for window, count in counts.items())
        rate = max(sure, counts[60] / min(60.0, known))
        steady = math.ceil(max(rate / mu, load.running_mean / TARGET) - TOLERANCE)
        if load.running or load.held or counts[60]:
            steady = max(steady, 1)
        plan = self._plan(load, sure, mu) if load.held else 0
        base = _highest(self._steady, load.now, steady, self._quiet)
        late = _highest(self._planned, load.now, plan, self._start_seconds)
        nodes = max(steady, plan, min(load.total, base))
        return Wish(nodes, max(0, load.total - max(nodes, late)))

    def _plan(self, load: Load, sure: float, mu: float) -> int:
        horizon = self._start_seconds + self._catch_up
        left, more = load.held + sure * horizon - load.ready * mu * horizon, 0
        for age in sorted(load.start_ages, reverse=True):
            if left <= 0:
                break
            more += 1
            if age < OVERDUE * self._start_seconds:
                left -= mu * max(0.0, horizon - max(self._start_seconds - age, SOONEST))
        if left > 0:
            more += max(0, math.ceil(left / (mu * self._catch_up) - TOLERANCE))
        return load.ready + more


def _highest(seen: deque[tuple[float, int]], now: float, nodes: int, seconds: float) -> int:
    seen.append((now, nodes))
    while seen[0][0] < now - seconds:
        seen.popleft()
    return max(value for _, value in seen)
