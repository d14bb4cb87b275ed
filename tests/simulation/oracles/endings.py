"""A DELETE that was answered with 202 ends: the instance is terminated, and its machine no longer exists."""

from datetime import datetime

from tests.simulation.oracles.facts import ENDED, Oracle, World, name
from tests.simulation.oracles.promises import teardown


class Deletions(Oracle):
    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._promised: dict[str, datetime] = {}

    def deletion_promised(self, instance_id: str) -> None:
        self._promised.setdefault(instance_id, self.world.now())
        for record in self.world.records():
            begun = record.phase in ("terminating", *ENDED) or instance_id in self.world.unreadable
            if record.instance_id == instance_id and not begun:
                self.world.violated(f"{name(record)} is {record.phase} although its DELETE was accepted")

    def look(self) -> None:
        if not self._promised:
            return
        bound = teardown(self.world)
        for record in self.world.records():
            since = self._promised.get(record.instance_id)
            if since is None:
                continue
            if record.phase in ENDED:
                del self._promised[record.instance_id]
                self._machines_are_gone(record.instance_id)
            elif (waited := self.world.calm_seconds(since)) > bound:
                self.world.violated(f"{name(record)} is {record.phase} {waited:.0f} s after its DELETE was accepted")

    def _machines_are_gone(self, instance_id: str) -> None:
        prefix = f"gl-{instance_id[5:].lower()}-"
        left = [one for one in self.world.machines.values() if one.name.startswith(prefix) and one.runs]
        for machine in left:
            if machine.name not in self.world.lied:
                self.world.violated(f"{machine.name} runs although its instance was deleted")
