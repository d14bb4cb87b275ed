"""What instances cost, by the documentation's rule, and what that leaves of a budget; arithmetic only."""

from collections.abc import Iterable
from datetime import datetime
from decimal import ROUND_CEILING, ROUND_HALF_UP, Decimal
from fractions import Fraction

from tests.simulation.oracles.facts import ENDED, Attempt, Record, World
from tests.simulation.oracles.promises import DEFAULT_LIFETIME_MINUTES

MICRO = 1_000_000


def milliseconds(begin: datetime, end: datetime) -> int:
    """Between two moments, each cut to the millisecond, as storage keeps them."""
    first, last = (int(Fraction(str(moment.timestamp())) * 1000) for moment in (begin, end))
    return max(0, last - first)


def micro_usd(attempt: Attempt, now: datetime) -> int:
    """Whole micro-USD of one attempt: from when it counts until it is deleted, rounded once."""
    if attempt.billed_from is None:
        return 0
    lasted = milliseconds(attempt.billed_from, attempt.gone_at or now)
    exact = Decimal(str(attempt.offer.price_per_hour)) * lasted / Decimal("3.6")
    return int(exact.to_integral_value(ROUND_HALF_UP))


def micro_cost(record: Record, now: datetime) -> int:
    return sum(micro_usd(attempt, now) for attempt in record.attempts)


def cost(record: Record, now: datetime) -> float:
    """USD of an instance until now."""
    return micro_cost(record, now) / MICRO


def worst_case(record: Record) -> int:
    """What a launch reserves, micro-USD: the most expensive offer for its lifetime, up to the cent, or its budget."""
    minutes = record.request.max_lifetime_minutes or DEFAULT_LIFETIME_MINUTES
    highest = max(Decimal(str(offer.price_per_hour)) for offer in record.offers)
    cents = (highest * minutes * 100 / 60).to_integral_value(ROUND_CEILING)
    budget = record.request.budget_usd
    return min(int(cents) * MICRO // 100, MICRO * 10**9 if budget is None else round(budget * MICRO))


def month(record: Record) -> str:
    """The month that pays for all of an instance: that of its acceptance, UTC."""
    return f"{record.created_at:%Y-%m}"


def spent(records: Iterable[Record], of: str, now: datetime) -> int:
    """Micro-USD that a month's instances have cost until now, live ones too."""
    return sum(micro_cost(record, record.ended_at or now) for record in records if month(record) == of)


def held(records: Iterable[Record], of: str) -> int:
    """Micro-USD that count against a month: the cost of what has ended, the worst case of what lives."""
    return sum(
        micro_cost(one, one.ended_at or one.created_at) if one.phase in ENDED else worst_case(one)
        for one in records
        if month(one) == of
    )


def month_is_spent(world: World, record: Record, now: datetime) -> bool:
    budget = world.terms.monthly_budget_usd
    if budget is None or not world.terms.ends_at_budget:
        return False
    return spent(world.records(), month(record), now) >= round(budget * MICRO)
