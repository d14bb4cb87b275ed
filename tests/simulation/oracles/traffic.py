"""What becomes of clients' requests, by the ledger that the simulation keeps, and what gateways say of it."""

from collections.abc import Mapping
from datetime import datetime, timedelta

from tests.simulation.oracles.endpoint_facts import (
    Endpoint,
    EndpointOracle,
    Gateway,
    Request,
    Service,
    short,
    target,
)
from tests.simulation.oracles.facts import World
from tests.simulation.oracles.promises import CIRCUIT, HOLD, HOLD_STREAM, KEY_REVOKED, NODES_TRIED, SLACK

_UNKNOWN_KEY = 401


class Ledger(EndpointOracle):
    """A request is served once, refused for a reason that is true, or breaks with its node."""

    def __init__(self, world: World, service: Service) -> None:
        super().__init__(world, service)
        self._routed: dict[str, tuple[object, datetime]] = {}
        """By instance: its route, and since when it stands in the row of an endpoint that wants it used."""

    def endpoint_changed(self, before: Endpoint | None, after: Endpoint | None) -> None:
        routes: Mapping[str, object] = {}
        if after is not None and target(after):
            routes = {one.instance_id: one.route for one in after.slots if one.state == "active" and one.route}
        for slot in () if before is None else before.slots:
            if slot.instance_id not in routes:
                self._routed.pop(slot.instance_id, None)
        for instance_id, route in routes.items():
            if self._routed.get(instance_id, (None,))[0] != route:
                self._routed[instance_id] = (route, self.world.now())

    def request_ended(self, request: Request) -> None:
        said = f"request {request.number} of {request.key.endpoint} by {request.gateway}"
        if len(request.begun) > 1:
            self.world.violated(f"{said} was answered by {request.begun}")
        if len(set(request.errors)) < len(request.errors) or len(request.got) > NODES_TRIED:
            self.world.violated(f"{said} was given to {request.got}, and {request.errors} answered with errors")
        gateway = next((one for one in self.service.gateways if one.name == request.gateway), None)
        if gateway is None:
            return
        if request.status == _UNKNOWN_KEY:
            self._is_unknown(said, request, gateway)
        elif request.outcome != "left":
            self._is_not_revoked(said, request, gateway)
        match request.outcome:
            case "broken":
                if not request.excuse:
                    self.world.violated(f"{said} is broken, and its node lives")
            case "refused":
                self._is_refused_rightly(said, request, gateway)
            case _:
                pass

    def _is_unknown(self, said: str, request: Request, gateway: Gateway) -> None:
        read, key = gateway.read_began, request.key
        if read is not None and read > key.made and (key.revoking is None or key.revoking > request.began):
            self.world.violated(f"{said} is refused, and its key was known")

    def _is_not_revoked(self, said: str, request: Request, gateway: Gateway) -> None:
        revoked = request.key.revoked
        if revoked is None or request.began <= revoked + timedelta(seconds=KEY_REVOKED):
            return
        # Without the table, a gateway goes on with what it knows.
        read = gateway.read_began is not None and gateway.read_began > revoked
        before = gateway.read_at is not None and gateway.read_at < request.began
        calm = (request.began - max(revoked, self.world.calm_at)).total_seconds() > KEY_REVOKED + SLACK
        if (read and before) or calm:
            passed = (request.began - revoked).total_seconds()
            self.world.violated(f"{said} is {request.outcome}, {passed:.0f} s after its key was revoked")

    def _is_refused_rightly(self, said: str, request: Request, gateway: Gateway) -> None:
        lasted = (self.world.now() - request.began).total_seconds()
        longest = HOLD_STREAM if request.is_stream else HOLD
        held = longest if request.hold_seconds is None else min(longest, request.hold_seconds)
        if lasted > held + NODES_TRIED * (request.seconds + 5) + SLACK:
            self.world.violated(f"{said} is refused after {lasted:.0f} s")
        if request.code == "unavailable" and (idle := self._could_serve(request, gateway)):
            self.world.violated(f"{said} is refused, and {', '.join(map(short, idle))} could have served it")

    def _could_serve(self, request: Request, gateway: Gateway) -> list[str]:
        """Instances that the gateway knew before the request came, and that were well all the time, with room."""
        endpoint = self.service.rows.get(request.key.endpoint)
        read = gateway.read_began
        if endpoint is None or read is None or gateway.read_at is None or gateway.read_at > request.began:
            return []
        well_since = request.began - timedelta(seconds=CIRCUIT + 10)
        found: list[str] = []
        for slot in endpoint.slots:
            routed = self._routed.get(slot.instance_id)
            troubled = self.service.troubled(slot.instance_id)
            known = routed is not None and routed[1] < read
            if known and troubled is not None and troubled < well_since:
                tried = any(short(slot.instance_id).lower() in one for one in request.tried)
                if not tried and self.service.has_room(slot.instance_id, gateway.name):
                    found.append(slot.instance_id)
        return found

    def look(self) -> None:
        for request in self.service.requests.values():
            lasts = (self.world.now() - request.began).total_seconds()
            if lasts > HOLD_STREAM + NODES_TRIED * (request.seconds + 5) + SLACK:
                self.world.violated(f"request {request.number} to {request.gateway} lasts for {lasts:.0f} s")


class Counters(EndpointOracle):
    """What gateways count is what is under way, and what has broken."""

    def look(self) -> None:
        for gateway in self.service.gateways:
            self._counts(gateway)

    def _counts(self, gateway: Gateway) -> None:
        counted = gateway.in_flight()
        instances = {*counted, *self.service.under_way(gateway.name)}
        for one in sorted(instances):
            there, said = self.service.nodes_of(one).get(gateway.name, 0), counted.get(one, 0)
            if there != said:
                self.world.violated(f"{gateway.name} counts {said} requests on {short(one)}, and there are {there}")
        open_ones = sum(one.gateway == gateway.name for one in self.service.requests.values())
        if gateway.held() + sum(counted.values()) > open_ones:
            self.world.violated(f"{gateway.name} has {open_ones} requests, holds {gateway.held()}, counts {counted}")
        if gateway.counted_broken() != gateway.broken:
            self.world.violated(f"{gateway.name} counts {gateway.counted_broken()} broken, and {gateway.broken} are")
