"""What was spent in some days, by day, model, label or provider; pure.

Cost belongs to the moment in which it accrues: an attempt that runs over midnight, UTC, costs a part on each day. Each
part is the difference of two rounded totals, so that the parts of an attempt add up to its cost to the micro-USD.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from typing import Literal, get_args

from shared.domain.costs import micro_usd, milliseconds
from shared.domain.money import CostEntry

By = Literal["day", "model", "label", "provider"]
BYS: tuple[By, ...] = get_args(By)
NO_LABEL = "(none)"
"""Group of what has no label, or not the one asked for."""
_DAY = timedelta(days=1)


@dataclass(frozen=True, kw_only=True)
class Sums:
    """What some attempts have cost; amounts in micro-USD."""

    milliseconds: int = 0
    """Node time."""
    actual: int = 0
    planned: int = 0
    """The same time at the price of each launch's first planned offer: its estimate."""
    on_demand: int = 0
    """The same time at the on-demand price; where none is known, what was paid."""
    saved: int = 0
    """What spot nodes cost less than on-demand ones of the same machine and region."""
    simulated: int = 0
    """The part of `actual` that a simulation made up."""

    def __add__(self, other: "Sums") -> "Sums":
        return Sums(
            milliseconds=self.milliseconds + other.milliseconds,
            actual=self.actual + other.actual,
            planned=self.planned + other.planned,
            on_demand=self.on_demand + other.on_demand,
            saved=self.saved + other.saved,
            simulated=self.simulated + other.simulated,
        )


@dataclass(frozen=True)
class Report:
    """Sums by group, in the order of their names, and of everything once."""

    groups: dict[str, Sums]
    total: Sums


def report(entries: Iterable[CostEntry], first: date, last: date, by: By, label: str | None = None) -> Report:
    """What accrued from the first to the last day, both included.

    `label` is a label's key, for groups by its values; without it an instance is in the group of each of its labels, so
    that the groups may add up to more than the total.
    """
    groups: dict[str, Sums] = {}
    total = Sums()
    for entry in entries:
        for day, begin, end in _days(entry, first, last):
            part = _part(entry, begin, end)
            total += part
            for name in _names(entry, day, by, label):
                groups[name] = groups.get(name, Sums()) + part
    return Report(dict(sorted(groups.items())), total)


def once(booked: Sequence[CostEntry], running: Sequence[CostEntry]) -> list[CostEntry]:
    """Entries of ended attempts and of live instances, each attempt once; what was booked goes first."""
    return list({(entry.instance_id, entry.attempt): entry for entry in (*running, *booked)}.values())


def _days(entry: CostEntry, first: date, last: date) -> Iterator[tuple[date, datetime, datetime]]:
    """The parts of an attempt's time by day, as far as they are in the range."""
    day = max(first, entry.up_at.astimezone(UTC).date())
    while day <= last:
        begin = datetime.combine(day, time(), UTC)
        if begin >= entry.gone_at:
            return
        yield day, max(begin, entry.up_at), min(begin + _DAY, entry.gone_at)
        day += _DAY


def _part(entry: CostEntry, begin: datetime, end: datetime) -> Sums:
    def cost(price: float) -> int:
        return micro_usd(price, entry.up_at, end) - micro_usd(price, entry.up_at, begin)

    actual = cost(entry.price_per_hour)
    sums = Sums(
        milliseconds=milliseconds(begin, end),
        actual=actual,
        planned=cost(entry.planned_per_hour),
        on_demand=actual if entry.on_demand_per_hour is None else cost(entry.on_demand_per_hour),
        simulated=actual if entry.mode == "simulation" else 0,
    )
    return replace(sums, saved=sums.on_demand - actual) if entry.use_spot else sums


def _names(entry: CostEntry, day: date, by: By, label: str | None) -> Sequence[str]:
    match by:
        case "day":
            return (day.isoformat(),)
        case "model":
            return (entry.model_name,)
        case "provider":
            return (entry.provider,)
        case "label":
            if label is not None:
                return (entry.labels.get(label, NO_LABEL),)
            return [f"{key}={value}" for key, value in entry.labels.items()] or (NO_LABEL,)
