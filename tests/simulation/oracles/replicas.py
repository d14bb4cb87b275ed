"""As many replicas as asked for, in time: none without its endpoint, none of a deleted one, none missing for long."""

from dataclasses import dataclass
from datetime import datetime

from tests.simulation.oracles.endpoint_facts import (
    Endpoint,
    EndpointOracle,
    Service,
    by_instance,
    short,
    target,
    with_state,
)
from tests.simulation.oracles.facts import ENDED, Record, World
from tests.simulation.oracles.promises import SURGE, late, start, teardown


@dataclass
class _State:
    """What an endpoint asks for and has, and since when: any change of it puts off what is due."""

    asked: tuple[object, ...]
    since: datetime


class Replicas(EndpointOracle):
    def __init__(self, world: World, service: Service) -> None:
        super().__init__(world, service)
        self._strays: dict[str, datetime] = {}
        self._asked: dict[str, _State] = {}
        self._ready: dict[str, _State] = {}

    def endpoint_changed(self, before: Endpoint | None, after: Endpoint | None) -> None:
        if after is not None or before is None:
            return
        running = {one.name for one in self.world.machines.values() if one.runs} - set(self.world.lied)
        left = [one for one in before.slots if any(short(one.instance_id).lower() in name[:29] for name in running)]
        records = by_instance(self.world)
        left = [one for one in left if one.instance_id in records]
        if not before.deleting or left:
            self.world.violated(f"{before.name} is removed, with {len(left)} replicas that run")

    def look(self) -> None:
        records = [one for one in by_instance(self.world).values() if one.phase not in ENDED]
        self._look_for_strays(records)
        for endpoint in self.service.rows.values():
            own = [one for one in records if _belongs(one, endpoint)]
            self._is_small_in_time(endpoint, own)
            self._is_served_in_time(endpoint, own)

    def _look_for_strays(self, records: list[Record]) -> None:
        slots = {slot.instance_id for one in self.service.rows.values() for slot in one.slots}
        strays = [
            one.instance_id
            for one in records
            if one.instance_id not in slots
            and one.phase != "terminating"
            and one.instance_id not in self.world.unreadable
            and self.service.used_since(one.instance_id) is None
        ]
        self._strays = {one: self._strays.get(one, self.world.now()) for one in strays}
        for one, since in self._strays.items():
            if self.world.calm_seconds(since) > 2 * late(self.world):
                self.world.violated(f"{short(one)} has no slot of any endpoint since {since}, and is not terminated")

    def _is_small_in_time(self, endpoint: Endpoint, own: list[Record]) -> None:
        """What is too much drains and ends; a deleted endpoint leaves nothing."""
        asked = (endpoint.endpoint_id, target(endpoint), endpoint.deleting, endpoint.generations[-1].number)
        state = self._asked.get(endpoint.name)
        if state is None or state.asked != asked:
            state = self._asked[endpoint.name] = _State(asked, self.world.now())
        passed = self.world.calm_seconds(state.since)
        # Draining, then ending, and whatever a start that is given up has to be waited for.
        bound = endpoint.drain_seconds + teardown(self.world) + 3 * late(self.world)
        most = target(endpoint) and target(endpoint) + SURGE
        # One that is being ended makes room for its successor already; that it does end is watched for all instances.
        stay = [one for one in own if one.phase != "terminating"]
        if passed > bound and len(stay) > most:
            self.world.violated(
                f"{endpoint.name} has {len(stay)} replicas, {target(endpoint)} are asked for since long"
            )
        if endpoint.deleting and passed > bound + late(self.world):
            self.world.violated(f"{endpoint.name} is still there {passed:.0f} s after its deletion was asked for")

    def _is_served_in_time(self, endpoint: Endpoint, own: list[Record]) -> None:
        """In the calm as many serve as asked for, if its launches can serve at all and may be started."""
        ready = {one.instance_id for one in own if one.phase == "ready"}
        active = {one.instance_id for one in with_state(endpoint, "active")}
        asked = (endpoint.endpoint_id, target(endpoint), endpoint.generations[-1].number, frozenset(ready & active))
        state = self._ready.get(endpoint.name)
        if state is None or state.asked != asked:
            state = self._ready[endpoint.name] = _State(asked, self.world.now())
        terms = self.world.terms
        limited = terms.max_instances is not None or terms.monthly_budget_usd is not None
        cannot = any((endpoint.endpoint_id, one.number) in self.service.broken_launches for one in endpoint.generations)
        if limited or cannot or len(ready & active) >= target(endpoint):
            return
        if (passed := self.world.calm_seconds(state.since)) > start(self.world):
            self.world.violated(
                f"{endpoint.name} has {len(ready & active)} of {target(endpoint)} replicas for {passed:.0f} s"
            )


def _belongs(record: Record, endpoint: Endpoint) -> bool:
    return record.replica_of == endpoint.name and any(one.instance_id == record.instance_id for one in endpoint.slots)
