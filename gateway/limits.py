"""What callers may take of a gateway: requests per minute of a key, a token bucket, and memory for bodies. Pure.

Each gateway counts for itself.
"""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass

from gpulaunch.models.routes import EndpointKey

_MOST = 10_000
"""Buckets that are kept without looking for some to forget: those that have filled up again."""
MOST_BODIES = 256 * 1024 * 1024
"""Bytes of all requests' bodies at once: what waits for a node waits in memory."""


@dataclass
class _Bucket:
    tokens: float
    at: float


class RateLimits:
    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._buckets: dict[str, _Bucket] = {}

    def take(self, key: EndpointKey) -> float:
        """Count one request. Returns 0 if the limit allows it, else the seconds to wait."""
        rate = key.requests_per_minute
        if rate is None:
            return 0.0
        if rate < 1:
            return 60.0  # not a limit that the API sets, but rows may come from elsewhere
        now = self._clock()
        bucket = self._buckets.setdefault(key.key_id, _Bucket(float(rate), now))
        bucket.tokens = min(float(rate), bucket.tokens + (now - bucket.at) * rate / 60)
        bucket.at = now
        if len(self._buckets) > _MOST:
            self._buckets = {name: one for name, one in self._buckets.items() if now - one.at < 60}
        if bucket.tokens < 1:
            return (1 - bucket.tokens) * 60 / rate
        bucket.tokens -= 1
        return 0.0


@dataclass
class Bodies:
    """The bodies of all requests under way, which together take at most so many bytes of memory."""

    most: int = MOST_BODIES
    size: int = 0

    @contextmanager
    def one(self) -> Generator["Body"]:
        """One request's body, forgotten when the request is over."""
        body = Body(self)
        try:
            yield body
        finally:
            self.size -= body.size


@dataclass
class Body:
    _all: Bodies
    size: int = 0

    def grow(self, size: int) -> bool:
        """Whether there is room for so many bytes more."""
        if self._all.size + size > self._all.most:
            return False
        self._all.size += size
        self.size += size
        return True
