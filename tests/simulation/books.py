"""A SkyPilot server whose books lose what they listed, and get it back some minutes later."""

from random import Random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.simulation.simulator import Simulator

EVERY = 60.0


class LostBooks:
    def __init__(self, simulator: "Simulator") -> None:
        self._simulator = simulator
        self._random = Random(f"lost books {simulator.seed}")
        if simulator.chaos.rates.books_lost and simulator.kind != "simulation":
            simulator.scheduler.after(EVERY, self._perhaps)

    def _perhaps(self) -> None:
        made, chaos = self._simulator, self._simulator.chaos
        if not chaos.on:
            return
        made.scheduler.after(EVERY, self._perhaps)
        if self._random.random() >= chaos.rates.books_lost:
            return
        # Of what was never seen in the books, their absence may be believed.
        listed = {
            one.attempts[-1].cluster_name
            for one in made.checks.records
            if one.attempts and one.attempts[-1].listed and not one.ended
        }
        made.sky.lose_books(listed, min(self._random.uniform(60, 600), chaos.until - made.scheduler.seconds))
