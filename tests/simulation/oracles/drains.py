"""A replica in use ends only once its gateways have left it, or its time to drain is over; and never too many drain."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from tests.simulation.oracles.endpoint_facts import (
    Endpoint,
    EndpointOracle,
    Request,
    Service,
    Slot,
    by_instance,
    short,
    target,
    with_state,
)
from tests.simulation.oracles.facts import Event, Record, World
from tests.simulation.oracles.promises import SEEN_IN_USE
from tests.simulation.oracles.reasons import MOMENT


class Drains(EndpointOracle):
    def __init__(self, world: World, service: Service) -> None:
        super().__init__(world, service)
        self._draining: dict[str, datetime] = {}
        """Since when, by instance."""
        self._released: dict[str, bool] = {}
        """By instance: whether its time to drain was over when it was released."""

    def endpoint_changed(self, before: Endpoint | None, after: Endpoint | None) -> None:
        if before is None or after is None:
            return
        were = {one.number: one for one in before.slots}
        for slot in after.slots:
            was = were.get(slot.number)
            if was is None or was.state == slot.state:
                continue
            if slot.state == "draining":
                self._draining[slot.instance_id] = self.world.now()
            elif slot.state == "active":
                self._draining.pop(slot.instance_id, None)
            else:
                self._release(after, was, slot)

    def _release(self, endpoint: Endpoint, was: Slot, slot: Slot) -> None:
        since = self._draining.get(slot.instance_id)
        drained = timedelta(0) if since is None else self.world.now() - since
        # Workers' clocks say when it began and when it is over, and decisions are older than their writes.
        began = self.world.now() - self.service.step_began()
        over = drained + MOMENT + began + 2 * self.world.terms.clocks >= timedelta(seconds=endpoint.drain_seconds)
        record = by_instance(self.world).get(slot.instance_id)
        # One without a route is in no gateway's list: it got ready while it was decided that it is not needed.
        if record is None or record.phase != "ready" or was.route is None:
            return
        self._released[slot.instance_id] = over
        if over:
            return
        if was.state == "active" and self.service.reads_old:
            self._released.pop(slot.instance_id)  # by a record from before it was ready
        elif was.state == "active":
            self.world.violated(f"{short(slot.instance_id)} serves and is released without draining")
        elif uses := self.service.nodes_of(slot.instance_id):
            self.world.violated(f"{short(slot.instance_id)} is released after {drained}, in use by {dict(uses)}")
        elif self._is_used(slot.instance_id):
            self.world.violated(f"{short(slot.instance_id)} is released after {drained}, in use by its own address")

    def _is_used(self, instance_id: str) -> bool:
        used = self.service.used_since(instance_id)
        return used is not None and (self.service.step_began() - used).total_seconds() > SEEN_IN_USE

    def routed(self, request: Request, instance_id: str) -> None:
        if self._released.get(instance_id) is False:
            self.world.violated(f"request {request.number} is sent to {short(instance_id)}, which was released in time")

    def changed(self, before: Record, record: Record, events: Sequence[Event]) -> None:
        """Whoever ends a ready replica by the endpoint's own act has released its slot before."""
        if before.phase != "ready" or record.phase != "terminating" or record.replica_of is None:
            return
        why = record.ending
        if why is None or why.reason != "user_request" or record.instance_id in self.world.deletes:
            return
        endpoint = self.service.rows.get(record.replica_of)
        slots = () if endpoint is None else endpoint.slots
        slot = next((one for one in slots if one.instance_id == record.instance_id), None)
        if slot is not None and slot.state != "releasing":
            self.world.violated(f"{short(record.instance_id)} is ended, and its slot is {slot.state}")
        elif slot is None and self.service.uses(record.instance_id):
            self.world.violated(f"{short(record.instance_id)} is ended as a stray, and is in use")


class Steady(EndpointOracle):
    """By its own act the program never has fewer replicas serve than are asked for; evictions aside."""

    def __init__(self, world: World, service: Service) -> None:
        super().__init__(world, service)
        self._lost: dict[str, datetime] = {}
        """When a replica was ready for the last time, which no longer is."""

    def changed(self, before: Record, record: Record, events: Sequence[Event]) -> None:
        if before.phase == "ready" and record.phase != "ready":
            self._lost[record.instance_id] = self.world.now()

    def endpoint_changed(self, before: Endpoint | None, after: Endpoint | None) -> None:
        if before is None or after is None or self.service.reads_old:
            return
        records, began = by_instance(self.world), self.service.step_began()

        def serves(slot: Slot) -> bool:
            record = records.get(slot.instance_id)
            return record is not None and record.phase == "ready"

        def served(slot: Slot) -> bool:
            """Now, or when the step that decides so read it."""
            lost = self._lost.get(slot.instance_id)
            return serves(slot) or (lost is not None and lost >= began)

        active = {one.number for one in with_state(before, "active")}
        given_up = [one for one in with_state(after, "draining", "releasing") if one.number in active and serves(one)]
        left = [one for one in with_state(after, "active") if served(one)]
        if given_up and len(left) < target(after):
            names = ", ".join(short(one.instance_id) for one in given_up)
            self.world.violated(f"{after.name} gives {names} up, and {len(left)} of {target(after)} serve on")
