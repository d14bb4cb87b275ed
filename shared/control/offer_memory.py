"""The memory of offers that failed lately, shared by all instances of a workspace."""

import logging
from collections.abc import Sequence
from datetime import datetime

from shared.cache import TTLCache
from shared.clock import Clock
from shared.domain.instance import Event, InstanceRecord
from shared.errors import StoreUnavailableError
from shared.planning.failover import avoided_until
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
            until = avoided_until(attempt.offer, attempt.failure, now)
            if until is None:
                continue
            marker = Marker(kind=REFUSED_OFFER, key=attempt.offer.key, at=now, until=until)
            try:
                self._store.put_marker(marker)
            except StoreUnavailableError as error:
                # A lost memory costs a try; the step that failed is written already and matters more.
                log.warning("the refusal of %s is not remembered: %s", marker.key, error)
            self._cache.drop()

    def recent(self, now: datetime) -> set[str]:
        """The keys of offers that failed lately, as known some seconds ago at most.

        Raises:
            StoreUnavailableError: Storage did not answer.
        """
        return {
            marker.key
            for marker in self._cache.get(now, lambda: self._store.markers(REFUSED_OFFER))
            if marker.until is not None and marker.until > now
        }
