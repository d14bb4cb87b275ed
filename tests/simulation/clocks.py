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
        if not self._chaos.rates.clocks or task is None or not self._chaos.on:
            return scheduler.now()
        return scheduler.now() + self._by(task.process.name)

    def _by(self, process: str) -> timedelta:
        if process not in self._wrong:
            most = self._chaos.rates.clocks
            self._wrong[process] = timedelta(seconds=Random(f"{process} {self._seed}").uniform(-most / 2, most / 2))
        return self._wrong[process]
