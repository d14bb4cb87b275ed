"""Keep the live prices at most a day old."""

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from shared.control.sweep.base import TaskRun, Walk


class PriceSteps(Protocol):
    """Keeps prices fresh, one small step a call; never raises."""

    def step(self, now: datetime) -> None:
        """Take one step."""
        ...


@dataclass(frozen=True)
class PriceRefresh:
    """Takes one small step of the price keeper."""

    name = "prices"

    prices: PriceSteps | None

    def begin(self, now: datetime) -> TaskRun | None:
        """Start a run."""
        return None if self.prices is None else _Run(self.prices, now)


@dataclass
class _Run(TaskRun):
    prices: PriceSteps
    now: datetime

    def finish(self, walk: Walk) -> int:  # noqa: ARG002
        self.prices.step(self.now)
        return 0
