"""The memory of offers that failed lately, shared by all instances."""

import logging
from collections.abc import Sequence
from datetime import datetime

from shared.control.parts import Parts
from shared.domain.instance import InstanceRecord
from shared.errors import StoreUnavailableError
from shared.planning.failover import remembered
from shared.planning.plan import RecentFailure
from shared.storage.base import REFUSED_OFFER, Marker

log = logging.getLogger("gpulaunch.offers")


def remember_failures(parts: Parts, before: InstanceRecord, after: InstanceRecord) -> None:
    """Write down the offers whose attempts failed between two states of a record; simulated refusals are not."""
    if after.mode != "real":
        return
    failed_before = {attempt.number for attempt in before.attempts if attempt.failure is not None}
    for attempt in after.attempts:
        if attempt.failure is None or attempt.number in failed_before:
            continue
        note = remembered(attempt.offer, attempt.failure, parts.clock.now())
        if note is None:
            continue
        try:
            parts.store.put_marker(
                Marker(kind=REFUSED_OFFER, key=note.key, at=parts.clock.now(), until=note.until, text=note.reason)
            )
        except StoreUnavailableError as error:
            # A memory that is lost costs a try; the step that failed is written already and matters more.
            log.warning("the refusal of %s is not remembered: %s", note.key, error)
        parts.refused.drop()


def recent_failures(parts: Parts, now: datetime) -> Sequence[RecentFailure]:
    """The offers that failed lately, seconds old at most. Raises StoreUnavailableError."""
    return [
        RecentFailure(key=note.key, until=note.until, reason=note.text)
        for note in parts.refused.get(now, lambda: parts.store.markers(REFUSED_OFFER))
        if note.until is not None and note.until > now
    ]
