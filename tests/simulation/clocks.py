"""Clocks of workers that are wrong until faults end: each by its own amount, two of them by the rate at most."""

from datetime import datetime, timedelta
from random import Random

from tests.simulation.chaos import Chaos


class Clocks:
    """The program's clock: that of the process which asks."""

    def __init__(self, chaos: Chaos, seed: int) -> None:
        self._chaos = chaos
        self._seed = seed
        self._wrong: dict[str, timedelta] = {}

    def now(self) -> datetime:
        scheduler = self._chaos.scheduler
        task = scheduler.current
        return scheduler.now() if task is None else self.now_of(task.process.name)

    def now_of(self, process: str) -> datetime:
        """What the clock of a process says."""
        now = self._chaos.scheduler.now()
        return now + self._by(process) if self._chaos.rates.clocks and self._chaos.on else now

    def _by(self, process: str) -> timedelta:
        if process not in self._wrong:
            most = self._chaos.rates.clocks
            self._wrong[process] = timedelta(seconds=Random(f"{process} {self._seed}").uniform(-most / 2, most / 2))
        return self._wrong[process]
