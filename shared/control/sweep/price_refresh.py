"""Keep the live prices at most a day old."""

from datetime import datetime
from typing import Protocol

from shared.control.sweep.base import TaskRun, Walk


class PriceSteps(Protocol):
    """Keeps prices fresh, one small step a call; never raises."""

    def step(self, now: datetime) -> None:
        """Take one step."""
        ...


class PriceRefresh:
    """Takes one small step of the price keeper."""

    name = "prices"

    def __init__(self, prices: PriceSteps | None) -> None:
        self._prices = prices

    def begin(self, now: datetime) -> TaskRun | None:
        """Start a run."""
        return None if self._prices is None else _Run(self._prices, now)


class _Run(TaskRun):
    def __init__(self, prices: PriceSteps, now: datetime) -> None:
        self._prices = prices
        self._now = now

    def finish(self, walk: Walk) -> int:  # noqa: ARG002
        self._prices.step(self._now)
        return 0
