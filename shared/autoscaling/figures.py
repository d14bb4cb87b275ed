"""The load of an endpoint, put together from what its gateways and its replicas' probes tell. Pure."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from gpulaunch.models.gateways import ARRIVAL_WINDOWS, EndpointReport, GatewayReport
from shared.autoscaling.observed import Gateways

FRESH = timedelta(seconds=60)
"""Older figures are not taken for the present. A gateway writes its report every ten seconds."""
GIVEN_UP = timedelta(minutes=10)
"""A gateway that has not reported for so long says itself that it is not ready, and gets no requests."""
SIGMAS = 3.0
"""How far above the noise of a Poisson process a number must be to be taken for certain."""


@dataclass(frozen=True, kw_only=True)
class Figures:
    arrivals: Mapping[int, int]
    """Requests that came in the last 30, 60, 120 and 240 seconds, by seconds."""
    running: float
    """Requests on replicas now."""
    running_mean: float
    """The same over the last minute."""
    held: int
    """Requests that wait for a replica."""
    direct: float = 0.0
    """Of those that run, requests that came past the gateways, so that their arrivals are not counted."""
    service_seconds: float | None = None
    """Duration of requests on replicas that were not crowded; None: none has ended yet."""
    complete: bool = True
    """False: a gateway that may have requests has not told of them lately."""

    @property
    def quiet(self) -> bool:
        """Whether no request runs, waits or came in the last minute."""
        return not (self.running or self.held or self.arrivals.get(60, 0))


def figures_of(endpoint_id: str, gateways: Gateways, now: datetime, probed: float = 0.0) -> Figures:
    """The figures of all gateways together.

    `probed` is the number of requests that the replicas' last probes found: applications that call nodes directly,
    past the gateway, count as well.
    """
    fresh, complete = _fresh(gateways, now)
    reports = [one for report in fresh for one in report.endpoints if one.endpoint_id == endpoint_id]
    running = sum(one.running for one in reports)
    mean = sum(one.running_mean for one in reports)
    direct = _direct(probed, max(running, mean))
    return Figures(
        arrivals={window: _arrivals(reports, window) for window in ARRIVAL_WINDOWS},
        running=running + direct,
        running_mean=mean + direct,
        held=sum(one.held for one in reports),
        direct=direct,
        service_seconds=_service_seconds(reports),
        complete=complete,
    )


def _fresh(gateways: Gateways, now: datetime) -> tuple[list[GatewayReport], bool]:
    """Reports that tell of the present, and whether none is missing."""
    fresh: list[GatewayReport] = []
    complete = True
    for report in gateways.values():
        if report is not None and report.at >= now - FRESH:
            fresh.append(report)
        elif report is None or report.at >= now - GIVEN_UP:
            complete = False
    return fresh, complete


def _arrivals(reports: Sequence[EndpointReport], window: int) -> int:
    return sum(one.arrivals.get(window, 0) for one in reports)


def _direct(probed: float, routed: float) -> float:
    """What probes found beyond the gateways' requests; none if noise explains it, as their times differ."""
    return probed - routed if probed > routed + SIGMAS * math.sqrt(routed) else 0.0


def _service_seconds(reports: Sequence[EndpointReport]) -> float | None:
    """The mean over the gateways, each with the weight of the requests that it has timed."""
    timed = [(one.timed, one.service_seconds) for one in reports if one.timed and one.service_seconds is not None]
    total = sum(count for count, _ in timed)
    return sum(count * seconds for count, seconds in timed) / total if total else None
