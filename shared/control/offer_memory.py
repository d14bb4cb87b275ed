"""The memory of offers that failed lately, shared by all instances of a workspace."""

import logging
from collections.abc import Sequence
from datetime import datetime

from shared.cache import TTLCache
from shared.clock import Clock
from shared.domain.instance import Event, InstanceRecord
from shared.errors import StoreUnavailableError
from shared.planning.failover import remembered
from shared.planning.plan import RecentFailure
from shared.storage.base import REFUSED_OFFER, InstanceStore, Marker

log = logging.getLogger("gpulaunch.offers")

REFUSED_SECONDS = 5.0
"""A plan that misses a refusal of another process in these seconds costs one failed try, and the next offer."""


class OfferMemory:
    def __init__(self, store: InstanceStore, clock: Clock, cache: TTLCache[list[Marker]] | None = None) -> None:
        self._store = store
        self._clock = clock
        self._cache = TTLCache[list[Marker]](REFUSED_SECONDS) if cache is None else cache

    def committed(self, before: InstanceRecord, after: InstanceRecord, events: Sequence[Event]) -> None:  # noqa: ARG002
        """Remember the offers whose attempts failed in this change; simulated refusals are forgotten."""
        if after.mode != "real":
            return
        failed_before = {attempt.number for attempt in before.attempts if attempt.failure is not None}
        for attempt in after.attempts:
            if attempt.failure is None or attempt.number in failed_before:
                continue
            now = self._clock.now()
            failure = remembered(attempt.offer, attempt.failure, now)
            if failure is None:
                continue
            marker = Marker(kind=REFUSED_OFFER, key=failure.key, at=now, until=failure.until, text=failure.reason)
            try:
                self._store.put_marker(marker)
            except StoreUnavailableError as error:
                # A lost memory costs a try; the step that failed is written already and matters more.
                log.warning("the refusal of %s is not remembered: %s", failure.key, error)
            self._cache.drop()

    def recent(self, now: datetime) -> Sequence[RecentFailure]:
        """The offers that failed lately, seconds old at most.

        Raises:
            StoreUnavailableError: Storage did not answer.
        """
        return [
            RecentFailure(key=marker.key, until=marker.until, reason=marker.text)
            for marker in self._cache.get(now, lambda: self._store.markers(REFUSED_OFFER))
            if marker.until is not None and marker.until > now
        ]
