"""Four made traces: steps, spikes, a day's wave, and a trickle with long pauses. The same for the same seed."""

import math
import random
from collections.abc import Callable
from dataclasses import dataclass

from bench.scaler.nodes import READ_TOKENS

HOUR = 3600.0


@dataclass(frozen=True)
class Trace:
    name: str
    at: list[float]
    """When requests come, in ascending seconds."""
    work: list[float]
    """Of each, in tokens to be generated."""

    @property
    def mean_work(self) -> float:
        return sum(self.work) / len(self.work)


def made(seed: int) -> list[Trace]:
    """All four, drawn anew for each seed."""
    draw = random.Random(seed)  # noqa: S311 - repeatable on purpose
    at = {
        "steps": _poisson(_steps, 6.0, 4 * HOUR, draw),
        "spikes": _poisson(_spikes, 10.0, 4 * HOUR, draw),
        "daily": _poisson(_daily, 4.2, 24 * HOUR, draw),
        "sparse": _sparse(draw),
    }
    return [Trace(name, times, [work_of(draw) for _ in times]) for name, times in at.items()]


def work_of(draw: random.Random) -> float:
    """Of a request in a conversation: lengths lognormal like those of Azure's 2023 trace, medians 140 and 900."""
    written = min(1500.0, max(2.0, draw.lognormvariate(math.log(140), 0.9)))
    read = min(8000.0, max(10.0, draw.lognormvariate(math.log(900), 1.0)))
    return written + read / READ_TOKENS


def _steps(at: float) -> float:
    """Requests per second: one, six, two, none, four."""
    ends = {300: 0.0, 2400: 1.0, 6000: 6.0, 9000: 2.0, 11_400: 0.0, 13_800: 4.0}
    return next((rate for end, rate in ends.items() if at < end), 0.0)


def _spikes(at: float) -> float:
    """Ten times as many for 150 s of every 45 minutes."""
    return 10.0 if at % 2700 > 2550 else 0.8


def _daily(at: float) -> float:
    """From 6 to 20 o'clock, with the peak between."""
    hour = at / HOUR % 24
    if not 6 <= hour <= 20:
        return 0.05
    return 0.15 + 4.0 * math.sin(math.pi * (hour - 6) / 14) ** 2


def _sparse(draw: random.Random) -> list[float]:
    """Up to 60 requests within 90 s, about every 25 minutes, for eight hours."""
    times: list[float] = []
    begins = 0.0
    for _ in range(20):
        begins += draw.expovariate(1 / 1500)
        times += [begins + draw.uniform(0, 90) for _ in range(draw.randrange(1, 60))]
    return sorted(one for one in times if one < 8 * HOUR)


def _poisson(rate: Callable[[float], float], most: float, seconds: float, draw: random.Random) -> list[float]:
    """Times at a rate that changes, by thinning those at its highest."""
    times: list[float] = []
    at = draw.expovariate(most)
    while at < seconds:
        if draw.uniform(0, most) < rate(at):
            times.append(at)
        at += draw.expovariate(most)
    return times
