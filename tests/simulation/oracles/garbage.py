"""What is not deleted of garbage is reported: an alert when nodes wait for a person, or stay; none without them."""

import re
from collections.abc import Callable, Collection
from datetime import datetime, timedelta

from tests.simulation.oracles.facts import Alert, Oracle, World
from tests.simulation.oracles.promises import SLACK, STAYING

_CLUSTER = re.compile(r"gl-[0-9a-z]{26}-[0-9]{2,}")
_PASS = timedelta(minutes=5)
"""Two passes of the garbage collection, of which one may fail."""


class GarbageAlerts(Oracle):
    """
    Parameters
    ----------
    waiting
        Clusters that wait for a confirmation, as `GET /api/garbage` shows them.
    """

    def __init__(self, world: World, waiting: Callable[[], Collection[str]]) -> None:
        super().__init__(world)
        self._waiting = waiting
        self._since: dict[str, datetime] = {}
        self._named: set[str] = set()

    def alerted(self, alert: Alert) -> None:
        kind, _, reason = str(alert.body["type"]).partition(".")
        if kind != "garbage" or reason not in ("waiting", "unlabelled", "staying"):
            return
        names = set(_CLUSTER.findall(alert.body["data"]["message"]))
        if reason == "waiting":
            self._named |= names
        wrong = {one for one in names if self._is_known(one)}
        if wrong:
            self.world.violated(f"an alert calls {sorted(wrong)} garbage ({reason}), which live records have")
        if reason == "staying":
            long_ago = self.world.now() - timedelta(seconds=STAYING)
            young = [one for one in names if one in self.world.machines and self.world.machines[one].began > long_ago]
            if young:
                self.world.violated(f"an alert says that {sorted(young)} stay, which have just come")

    def look(self) -> None:
        if self.world.alerts_may_be_lost:
            return
        now, waiting = self.world.now(), self._waiting()
        self._since = {one: self._since.get(one, now) for one in sorted(waiting)}
        for one in sorted(set(waiting) - self._named):
            since = self._since[one]
            if since >= self.world.calm_at and self.world.calm_seconds(since) > SLACK:
                self.world.violated(f"{one} waits for a confirmation, and no alert says so")

    def _is_known(self, cluster: str) -> bool:
        """Whether a live record has it, and had it for longer than what the collection read is old."""
        for record in self.world.records():
            for attempt in record.attempts[-1:]:
                if attempt.cluster_name == cluster and attempt.gone_at is None and record.ended_at is None:
                    return self.world.now() - attempt.started_at > _PASS
        return False
