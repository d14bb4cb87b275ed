"""The costs page: the last days by day and by model, and the budgets."""

import urllib.parse
from collections.abc import Mapping
from datetime import date, datetime, timedelta
from typing import Any, Final

from gpulaunch.models.queries import CostsBy, CostsQuery
from gpulaunch.models.reports import CostsAnswer
from gpulaunch.models.requests import DEFAULT_PROVIDER
from shared.app import COST_PERIODS, App

LABELS: Final = 14
"""Bars that have their day written below them, at most."""
WIDTH: Final = 1100
HEIGHT: Final = 160


def context(app: App, asked: str = "") -> dict[str, Any]:
    """What the page shows of so many days, at most a minute old; of the shortest period for other numbers.

    Raises:
        StoreUnavailableError: Storage did not answer.
    """
    count = next((days for days in COST_PERIODS if str(days) == asked), COST_PERIODS[0])
    at, by_day, by_model = app.recent_costs[count].get(app.clock.now(), lambda: _report(app, count))
    last = by_day.last_day
    days = {date.fromisoformat(group.key): group.actual_usd for group in by_day.groups}
    return {
        "at": at,
        "count": count,
        "periods": COST_PERIODS,
        "period": urllib.parse.urlencode({"from": by_day.first_day, "to": last}),
        "total": by_day.total,
        "bars": bars(days, last, count),
        "models": sorted(by_model.groups, key=lambda group: -group.actual_usd)[:20],
        "budgets": by_day.budgets,
        "as_of": app.catalog.listing(DEFAULT_PROVIDER).prices.as_of,
    }


def _report(app: App, count: int) -> tuple[datetime, CostsAnswer, CostsAnswer]:
    now = app.clock.now()
    today = now.date()

    def summed(by: CostsBy) -> CostsAnswer:
        days = {"from": (today - timedelta(days=count - 1)).isoformat(), "to": today.isoformat(), "by": by}
        return app.costs.answer(CostsQuery.model_validate(days))

    return now, summed("day"), summed("model")


def bars(days: Mapping[date, float], today: date, count: int) -> list[dict[str, Any]]:
    """Return the last days as bars, oldest first, in the units of the SVG."""
    shown = [today - timedelta(days=back) for back in range(count - 1, -1, -1)]
    most = max(days.get(day, 0.0) for day in shown) or 1.0
    step, gap = WIDTH / count, 4 if count <= LABELS else 1
    every = -(-count // LABELS)
    return [
        {
            "day": day.strftime("%d %b"),
            "usd": days.get(day, 0.0),
            "x": round(place * step + gap, 1),
            "width": round(step - 2 * gap, 1),
            "height": round(days.get(day, 0.0) / most * HEIGHT, 1),
            "named": place == 0 or (count - 1 - place) % every == 0,
        }
        for place, day in enumerate(shown)
    ]
