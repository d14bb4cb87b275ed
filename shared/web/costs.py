"""The costs page: the last days by day and by model, and the budgets."""

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any, Final

from gpulaunch.models.responses import CostsAnswer
from shared.control.costs import costs_answer
from shared.control.parts import Parts

DAYS: Final = 14
WIDTH: Final = 1100
HEIGHT: Final = 160
KEPT: Final = timedelta(seconds=60)
"""How long a report is cached: it reads every live instance and all that ended in its days."""


@dataclass(frozen=True)
class _Kept:
    parts: Parts
    at: datetime
    by_day: CostsAnswer
    by_model: CostsAnswer


_lock = threading.Lock()
_kept: list[_Kept] = []


def context(parts: Parts) -> dict[str, Any]:
    """What the page shows, at most a minute old. Raises StoreUnavailableError."""
    found = _report(parts)
    last = found.by_day.last_day
    days = {date.fromisoformat(group.key): group.actual_usd for group in found.by_day.groups}
    return {
        "at": found.at,
        "total": found.by_day.total,
        "bars": bars(days, last),
        "models": sorted(found.by_model.groups, key=lambda group: -group.actual_usd)[:20],
        "budgets": found.by_day.budgets,
        "as_of": parts.catalog.prices("azure").as_of,
    }


def _report(parts: Parts) -> _Kept:
    now = parts.clock.now()
    with _lock:
        if not _kept or _kept[0].parts is not parts or not _kept[0].at <= now < _kept[0].at + KEPT:
            asked = {"from": (now.date() - timedelta(days=DAYS - 1)).isoformat(), "to": now.date().isoformat()}
            by_day, by_model = (costs_answer(parts, {**asked, "by": by}) for by in ("day", "model"))
            _kept[:] = [_Kept(parts, now, by_day, by_model)]
        return _kept[0]


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
