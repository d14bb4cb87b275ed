"""How long decisions take: endpoints with a dozen replicas each, two gateways that report of all of them."""

import time
from datetime import UTC, datetime, timedelta

from gpulaunch.models.gateways import ARRIVAL_WINDOWS, EndpointReport, GatewayReport
from shared.autoscaling.figures import figures_of
from shared.autoscaling.scaler import Capacity, scale
from shared.domain.scaling import Peak, ScalerState, Scaling

NOW = datetime(2026, 1, 5, 12, tzinfo=UTC)
BOUNDS = Scaling(min_replicas=0, max_replicas=30, preset="balanced")
REPLICAS = 12
"""Of each endpoint; a quarter of them are starts."""
STATE = ScalerState(
    service_seconds=9.5,
    first_at=NOW - timedelta(days=1),
    steady=[Peak(replicas=REPLICAS - one, until=NOW - timedelta(seconds=60 * one)) for one in range(4)],
    planned=[Peak(replicas=REPLICAS, until=NOW - timedelta(seconds=30)), Peak(replicas=0)],
)


def seconds_for(endpoints: int) -> float:
    """Of a processor, for one decision for each, while requests wait at every one."""
    gateways = {name: _report(name, endpoints) for name in ("one", "other")}
    starts = REPLICAS // 4
    capacity = Capacity(
        ready=REPLICAS - starts,
        start_ages=[30.0 * one for one in range(starts)],
        start_seconds=240.0,
        concurrency=11.0,
    )
    begins = time.process_time()
    for number in range(endpoints):
        figures = figures_of(f"ep-{number}", gateways, NOW, probed=90.0)
        scale(BOUNDS, STATE, figures, capacity, REPLICAS, NOW)
    return time.process_time() - begins


def _report(name: str, endpoints: int) -> GatewayReport:
    reports = [
        EndpointReport(
            endpoint_id=f"ep-{number}",
            version=1,
            held=10,
            running=45,
            running_mean=44.0,
            arrivals={window: 4 * window for window in ARRIVAL_WINDOWS},
            timed=100,
            service_seconds=9.5,
        )
        for number in range(endpoints)
    ]
    return GatewayReport(gateway_id=name, at=NOW, endpoints=reports)
