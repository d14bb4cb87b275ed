"""The page of costs: what the newest instances have cost, day by day, from their own records."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Final

from shared.engine.parts import Parts
from shared.models.records import Attempt, seconds_between
from shared.policy.costs import attempt_cost
from shared.store.base import InstanceFilter
from shared.web.instance import rate

NEWEST: Final = 50
"""Instances that are added up; the page says so. More would make it wait for the table."""
DAYS: Final = 14
WIDTH: Final = 1100
HEIGHT: Final = 160


def context(parts: Parts) -> dict[str, Any]:
    """What the page shows. Raises StoreUnavailableError."""
    now = parts.clock.now()
    page = parts.store.page(InstanceFilter(), NEWEST, None)
    days: dict[date, float] = defaultdict(float)
    models: dict[str, float] = defaultdict(float)
    machines: dict[str, float] = defaultdict(float)
    simulated = 0
    for found in page.records:
        record = found.record
        simulated += record.mode == "simulation"
        for attempt in record.attempts:
            cost = attempt_cost(attempt, record.ended_at or now)
            models[record.request.model_name] += cost
            kind = "spot" if attempt.offer.use_spot else "on-demand"
            machines[f"{attempt.offer.gpu_count} x {attempt.offer.gpu}, {kind}"] += cost
            for day, part in by_day(attempt, record.ended_at or now):
                days[day] += part
    return {
        "now": now,
        "total": sum(days.values()),
        "rate": sum(rate(found.record) for found in page.records),
        "count": len(page.records),
        "whole": page.next_token is None,
        "simulated": simulated,
        "bars": bars(days, now.astimezone(UTC).date()),
        "models": ranking(models),
        "machines": ranking(machines),
        "as_of": parts.catalog.as_of,
    }


def by_day(attempt: Attempt, now: datetime) -> Iterator[tuple[date, float]]:
    """USD that an attempt has cost on each day (UTC) it ran."""
    if attempt.node_up_at is None:
        return
    begin, end = attempt.node_up_at.astimezone(UTC), (attempt.gone_at or now).astimezone(UTC)
    while begin < end:
        midnight = datetime.combine(begin.date() + timedelta(days=1), time(), UTC)
        yield begin.date(), seconds_between(begin, min(end, midnight)) / 3600 * attempt.offer.price_per_hour
        begin = midnight


def ranking(amounts: Mapping[str, float]) -> list[tuple[str, float]]:
    """The ten that cost most, of those that cost anything."""
    return sorted(((name, usd) for name, usd in amounts.items() if usd), key=lambda one: -one[1])[:10]


def bars(days: Mapping[date, float], today: date) -> list[dict[str, Any]]:
    """The last days as bars of a plot, the oldest first; sizes in its own units."""
    shown = [today - timedelta(days=back) for back in range(DAYS - 1, -1, -1)]
    most = max(days.get(day, 0.0) for day in shown) or 1.0
    step = WIDTH / DAYS
    return [
        {
            "day": day.strftime("%d %b"),
            "usd": days.get(day, 0.0),
            "x": round(place * step + 4, 1),
            "width": round(step - 8, 1),
            "height": round(days.get(day, 0.0) / most * HEIGHT, 1),
        }
        for place, day in enumerate(shown)
    ]
