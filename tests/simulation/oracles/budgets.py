"""No instance outlives its lifetime, idle time, own budget or a month's, by more than the sweep takes to notice."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from tests.simulation.oracles.facts import ENDED, TRYING, Event, Oracle, Record, World, lifetime_ends, name
from tests.simulation.oracles.promises import DEFAULT_LIFETIME_MINUTES, late
from tests.simulation.oracles.spending import cost, month_is_spent


class Limits(Oracle):
    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._spent: dict[str, datetime] = {}
        """When an instance was first seen to have used up its own budget, or its month's."""
        self._ready: dict[str, datetime] = {}

    def changed(self, before: Record, record: Record, events: Sequence[Event]) -> None:
        if record.phase == "ready" and before.phase != "ready":
            self._ready[record.instance_id] = self.world.now()

    def look(self) -> None:
        for record in self.world.records():
            if record.phase in ENDED or record.phase == "terminating":
                continue
            for what, since in self._broken(record):
                if (lives := self.world.calm_seconds(since)) > late(self.world):
                    self.world.violated(f"{name(record)} lives {lives:.0f} s after {what}")

    def _broken(self, record: Record) -> list[tuple[str, datetime]]:
        """What should have ended it, and since when."""
        world, now = self.world, self.world.now()
        found = [("its lifetime", lifetime_ends(record, DEFAULT_LIFETIME_MINUTES))]
        budget = record.request.budget_usd
        if budget is not None and cost(record, now) >= budget:
            found.append(("its budget", self._spent.setdefault(record.instance_id, now)))
        if month_is_spent(world, record, now):
            found.append(("its month's budget", self._spent.setdefault(f"{record.instance_id} month", now)))
        idle = self._idle_since(record)
        if idle is not None:
            found.append(("its idle time", idle))
        return found

    def _idle_since(self, record: Record) -> datetime | None:
        """When its idle time was over; None: it has none, works, or is not ready."""
        minutes, last = record.request.idle_minutes, record.attempts[-1] if record.attempts else None
        if minutes is None or record.request.job is not None or record.phase != "ready":
            return None
        if last is None or last.state not in TRYING:
            return None
        node = self.world.nodes.get(last.cluster_name)
        if self.world.nodes and (node is None or node.busy or not node.alive):
            return None
        since = max(self._ready.get(record.instance_id, record.phase_since), self.world.calm_at)
        return since + timedelta(minutes=minutes)
