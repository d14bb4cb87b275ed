"""What gateways do for an endpoint at this moment, as they report it. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from gpulaunch.models.gateways import GatewayReport
from shared.domain.endpoint import EndpointRecord

LIVE = timedelta(seconds=30)
"""How old a report may be; gateways renew theirs every ten seconds."""


@dataclass(frozen=True)
class Traffic:
    gateways: int
    """How many gateways have reported lately."""
    in_flight: int
    """Requests on the endpoint's nodes, draining ones included."""
    held: int
    """Requests that wait for a node."""


def traffic_of(endpoint: EndpointRecord, reports: Iterable[GatewayReport | None], now: datetime) -> Traffic:
    live = [one for one in reports if one is not None and now - one.at <= LIVE]
    ids = {slot.instance_id for slot in endpoint.slots}
    return Traffic(
        gateways=len(live),
        in_flight=sum(count for one in live for name, count in one.in_flight.items() if name in ids),
        held=sum(one.held for report in live for one in report.endpoints if one.endpoint_id == endpoint.endpoint_id),
    )
