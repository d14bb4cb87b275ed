"""Keep the live prices at most a day old."""

from datetime import datetime

from shared.control.prices import PriceKeeper
from shared.control.sweep.base import TaskRun, Walk


class PriceRefresh:
    """Takes one small step of the price keeper."""

    name = "prices"

    def __init__(self, prices: PriceKeeper | None) -> None:
        self._prices = prices

    def begin(self, now: datetime) -> TaskRun:
        """Start a run."""
        return TaskRun() if self._prices is None else _Run(self._prices, now)


class _Run(TaskRun):
    def __init__(self, prices: PriceKeeper, now: datetime) -> None:
        self._prices = prices
        self._now = now

    def finish(self, walk: Walk) -> int:  # noqa: ARG002
        self._prices.step(self._now)
        return 0
