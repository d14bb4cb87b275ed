"""Keep the live prices at most a day old."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from shared.control.sweep.base import TaskRun, Walk


@dataclass(frozen=True)
class PriceRefresh:
    name = "prices"

    step: Callable[[datetime], None] | None
    """One small step of what keeps prices fresh; never raises. None: the prices stay as they are."""

    def begin(self, now: datetime) -> TaskRun | None:
        return None if self.step is None else _Run(self.step, now)


@dataclass
class _Run(TaskRun):
    step: Callable[[datetime], None]
    now: datetime

    def finish(self, walk: Walk) -> int:  # noqa: ARG002
        self.step(self.now)
        return 0
