"""No machine stays in the cloud unseen: a record knows it, or the garbage collection reports it, or it goes."""

from collections.abc import Callable, Collection
from datetime import datetime

from tests.simulation.oracles.facts import ENDED, Oracle, World
from tests.simulation.oracles.promises import unseen


class Unseen(Oracle):
    """
    Parameters
    ----------
    there
        Whatever there is of clusters in the cloud, machines or not.
    reported
        Clusters that `GET /api/garbage` shows.
    """

    def __init__(
        self, world: World, there: Callable[[], Collection[str]], reported: Callable[[], Collection[str]]
    ) -> None:
        super().__init__(world)
        self._there = there
        self._reported = reported
        self._since: dict[str, datetime] = {}

    def look(self) -> None:
        unknown = set(self._there()) - set(self.world.neighbours())
        if unknown:
            unknown -= self._known()
        if not unknown:
            self._since.clear()
            return
        now = self.world.now()
        self._since = {one: self._since.get(one, now) for one in sorted(unknown)}
        most = unseen(self.world)
        late = [one for one, since in self._since.items() if self.world.calm_seconds(since) > most]
        if late:
            late = [one for one in late if one not in self._reported()]
        for one in late:
            self.world.violated(f"{one} is in the cloud since {self._since[one]}, known to no record and not reported")

    def _known(self) -> set[str]:
        return {
            attempt.cluster_name
            for record in self.world.records()
            if record.phase not in ENDED
            for attempt in record.attempts
            if attempt.gone_at is None
        }
