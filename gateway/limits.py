"""Requests per minute of a key: a token bucket, in each gateway for itself. Pure."""

from collections.abc import Callable
from dataclasses import dataclass

from gpulaunch.models.routes import EndpointKey

_MOST = 10_000
"""Buckets that are kept; those of keys that are not in use are full again, and can be forgotten."""


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
        now = self._clock()
        bucket = self._buckets.setdefault(key.key_id, _Bucket(float(rate), now))
        bucket.tokens = min(float(rate), bucket.tokens + (now - bucket.at) * rate / 60)
        bucket.at = now
        if len(self._buckets) > _MOST:
            self._buckets = {key.key_id: bucket}
        if bucket.tokens < 1:
            return (1 - bucket.tokens) * 60 / rate
        bucket.tokens -= 1
        return 0.0
