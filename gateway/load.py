"""How much is asked of each endpoint, for whoever decides on its number of replicas."""

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from gateway.snapshot import Endpoint
from gpulaunch.models.gateways import ARRIVAL_WINDOWS

MEAN_SECONDS = 60.0
"""Over which the requests that run are averaged."""
LATEST = 0.02
"""Weight of the latest request in the mean duration: a hundred requests make most of it."""


@dataclass
class _Endpoint:
    arrivals: deque[tuple[float, int]] = field(default_factory=deque[tuple[float, int]])
    """Requests by second."""
    running: deque[tuple[float, int]] = field(default_factory=deque[tuple[float, int]])
    timed: int = 0
    seconds: float = 0.0


class Load:
    """Counts and times requests by endpoint, named by its id: another one of the same name begins anew."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._endpoints: dict[str, _Endpoint] = {}

    def arrived(self, endpoint_id: str) -> None:
        """Count a request."""
        arrivals, second = self._of(endpoint_id).arrivals, float(int(self._clock()))
        if arrivals and arrivals[-1][0] == second:
            arrivals[-1] = (second, arrivals[-1][1] + 1)
        else:
            arrivals.append((second, 1))

    def arrivals(self, endpoint_id: str) -> dict[int, int]:
        """Requests of the last seconds, by `ARRIVAL_WINDOWS`."""
        known, now = self._of(endpoint_id).arrivals, self._clock()
        _forget(known, now - max(ARRIVAL_WINDOWS))
        return {window: sum(count for at, count in known if at > now - window) for window in ARRIVAL_WINDOWS}

    def sample(self, endpoint_id: str, running: int) -> None:
        """Take note of the requests that run now; to be called every few seconds."""
        known, now = self._of(endpoint_id).running, self._clock()
        known.append((now, running))
        _forget(known, now - MEAN_SECONDS)

    def running_mean(self, endpoint_id: str) -> float:
        """Requests that ran at once, as the mean of the last minute's samples."""
        known = self._of(endpoint_id).running
        return round(sum(count for _, count in known) / len(known), 2) if known else 0.0

    def served(self, endpoint_id: str, seconds: float, outstanding: int, target: int) -> None:
        """Take note of a request's duration, unless its node had more requests when it began than it is to have."""
        if outstanding > target:
            return
        known = self._of(endpoint_id)
        known.seconds += (seconds - known.seconds) * (LATEST if known.timed else 1.0)
        known.timed += 1

    def timed(self, endpoint_id: str) -> tuple[int, float | None]:
        """How many requests were timed, and their duration in seconds to two digits; recent ones weigh more."""
        known = self._of(endpoint_id)
        return known.timed, float(f"{known.seconds:.2g}") if known.timed else None

    def forget_others(self, known: Mapping[str, Endpoint]) -> None:
        """Forget endpoints that there are no more."""
        ids = {one.endpoint_id for one in known.values()}
        for gone in self._endpoints.keys() - ids:
            del self._endpoints[gone]

    def _of(self, endpoint_id: str) -> _Endpoint:
        known = self._endpoints.get(endpoint_id)
        if known is None:
            known = self._endpoints[endpoint_id] = _Endpoint()
        return known


def _forget(known: deque[tuple[float, int]], before: float) -> None:
    while known and known[0][0] <= before:
        known.popleft()
