"""A job runs once: a reported result ends the instance, and at most one is discarded."""

from collections import Counter
from collections.abc import Sequence

from tests.simulation.oracles.facts import TRYING, Event, Oracle, Record, World, name

MAY_BE_DISCARDED = 1
"""Results of nodes that were alive when they were given up."""


class Jobs(Oracle):
    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._discarded: Counter[str] = Counter()

    def changed(self, before: Record, record: Record, events: Sequence[Event]) -> None:
        if record.request.job is None:
            return
        if len(record.attempts) > len(before.attempts) and any(one.job is not None for one in before.attempts):
            self.world.violated(f"{name(record)} runs its job again, whose result is known")
        last = before.attempts[-1] if before.attempts else None
        if last is None or last.state not in TRYING:
            return
        given_up = record.attempts[last.number - 1]
        if given_up.state in TRYING or given_up.job is not None:
            return
        node = self.world.nodes.get(last.cluster_name)
        if node is None or not node.alive or node.job_done_at is None or record.phase == "terminating":
            return
        if node.result_told_at is not None:
            self.world.violated(f"{name(record)} discards the result of its job, which was reported")
        self._discarded[record.instance_id] += 1
        if self._discarded[record.instance_id] > MAY_BE_DISCARDED:
            self.world.violated(f"{name(record)} discarded {self._discarded[record.instance_id]} results of its job")

    def look(self) -> None:
        for record in self.world.records():
            last = record.attempts[-1] if record.attempts else None
            if last is None or record.request.job is None or last.state not in TRYING or last.job is not None:
                continue
            node = self.world.nodes.get(last.cluster_name)
            if node is not None and node.result_told_at is not None:
                self.world.violated(f"{name(record)} does not know the result of its job, which was reported")
