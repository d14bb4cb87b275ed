"""What an instance has cost so far, from its attempts."""

from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal

from gpulaunch.models.times import seconds_between
from shared.domain.instance import Attempt, InstanceRecord
from shared.domain.money import MICRO

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_HOUR = 3_600_000
"""Milliseconds."""


def attempt_cost(attempt: Attempt, now: datetime) -> float:
    """USD that one attempt has cost by `now`: from `billed_from` until nothing was left of it."""
    if attempt.billed_from is None:
        return 0.0
    until = attempt.gone_at or now
    return seconds_between(attempt.billed_from, until) / 3600 * attempt.offer.price_per_hour


def cost_so_far(record: InstanceRecord, now: datetime) -> float:
    """USD that an instance has cost by `now`, over all its attempts."""
    return sum(attempt_cost(attempt, now) for attempt in record.attempts)


def milliseconds(begin: datetime, end: datetime) -> int:
    """Whole milliseconds between two points in time, each cut to the millisecond as storage does; not below 0."""
    return max(0, (end - _EPOCH) // _MILLISECOND - (begin - _EPOCH) // _MILLISECOND)


def micro_usd(price_per_hour: float, begin: datetime, end: datetime) -> int:
    """What a price comes to between two points in time, whole micro-USD."""
    exact = Decimal(str(price_per_hour)) * MICRO * milliseconds(begin, end) / _HOUR
    return int(exact.to_integral_value(ROUND_HALF_UP))


def micro_so_far(record: InstanceRecord, now: datetime) -> int:
    """`cost_so_far` in whole micro-USD: each attempt rounded once, as in its own entry of the costs."""
    return sum(
        micro_usd(attempt.offer.price_per_hour, attempt.billed_from, attempt.gone_at or now)
        for attempt in record.attempts
        if attempt.billed_from is not None
    )
