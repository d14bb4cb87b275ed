"""No node that serves or works is given up but for a reason that is true of the world."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from tests.simulation.oracles.facts import TRYING, Attempt, Event, Node, Oracle, Record, World, lifetime_ends, name
from tests.simulation.oracles.promises import DEFAULT_LIFETIME_MINUTES, FAILED_PROBES
from tests.simulation.oracles.spending import cost, month_is_spent

_OF_THE_ATTEMPT = ("too_many_recoveries", "too_many_attempts", "no_offers_left")
"""An instance ends for these because its attempt failed, for a reason of its own."""
MOMENT = timedelta(seconds=1)
"""The decision is some milliseconds older than its write."""


class Reasons(Oracle):
    """Judges each decision that gives up a node that is ready."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._probed: dict[str, int] = {}
        """Probes that had failed when a node became ready."""

    def changed(self, before: Record, record: Record, events: Sequence[Event]) -> None:
        if record.phase == "ready" and before.phase != "ready":
            last = record.attempts[-1].cluster_name
            node = self.world.nodes.get(last)
            self._probed[last] = 0 if node is None else node.failed_probes
        if before.phase != "ready" or record.phase == "ready":
            return
        last = before.attempts[-1]
        given_up = record.attempts[last.number - 1]
        if last.state not in TRYING:
            return
        failure = given_up.failure or record.ending
        if failure is None:
            self.world.violated(f"{name(record)}: its node is given up for no reason")
        elif not self._is_true(failure.reason, before, record, given_up):
            self.world.violated(f"{name(record)}: its node is given up as {failure.reason}, which it is not")

    def _is_true(self, reason: str, before: Record, record: Record, attempt: Attempt) -> bool:
        world, now = self.world, self.world.now() + MOMENT + self.world.terms.clocks
        node = world.nodes.get(attempt.cluster_name)
        match reason:
            case "user_request":
                # What an endpoint may do with its replicas is judged by the oracles of endpoints.
                return record.instance_id in world.deletes or record.replica_of is not None
            case "job_completed":
                return node is None or node.job_done_at is not None
            case "deadline":
                return now >= lifetime_ends(record, DEFAULT_LIFETIME_MINUTES)
            case "budget":
                return self._is_spent(before, now)
            case "idle":
                return self._is_idle(record, attempt, node, now)
            case "unhealthy":
                return node is None or self._is_sick(attempt.cluster_name, node)
            case "evicted" | "node_lost":
                return self._is_lost(attempt.cluster_name, node)
            case "poison_message":
                return world.given_up[record.instance_id] > world.terms.poisoned
            case _:
                return False

    def _is_spent(self, record: Record, now: datetime) -> bool:
        budget = record.request.budget_usd
        if budget is not None and cost(record, now) >= budget:
            return True
        return month_is_spent(self.world, record, now)

    def _is_idle(self, record: Record, attempt: Attempt, node: Node | None, now: datetime) -> bool:
        minutes = record.request.idle_minutes
        if minutes is None or attempt.ready_at is None or record.request.job is not None:
            return False
        return now >= attempt.ready_at + timedelta(minutes=minutes) and (node is None or not node.busy)

    def _is_sick(self, cluster: str, node: Node) -> bool:
        failed = node.failed_probes - self._probed.get(cluster, 0)
        return failed >= FAILED_PROBES or node.failing or not node.alive

    def _is_lost(self, cluster: str, node: Node | None) -> bool:
        if not self.world.runs(cluster) or cluster in self.world.lied or node is None:
            return True
        return not node.alive or node.noticed or node.failing
