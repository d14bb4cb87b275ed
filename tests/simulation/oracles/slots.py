"""Each replica has a slot, each slot one instance; never more than asked for and one; what cannot start stops there."""

from collections.abc import Sequence

from tests.simulation.oracles.endpoint_facts import (
    Endpoint,
    EndpointOracle,
    Service,
    Slot,
    by_instance,
    short,
    target,
    with_state,
)
from tests.simulation.oracles.facts import Event, Machine, Record, World
from tests.simulation.oracles.promises import FAILED_STARTS, HOPELESS, SURGE


class Slots(EndpointOracle):
    def __init__(self, world: World, service: Service) -> None:
        super().__init__(world, service)
        self._slots: dict[str, tuple[str, int, int]] = {}
        """By instance: the id of its endpoint, the number of its slot, and its generation."""
        self._given: dict[tuple[str, int], str] = {}
        """Instances by the id of their endpoint and the number of their slot."""
        self._served: set[tuple[str, int]] = set()
        """Endpoint's id and generation of which a replica was ready."""
        self._failed: dict[tuple[str, int], list[str]] = {}
        """The same of which replicas failed, and which, in the order in which they ended."""

    def endpoint_changed(self, before: Endpoint | None, after: Endpoint | None) -> None:
        if after is None:
            return
        known = {one.number for one in before.slots} if before is not None else set[int]()
        added = [one for one in after.slots if one.number not in known]
        for slot in added:
            self._is_new(after, slot)
            self._may_start(before, after, slot)
        if added:
            self._are_few(after)

    def _is_new(self, endpoint: Endpoint, slot: Slot) -> None:
        there = self._given.setdefault((endpoint.endpoint_id, slot.number), slot.instance_id)
        if there != slot.instance_id or slot.instance_id in self._slots:
            self.world.violated(f"slot {slot.number} of {endpoint.name} is given to {slot.instance_id}, and to {there}")
        self._slots[slot.instance_id] = (endpoint.endpoint_id, slot.number, slot.generation)

    def _are_few(self, endpoint: Endpoint) -> None:
        records = by_instance(self.world)
        active, most = with_state(endpoint, "active"), target(endpoint) + SURGE
        draining = [
            one
            for one in with_state(endpoint, "draining")
            if one.instance_id in records and records[one.instance_id].phase == "ready"
        ]
        # What is missing is started beside those that drain; what replaces others waits for them.
        count = len(active) + (len(draining) if len(active) > target(endpoint) else 0)
        if count > most:
            self.world.violated(f"{endpoint.name} has {count} replicas, and {target(endpoint)} are asked for")

    def _may_start(self, before: Endpoint | None, endpoint: Endpoint, slot: Slot) -> None:
        """No replica of a generation that cannot start, once that is known, unless a person asks for it."""
        generation = (endpoint.endpoint_id, slot.generation)
        if before is None or generation in self._served or self.service.reads_old:
            return
        records, again = by_instance(self.world), self.service.resumes.get(endpoint.name)
        noticed = [one for one in self._failed.get(generation, ()) if not _is_active(before, one)]
        if again is not None:
            noticed = [one for one in noticed if (at := records[one].ended_at) is not None and at > again]
        hopeless = [one for one in noticed if (why := records[one].ending) is not None and why.reason in HOPELESS]
        if hopeless or len(noticed) >= FAILED_STARTS:
            self.world.violated(
                f"{endpoint.name} starts {short(slot.instance_id)} of generation {slot.generation}, "
                f"of which {[short(one) for one in noticed]} have failed"
            )

    def created(self, record: Record, events: Sequence[Event]) -> None:
        if record.replica_of is None:
            return
        slot = self._slots.get(record.instance_id)
        if slot is None:
            self.world.violated(f"{short(record.instance_id)} of {record.replica_of} is started without a slot")
        elif record.generation != slot[2]:
            self.world.violated(f"{short(record.instance_id)} is of generation {record.generation}, not {slot[2]}")

    def changed(self, before: Record, record: Record, events: Sequence[Event]) -> None:
        slot = self._slots.get(record.instance_id)
        if slot is None:
            return
        if record.phase == "ready":
            self._served.add((slot[0], slot[2]))
        elif record.phase == "failed" and before.phase != "failed":
            self._failed.setdefault((slot[0], slot[2]), []).append(record.instance_id)

    def machine_came(self, machine: Machine) -> None:
        slot = self._slots.get(_instance(machine.name))
        if slot is None:
            return
        others = [
            one.name
            for one in self.world.machines.values()
            if one.runs
            and one.name != machine.name
            and one.name not in self.world.lied
            and self._slots.get(_instance(one.name), ("", 0, 0))[:2] == slot[:2]
        ]
        if others:
            self.world.violated(f"{machine.name} comes while {others} runs: two nodes of one slot")


def _is_active(endpoint: Endpoint, instance_id: str) -> bool:
    return any(one.instance_id == instance_id and one.state == "active" for one in endpoint.slots)


def _instance(cluster: str) -> str:
    return f"inst-{cluster[3:29].upper()}"
