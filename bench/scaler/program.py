"""The program's own scaler, as it runs: figures from heartbeats, a look in each sweep, and one when requests wait.

A gateway reports every ten seconds, the sweep looks every thirty at what was reported last. A gateway whose first
request has to wait reports and asks for a look at once, and again every ten seconds while any wait.
"""

from datetime import UTC, datetime, timedelta

from bench.scaler.nodes import TARGET
from bench.scaler.policies import MOST_NODES, Load, Wish
from gpulaunch.models.gateways import ARRIVAL_WINDOWS
from gpulaunch.models.routes import FIRST_START_SECONDS
from shared.autoscaling.figures import Figures
from shared.autoscaling.scaler import Capacity, scale
from shared.domain.scaling import ScalerState, Scaling

_EPOCH = datetime(2026, 1, 5, tzinfo=UTC)
LATEST_START = 0.3
"""Weight of the latest start in the expected one."""
HEARTBEATS = 3
"""Of a gateway, from one sweep to the next."""


class Program:
    """`preset` with looks as the program's; `fresh`: every ten seconds, at figures of that moment, for comparison."""

    interval = 10.0

    def __init__(self, preset: str, *, fresh: bool = False) -> None:
        self.wakes_at_zero = fresh
        self.nudge_interval = None if fresh else 10.0
        self._fresh = fresh
        self._bounds = Scaling(min_replicas=0, max_replicas=MOST_NODES, preset=preset)
        self._state = ScalerState()
        self._start_seconds = FIRST_START_SECONDS
        self._reported: Figures | None = None
        self._heartbeats = 0
        self._before = 0

    def look(self, load: Load, *, called: bool) -> Wish | None:
        if called or self._fresh:
            self._reported = _figures(load)
            return self._decided(load, self._reported)
        reported, self._reported = self._reported, _figures(load)
        self._heartbeats += 1
        if reported is None or self._heartbeats % HEARTBEATS:
            return None
        return self._decided(load, reported)

    def _decided(self, load: Load, figures: Figures) -> Wish:
        for seconds in load.take_starts():
            self._start_seconds += LATEST_START * (seconds - self._start_seconds)
        capacity = Capacity(
            ready=load.ready,
            start_ages=load.start_ages,
            start_seconds=self._start_seconds,
            concurrency=TARGET,
        )
        now = _EPOCH + timedelta(seconds=load.now)
        decision = scale(self._bounds, self._state, figures, capacity, self._before, now)
        self._state, self._before = decision.state, decision.replicas
        return Wish(decision.replicas, decision.state.releasable)


def _figures(load: Load) -> Figures:
    return Figures(
        arrivals={window: load.arrivals(window) for window in ARRIVAL_WINDOWS},
        running=load.running,
        running_mean=load.running_mean,
        held=load.held,
        service_seconds=load.service_seconds,
    )
