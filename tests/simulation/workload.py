"""What a deployment is used for in a seed, and when: some users on an ordinary day, most of the time.

A share of the seeds begins shortly before a month's end, a few have forty users at once, and very few last for weeks.
Draws are of their own, so that an ordinary seed is the same whatever shares there are.
"""

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Literal

from tests.simulation.chaos import Rates
from tests.twins.clock import START

MONTH_ENDS, CROWDS, WEEKS = 0.15, 0.01, 0.004
"""Shares of the seeds."""
_NEXT_MONTH = datetime(2026, 2, 1, tzinfo=UTC)


@dataclass(frozen=True, kw_only=True)
class Workload:
    name: Literal["ordinary", "month's end", "crowd", "weeks", "endpoints"] = "ordinary"
    start: datetime = START
    users: int | None = None
    """None: two to five."""
    arrivals: float = 200.0
    """Seconds in which all users come."""
    first: float | None = None
    """Seconds in which the first one does; None: as the others."""
    length: float = 0.0
    """Seconds for which it goes on at least."""
    faults: float | None = None
    """Seconds after which nothing goes wrong any more; None: as drawn."""
    pace: float = 1.0
    """How much rarer than in life the sweep is, and what comes as often: heartbeats, looks."""
    lease: str | None = None
    lifetimes: tuple[int, ...] = (1, 4, 8, 20)
    """Minutes, so are the idle times."""
    idle_times: tuple[int, ...] = (1, 3, 10)
    budgets: tuple[float, ...] = (0.01, 0.05, 0.5)
    months: tuple[str, ...] = ("60", "120", "1000")
    """Monthly budgets, USD."""


def workload_of(seed: int) -> Workload:
    random = Random(f"workload {seed}")
    drawn = random.random()
    if drawn < WEEKS:
        return Workload(
            name="weeks",
            # The sweep comes twice an hour, in the half minutes in which its rarer tasks are due.
            start=datetime(2026, 1, 17, 9, tzinfo=UTC),
            users=random.randint(2, 4),
            arrivals=13 * 86400.0,
            first=3600.0,
            length=21 * 86400.0,
            faults=36000.0,
            pace=60.0,
            lease="86400",
            lifetimes=(60, 1440, 14400),
            idle_times=(60, 1440, 2880),
            budgets=(2.0, 40.0, 400.0),
            months=("500", "3000", "20000"),
        )
    if drawn < WEEKS + CROWDS:
        return Workload(name="crowd", users=40, arrivals=3.0, faults=200.0)
    if drawn < WEEKS + CROWDS + MONTH_ENDS:
        start = _NEXT_MONTH - timedelta(milliseconds=random.randint(1, 2_400_000))
        return Workload(name="month's end", start=start)
    return Workload()


def endpoints_of(seed: int) -> Workload:
    """Of a seed with endpoints: few launches by themselves beside them, and more time for what they go through."""
    random = Random(f"workload of endpoints {seed}")
    return Workload(
        name="endpoints", users=random.choice((0, 0, 1, 2)), faults=random.choice((600.0, 900.0, 1500.0, 2400.0))
    )


def money_of(seed: int, workload: Workload, drawn: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
    """What the deployment counts: a crowd always meets a limit, which bounds what it costs to simulate."""
    random = Random(f"money {seed}")
    if workload.name == "crowd":
        most = ("GPULAUNCH_MAX_INSTANCES", random.choice(("3", "6", "9")))
        return (("GPULAUNCH_MONTHLY_BUDGET_USD", random.choice(("60", "120", "1000"))), most)
    if workload.name == "weeks":
        return tuple((name, random.choice(workload.months) if "MONTHLY" in name else value) for name, value in drawn)
    return drawn


def rates_of(seed: int, workload: Workload, drawn: Rates) -> Rates:
    """In some of the seeds that last for weeks nothing can be deleted for hours."""
    if workload.name != "weeks" or Random(f"rates {seed}").random() < 0.5:
        return drawn
    return replace(drawn, down_fails=1.0, message_lost=0.0, delete=0.9, release_lies=0.0)
