"""An Idempotency-Key stands for one body and one instance, and is kept for a week."""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from tests.simulation.oracles.facts import Oracle, World
from tests.simulation.oracles.promises import KEY_EXPIRY_LATE, KEY_KEPT_DAYS


class Keys(Oracle):
    """
    Parameters
    ----------
    stored
        When the launches were accepted whose keys storage still has.
    """

    def __init__(self, world: World, stored: Callable[[], Sequence[datetime]]) -> None:
        super().__init__(world)
        self._stored = stored
        self._bodies: dict[str, str] = {}
        self._instances: dict[str, str] = {}

    def key_answered(self, key: str, body: str, status: int, instance_id: str) -> None:
        if status != 202:
            return
        if self._bodies.setdefault(key, body) != body:
            self.world.violated(f"{key} was accepted with two bodies")
        if self._instances.setdefault(key, instance_id) != instance_id:
            self.world.violated(f"{key} stands for {self._instances[key]} and {instance_id}")

    def look(self) -> None:
        late = timedelta(days=KEY_KEPT_DAYS, seconds=KEY_EXPIRY_LATE)
        if self.world.now() - self.world.calm_at < late:
            return
        old = [one for one in self._stored() if self.world.now() - one > late]
        if old:
            self.world.violated(f"the key of a launch of {min(old)} is still kept")
