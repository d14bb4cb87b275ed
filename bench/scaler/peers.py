"""How other scalers decide, by their published formulas and with their defaults.

All of them see the same queue; where a peer would refuse a request, it is held here. "Load" is requests that run or
are held. The share of a node that a rate needs is known to those that ask their operator for it.
"""

import math
from collections import deque
from dataclasses import dataclass, field
from statistics import fmean

from bench.scaler.nodes import TARGET
from bench.scaler.policies import MOST_NODES, Load, Wish


@dataclass
class _Recent:
    """Values of the last so many seconds."""

    seconds: float
    values: deque[tuple[float, float]] = field(default_factory=deque[tuple[float, float]])

    def add(self, now: float, value: float) -> None:
        self.values.append((now, value))
        while self.values[0][0] < now - self.seconds:
            self.values.popleft()

    @property
    def highest(self) -> float:
        return max(value for _, value in self.values)


class _Peer:
    interval = 15.0
    wakes_at_zero = False
    nudge_interval: float | None = None

    def look(self, load: Load, *, called: bool) -> Wish | None:
        return Wish(max(1, load.total) if called else self.nodes(load))

    def nodes(self, load: Load) -> int:
        raise NotImplementedError


class Keda(_Peer):
    """KEDA's external metric with HPA: every 15 s load / target, within 10 % no change, at most doubled or four more,
    never below the highest of the last 300 s; from zero by the operator, which polls every 30 s; to zero after 300 s.

    kubernetes.io/docs/concepts/workloads/autoscaling/horizontal-pod-autoscale,
    keda.sh/docs/latest/reference/scaledobject-spec.
    """

    POLL_SECONDS, COOLDOWN_SECONDS = 30.0, 300.0

    def __init__(self) -> None:
        self._recommended = _Recent(300.0)
        self._active_at = -math.inf
        self._polled_at = 0.0

    def nodes(self, load: Load) -> int:
        demand, total = load.running + load.held, load.total
        if demand:
            self._active_at = load.now
        if not total:
            return self._activated(load.now, demand)
        close = abs(demand / (TARGET * total) - 1) <= 0.1
        wanted = total if close else math.ceil(demand / TARGET)
        wanted = min(wanted, max(2 * total, total + 4))
        self._recommended.add(load.now, wanted)
        if wanted < total:
            wanted = min(total, int(self._recommended.highest))
        active = bool(demand) or load.now - self._active_at <= self.COOLDOWN_SECONDS
        return max(1, wanted) if active else 0

    def _activated(self, now: float, demand: int) -> int:
        if now - self._polled_at < self.POLL_SECONDS:
            return 0
        self._polled_at = now
        return 1 if demand else 0


class Knative(_Peer):
    """Knative's KPA: every 2 s the mean load of 60 s (stable) and 6 s (panic) by target; panic at twice what is ready,
    in which it never falls; at most halved; 30 s of grace before zero. `delay`: its `scale-down-delay`, in seconds.

    knative.dev/docs/serving/autoscaling/kpa-specific.
    """

    interval = 2.0
    STABLE_SECONDS, PANIC_SECONDS, GRACE_SECONDS = 60.0, 6.0, 30.0
    PANIC_THRESHOLD = 2

    def __init__(self, delay: float = 0.0) -> None:
        self._loads = _Recent(self.STABLE_SECONDS)
        self._recommended = _Recent(delay) if delay else None
        self._panicked_at: float | None = None
        self._panic_peak = 0
        self._zero_since: float | None = None

    def nodes(self, load: Load) -> int:
        self._loads.add(load.now, load.running + load.held)
        stable = fmean(value for at, value in self._loads.values if at > load.now - self.STABLE_SECONDS)
        panic = fmean(value for at, value in self._loads.values if at > load.now - self.PANIC_SECONDS)
        ready = max(1, load.ready)
        floor = ready // 2
        by_stable, by_panic = max(math.ceil(stable / TARGET), floor), max(math.ceil(panic / TARGET), floor)
        if math.ceil(panic / TARGET) / ready >= self.PANIC_THRESHOLD:
            self._panicked_at = load.now
        elif self._panicked_at is not None and load.now - self._panicked_at > self.STABLE_SECONDS:
            self._panicked_at, self._panic_peak = None, 0
        wanted = by_stable
        if self._panicked_at is not None:
            self._panic_peak = wanted = max(self._panic_peak, by_stable, by_panic)
        if self._recommended is not None:
            self._recommended.add(load.now, wanted)
            wanted = int(self._recommended.highest)
        return self._with_grace(wanted, load)

    def _with_grace(self, wanted: int, load: Load) -> int:
        if wanted:
            self._zero_since = None
            return wanted
        if self._zero_since is None:
            self._zero_since = load.now
        over = load.now - self._zero_since >= self.GRACE_SECONDS
        return 0 if over else min(1, load.total)


class KubeAi(_Peer):
    """KubeAI: every 10 s the mean load of 10 min by target, fewer only at the fourth look in a row; from zero at once.

    kubeai.org/how-to/configure-autoscaling.
    """

    interval = 10.0
    wakes_at_zero = True
    PATIENCE = 3

    def __init__(self) -> None:
        self._loads = deque([0] * 60, maxlen=60)
        self._lower = 0

    def nodes(self, load: Load) -> int:
        self._loads.append(load.running + load.held)
        wanted = math.ceil(sum(self._loads) / 60 / TARGET)
        if wanted >= load.total:
            self._lower = 0
        elif self._lower < self.PATIENCE:
            self._lower += 1
            return load.total
        return wanted


class SkyServe(_Peer):
    """SkyPilot's RequestRateAutoscaler: every 20 s the rate of 60 s by each node's, more once it has called for more
    for `up` seconds in a row, fewer after `down`; the first start is not delayed.

    docs.skypilot.co/en/latest/serving/autoscaling.html.
    """

    interval = 20.0

    def __init__(self, service_seconds: float, up: float = 300.0, down: float = 1200.0) -> None:
        self._rate_of_node = TARGET / service_seconds
        self._needed = (up // self.interval, down // self.interval)
        self._higher = self._lower = self._wanted = 0

    def nodes(self, load: Load) -> int:
        asked = math.ceil(load.arrivals(60) / 60 / self._rate_of_node)
        up, down = self._needed
        if not self._wanted:
            self._wanted = asked
        elif asked > self._wanted:
            self._higher, self._lower = self._higher + 1, 0
            if self._higher >= up:
                self._higher, self._wanted = 0, asked
        elif asked < self._wanted:
            self._higher, self._lower = 0, self._lower + 1
            if self._lower >= down:
                self._lower, self._wanted = 0, asked
        else:
            self._higher = self._lower = 0
        return self._wanted


class Dstack(_Peer):
    """dstack's RPSAutoscaler: the rate of requests that ended in the last 60 s by each node's, 300 s after the latest
    change for more, 600 s for fewer; the first start is not delayed.

    dstack.ai/docs/concepts/services.
    """

    interval = 10.0
    UP_SECONDS, DOWN_SECONDS = 300.0, 600.0

    def __init__(self, service_seconds: float) -> None:
        self._rate_of_node = TARGET / service_seconds
        self._changed_at = -math.inf
        self._wanted = 0

    def nodes(self, load: Load) -> int:
        seen = load.completions(60) if load.ready else load.arrivals(60)
        asked = min(MOST_NODES, math.ceil(seen / 60 / self._rate_of_node))
        since = load.now - self._changed_at
        more = asked > self._wanted and (not self._wanted or since >= self.UP_SECONDS)
        if more or (asked < self._wanted and since >= self.DOWN_SECONDS):
            self._wanted, self._changed_at = asked, load.now
        return self._wanted
