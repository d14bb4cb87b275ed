"""What a seed with endpoints has beside the ordinary world: gateways, clients, users of endpoints, and the facts."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from random import Random
from typing import TYPE_CHECKING

from gateway.table import unsealer
from gpulaunch.models.vllm_arguments import requests_at_once
from shared.domain.endpoint import EndpointRecord
from tests.simulation.endpoints.clients import Call, Client
from tests.simulation.endpoints.gateways import GatewayProcess, Gateways
from tests.simulation.endpoints.serving import used_directly
from tests.simulation.endpoints.store import FaultyEndpointStore
from tests.simulation.endpoints.users import BROKEN, EndpointUser
from tests.simulation.nodes import LAST_PHASE, Node
from tests.simulation.oracles.drains import Drains, Steady
from tests.simulation.oracles.endpoint_facts import EndpointOracle, Key, Request, Service
from tests.simulation.oracles.facts import World
from tests.simulation.oracles.replicas import Replicas
from tests.simulation.oracles.slots import Slots
from tests.simulation.oracles.traffic import Counters, Ledger
from tests.simulation.scheduler import Process

if TYPE_CHECKING:
    from tests.simulation.simulator import Simulator


class EndpointWorld:
    def __init__(self, simulator: "Simulator") -> None:
        self.simulator = simulator
        self.service = Service(
            step_began=self._step_began,
            reads_old=simulator.chaos.rates.stale > 0,
            nodes_of=self._nodes_of,
            under_way=lambda name: {one.instance_id for one in self.gateways.by_name[name].serving},
            troubled=self._troubled,
            has_room=self._has_room,
            used_since=self._used_since,
        )
        self.store = FaultyEndpointStore(simulator.chaos, self._written, simulator.versions)
        self.random = Random(f"endpoints {simulator.seed}")
        self.keys: list[Key] = []
        self.oracles: Sequence[EndpointOracle] = ()
        self.names: list[str] = []
        self.users: list[EndpointUser] = []
        self.clients: list[Client] = []
        self._count = 0
        self._unsealed: dict[str, str] = {}
        self._unseal = unsealer(simulator.deriver.gateway_key())
        self.gateways = Gateways(self)

    # What the simulator does with it.

    def open(self) -> None:
        scheduler, random = self.simulator.scheduler, self.random
        self.gateways.open()
        for number in range(random.choice((1, 1, 2))):
            user = EndpointUser(self, f"chat-{number}")
            self.names.append(user.name)
            self.users.append(user)
            scheduler.spawn(f"user of {user.name}", Process(f"user of {user.name}"), user.live)
            self.clients += [Client(self, user.name, one) for one in range(random.choice((1, 2)))]
        for client in self.clients:
            client.begin()

    def judged_in(self, world: World) -> Sequence[EndpointOracle]:
        """The oracles of a world with endpoints."""
        self.oracles = [one(world, self.service) for one in (Slots, Replicas, Drains, Steady, Ledger, Counters)]
        return self.oracles

    def settled(self) -> bool:
        """Whether each endpoint is as it is asked to be, as far as it can be."""
        records = {one.instance_id: one for one in self.simulator.checks.records}
        for endpoint in self.rows():
            states = [(one.state, records.get(one.instance_id)) for one in endpoint.slots]
            if endpoint.deleting or any(state != "active" for state, _ in states):
                return False
            if any(record is None or record.phase.value != "ready" for _, record in states):
                return False
            stuck = endpoint.failures > 0 or endpoint.wanted.stopped is not None
            current = all(one.generation == endpoint.wanted.number for one in endpoint.slots)
            if not stuck and (len(states) != endpoint.target or not current):
                return False
        return all(user.done for user in self.users)

    def is_deleting(self, name: str | None) -> bool:
        """Whether an endpoint is being deleted, or is about to be, or is no more."""
        user = next((one for one in self.users if one.name == name), None)
        return user is not None and not user.keeps

    def rows(self) -> list[EndpointRecord]:
        found = [self.store.there(name) for name in self.names]
        return [one.record for one in found if one is not None]

    def leave(self) -> None:
        """Delete all endpoints; clients go."""
        for client in self.clients:
            client.done = True
        for user in self.users:
            self.simulator.scheduler.spawn(f"{user.name} leaves", Process(user.name), user.leave)

    def close(self) -> None:
        self.gateways.close()

    # Requests.

    def keys_of(self, endpoint: str) -> list[Key]:
        return [one for one in self.keys if one.endpoint == endpoint][-4:]

    def send(
        self, key: Key, gateway: GatewayProcess, seconds: float, hold_seconds: float | None, *, is_stream: bool
    ) -> Call:
        self._count += 1
        request = Request(self._count, key, gateway.name, self.now(), hold_seconds, seconds, is_stream)
        self.service.requests[request.number] = request
        return Call(self, request, gateway, key.endpoint)

    def routed(self, request: Request, instance_id: str) -> None:
        for oracle in self.oracles:
            oracle.routed(request, instance_id)

    def ended(self, request: Request) -> None:
        del self.service.requests[request.number]
        gateway = self.gateways.by_name[request.gateway]
        gateway.fact.broken += request.outcome == "broken"
        node = f", on {request.tried[-1][-7:]}" if request.tried else ""
        said = f"{request.outcome} {request.status} {request.code}".strip()
        self.simulator.scheduler.note(f"{gateway.name}: request {request.number} is {said}{node}")
        for oracle in self.oracles:
            oracle.request_ended(request)

    def gateway_died(self, gateway: GatewayProcess) -> None:
        self.service.gateways = [one for one in self.service.gateways if one is not gateway.fact]
        for request in [one for one in self.service.requests.values() if one.gateway == gateway.name]:
            request.outcome = "gateway died"
            self.ended(request)

    # Facts.

    def now(self) -> datetime:
        return self.simulator.scheduler.now()

    def violated(self, what: str) -> None:
        self.simulator.checks.violated(what)

    def key_of(self, instance_id: str, attempt: int) -> str:
        return self.simulator.deriver.endpoint_key(instance_id, attempt)

    def unseal(self, sealed: str) -> str:
        if sealed not in self._unsealed:
            self._unsealed[sealed] = self._unseal(sealed)
        return self._unsealed[sealed]

    def _written(self, before: EndpointRecord | None, after: EndpointRecord | None) -> None:
        name = (after or before).name  # type: ignore[union-attr]
        if after is None:
            self.service.rows.pop(name, None)
            self.simulator.scheduler.note(f"{name} is removed")
        else:
            self.service.rows[name] = after
            known = {one.at for one in before.events} if before is not None else set[datetime]()
            said = [one.message for one in after.events if one.at not in known and not one.message.startswith("Key ")]
            states = ", ".join(f"{one.number} {one.state.value}" for one in after.slots)
            self.simulator.scheduler.note(f"{name} has slots {states or 'none'}; {'; '.join(said)}")
            for generation in after.generations:
                if generation.template.labels.items() >= BROKEN.items():
                    self.service.broken_launches.add((after.endpoint_id, generation.number))
            if after.failures > (0 if before is None else before.failures) and "was refused" in after.failure:
                self.simulator.witness.launch_refused_quietly()
        for oracle in self.oracles:
            oracle.endpoint_changed(before, after)

    def _step_began(self) -> datetime:
        scheduler = self.simulator.scheduler
        task = scheduler.current
        return self.now() if task is None else scheduler.moment(task.began)

    def _nodes_of(self, instance_id: str) -> Mapping[str, int]:
        counts = {one.name: one.nodes()[instance_id] for one in self.gateways.by_name.values()}
        return {name: count for name, count in counts.items() if count}

    def _node(self, instance_id: str) -> Node | None:
        nodes = self.simulator.fleet.nodes.values()
        return next((one for one in nodes if one.instance_id == instance_id and one.alive and one.serving), None)

    def _troubled(self, instance_id: str) -> datetime | None:
        node = self._node(instance_id)
        return None if node is None else node.troubled_at or self.simulator.scheduler.start

    def _has_room(self, instance_id: str, gateway: str) -> bool:
        found = self.simulator.truth.load(instance_id)
        if found is None:
            return False
        return self._nodes_of(instance_id).get(gateway, 0) < requests_at_once(found.record.request.vllm_args)

    def _used_since(self, instance_id: str) -> datetime | None:
        node = self._node(instance_id)
        return None if node is None else used_directly(node, self.now())

    def node_starts(self, node: Node) -> None:
        """A replica's node: its launch says whether it can serve at all, and few are used by their own address."""
        found = self.simulator.truth.load(node.instance_id)
        if found is None or found.record.replica_of is None:
            return
        node.busy = False
        if found.record.request.labels.items() >= BROKEN.items():
            node.fate.fails_at, node.fate.failure = LAST_PHASE, "server_failed"
            node.fate.stuck_at = None
        if self.random.random() < 0.15:
            self._use(node)

    def _use(self, node: Node) -> None:
        """Somebody uses a node by its own address for some time, beginning once it serves an endpoint."""
        scheduler = self.simulator.scheduler

        def begin() -> None:
            slots = [slot for one in self.service.rows.values() for slot in one.slots if slot.state == "active"]
            if node.serving and any(one.instance_id == node.instance_id and one.route for one in slots):
                node.busy, node.used_since = True, self.now()
                scheduler.after(self.random.uniform(60, 900), end)

        def end() -> None:
            node.busy = False

        scheduler.after(self.random.uniform(100, 600), begin)
