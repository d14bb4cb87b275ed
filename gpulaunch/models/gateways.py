"""What a gateway writes about itself, for the control plane: a row of its own, which no other gateway writes."""

from typing import Annotated

from pydantic import StringConstraints

from gpulaunch.models.base import Stored, UtcTime
from gpulaunch.models.requests import NAME

GATEWAY_AREA = "gateway"
"""Row keys are `gateway|<gateway_id>`; the document is as that of an endpoint's row."""
ARRIVAL_WINDOWS = (30, 60, 120, 240)
"""Seconds over which a gateway counts the requests that come."""


class EndpointReport(Stored):
    """An endpoint as a gateway serves it; totals are since the gateway started."""

    endpoint_id: str
    version: int
    """The endpoint's `routes_version` that the gateway follows."""
    held: int = 0
    """Requests that wait for a node."""
    running: int = 0
    """Requests on its nodes, those that drain included."""
    running_mean: float = 0.0
    """The same, over the last minute."""
    arrivals: dict[int, int] = {}
    """Requests that came in the last so many seconds, by `ARRIVAL_WINDOWS`."""
    timed: int = 0
    """Requests whose duration is in `service_seconds`."""
    service_seconds: float | None = None
    """How long a request takes on a node that has no more than it is to work on at once; recent ones weigh more."""
    failovers: int = 0
    broken_streams: int = 0
    client_aborts: int = 0


class GatewayReport(Stored):
    """A gateway's heartbeat."""

    gateway_id: str
    """Of one process: a gateway that is started again has another one."""
    at: UtcTime
    endpoints: list[EndpointReport] = []
    in_flight: dict[str, int] = {}
    """Requests under way, by instance id, also on nodes that get no new ones; those without any are left out."""

    def version_of(self, endpoint_id: str) -> int | None:
        """Which version of an endpoint's routes the gateway follows; None: it has not read any."""
        return next((one.version for one in self.endpoints if one.endpoint_id == endpoint_id), None)


class EndpointMessage(Stored):
    """Bring an endpoint's replicas to what they should be: sent by the control plane to itself, and by gateways."""

    endpoint: Annotated[str, StringConstraints(pattern=NAME)]
    step: Annotated[str, StringConstraints(pattern=r"^[a-z_]{1,40}$")] = "reconcile"
