"""Routes of an endpoint's replicas, for the gateway, and the keys of nodes sealed for it."""

from dataclasses import dataclass

from gpulaunch.models.routes import SlotRoute
from shared.auth import Deriver
from shared.autoscaling.observed import MISSING, Replica, Replicas
from shared.certificates import node_name
from shared.domain.endpoint import EndpointRecord, Slot


@dataclass(frozen=True)
class RouteMaker:
    deriver: Deriver

    def routed(self, endpoint: EndpointRecord, replicas: Replicas) -> EndpointRecord:
        """The endpoint with a route in each slot whose node is ready; the same object if nothing changes."""
        slots = [self._routed(slot, replicas.get(slot.instance_id, MISSING)) for slot in endpoint.slots]
        if slots == endpoint.slots:
            return endpoint
        authority = self.deriver.authority_certificate()
        return endpoint.with_slots(slots).model_copy(update={"authority": authority})

    def _routed(self, slot: Slot, replica: Replica) -> Slot:
        if replica.unreadable:
            return slot  # what its node does has nothing to do with its record
        if replica.address is None:
            return slot if slot.route is None else slot.model_copy(update={"route": None})
        host, port = replica.address
        known = slot.route
        there = (replica.attempt, host, port, replica.template)
        if known is not None and (known.attempt, known.address, known.port, known.template) == there:
            return slot
        sealed = self.deriver.sealed(self.deriver.endpoint_key(slot.instance_id, replica.attempt))
        route = SlotRoute(
            attempt=replica.attempt,
            address=host,
            port=port,
            sealed_key=sealed,
            server_name=node_name(slot.instance_id, replica.attempt) if replica.tls else None,
            simulated=replica.simulated,
            template=replica.template,
        )
        return slot.model_copy(update={"route": route})
