"""The costs page: the last days by day and by model, and the budgets."""

import urllib.parse
from collections.abc import Mapping
from datetime import date, datetime, timedelta
from typing import Any, Final

from gpulaunch.models.queries import CostsBy, CostsQuery
from gpulaunch.models.reports import CostsAnswer
from gpulaunch.models.requests import DEFAULT_PROVIDER
from shared.app import App

DAYS: Final = 14
WIDTH: Final = 1100
HEIGHT: Final = 160


def context(app: App) -> dict[str, Any]:
    """What the page shows, at most a minute old.

    Raises:
        StoreUnavailableError: Storage did not answer.
    """
    at, by_day, by_model = app.recent_costs.get(app.clock.now(), lambda: _report(app))
    last = by_day.last_day
    days = {date.fromisoformat(group.key): group.actual_usd for group in by_day.groups}
    return {
        "at": at,
        "period": urllib.parse.urlencode({"from": by_day.first_day, "to": last}),
        "total": by_day.total,
        "bars": bars(days, last),
        "models": sorted(by_model.groups, key=lambda group: -group.actual_usd)[:20],
        "budgets": by_day.budgets,
        "as_of": app.catalog.listing(DEFAULT_PROVIDER).prices.as_of,
    }


def _report(app: App) -> tuple[datetime, CostsAnswer, CostsAnswer]:
    now = app.clock.now()
    today = now.date()

    def summed(by: CostsBy) -> CostsAnswer:
        days = {"from": (today - timedelta(days=DAYS - 1)).isoformat(), "to": today.isoformat(), "by": by}
        return app.costs.answer(CostsQuery.model_validate(days))

    return now, summed("day"), summed("model")


def bars(days: Mapping[date, float], today: date) -> list[dict[str, Any]]:
    """Return the last days as bars, oldest first, in the units of the SVG."""
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
