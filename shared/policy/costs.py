"""What an instance has cost so far, from its attempts."""

from datetime import datetime

from shared.models.records import Attempt, InstanceRecord, seconds_between


def attempt_cost(attempt: Attempt, now: datetime) -> float:
    """USD that one attempt has cost by `now`: from its node's first sight until nothing was left of it."""
    if attempt.node_up_at is None:
        return 0.0
    until = attempt.gone_at or now
    return seconds_between(attempt.node_up_at, until) / 3600 * attempt.offer.price_per_hour


def cost_so_far(record: InstanceRecord, now: datetime) -> float:
    """USD that an instance has cost by `now`, over all its attempts."""
    return sum(attempt_cost(attempt, now) for attempt in record.attempts)
