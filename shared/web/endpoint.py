"""What the pages of endpoints show."""

import re
from collections.abc import Mapping
from typing import Any, Final

from gpulaunch.format import usd
from gpulaunch.models.endpoints import EndpointView
from shared.api.endpoint_views import endpoint_view, key_list
from shared.app import App
from shared.control.endpoints import EndpointWithReplicas
from shared.domain.endpoint import EndpointRecord
from shared.domain.errors import RefusalError
from shared.domain.instance import InstanceRecord
from shared.storage.endpoints import UnreadableEndpoint
from shared.web.instance import samples

POLL_CHANGING: Final = 2
"""Seconds between two polls of a page while replicas start or end."""
POLL_SETTLED: Final = 10
"""Seconds between two polls while nothing is under way."""
_SETTLED: Final = ("ready", "paused", "stopped")


def list_context(app: App) -> dict[str, Any]:
    """Return what the list shows.

    Raises:
        StoreUnavailableError: the table cannot be read.
    """
    found = app.endpoint_queries.all()
    read = [one for one in found if not isinstance(one, UnreadableEndpoint)]
    unreadable = [one for one in found if isinstance(one, UnreadableEndpoint)]
    views = [_view(app, one) for one in read]
    return {
        "endpoints": views,
        "unreadable": unreadable,
        "rates": {one.record.name: _rate(one.instances) for one in read},
        "situations": {one.name: situation(one) for one in views},
        "now": app.clock.now(),
    }


def context(app: App, found: EndpointWithReplicas) -> dict[str, Any]:
    """Return everything that the page of an endpoint shows."""
    record, view = found.record, _view(app, found)
    current = sum(one.state == "serving" and one.generation == view.generation for one in view.members)
    return {
        "view": view,
        "now": app.clock.now(),
        "situation": situation(view),
        "message": without_ids(view.message, record),
        "rate": _rate(found.instances),
        "samples": samples(view.address, view.name) if view.address else {},
        "keys": key_list(record, app.endpoint_queries.key_usage(app.clock.now())).keys,
        "traffic": app.endpoint_queries.traffic(record, app.clock.now()) if view.address else None,
        "current": current,
        "serving": {one.number: _serving(view, one.number) for one in view.generations},
        "stopped": {
            one.number: without_ids(one.stopped.message, record) for one in view.generations if one.stopped is not None
        },
        "events": [(one.at, without_ids(one.message, record)) for one in reversed(view.events)],
        "poll": POLL_SETTLED if view.status in _SETTLED else POLL_CHANGING,
    }


def situation(view: EndpointView) -> str:
    """The status in words."""
    some = f"{view.ready_replicas} of {_replicas(view.replicas)} {'serves' if view.ready_replicas == 1 else 'serve'}"
    match view.status:
        case "ready" if view.replicas == 0 and view.max_replicas is not None:
            return "No replica runs, and the next request starts one."
        case "ready" if view.replicas == 0:
            return "No replicas are asked for, so nothing serves. Scale it to serve."
        case "ready":
            return "The replica serves." if view.replicas == 1 else f"All {view.replicas} replicas serve."
        case "starting":
            return "No replica serves yet. Requests wait while the first one starts."
        case "rolling":
            return f"{some}. Replicas are being replaced."
        case "degraded":
            return f"Only {some}. Others are being started."
        case "stopped":
            return f"Generation {view.generation} cannot start. {some[0].upper()}{some[1:]}."
        case "paused":
            return "No replica serves, and none costs money once the last ones are terminated."
        case "deleting":
            return "It is being deleted, and gets no new requests."


def price_of(app: App, record: EndpointRecord) -> float | None:
    """What one more replica costs per hour on the first offer, in USD; None without an offer."""
    try:
        return app.planner.plan(record.wanted.template).estimate.hourly_usd
    except RefusalError:
        return None


def cost_of(price: float | None, replicas: int) -> str:
    """What a number of replicas costs, in words."""
    if price is None:
        return "No offer is available for it now, so the price is unknown."
    each = "" if replicas == 1 else f", {usd(price)} each"
    return f"{_replicas(replicas)} on the first offer: {usd(price * replicas)} per hour{each}."


def without_ids(text: str, record: EndpointRecord) -> str:
    """The text with the places of replicas instead of instances' ids, which tell users of a model nothing."""
    places = {slot.instance_id: f"#{slot.number}" for slot in record.slots}
    named = re.sub(r"(?:[Rr]eplica )?(inst-[0-9A-Z]{26})", lambda one: _place(one, places), text)
    return re.sub(r"\s+", " ", named)


def _place(found: re.Match[str], places: Mapping[str, str]) -> str:
    word = "Replica" if found[0][0] == "R" else "replica"
    known = places.get(found[1])
    return f"{word} {known}" if known else f"{'An earlier' if word == 'Replica' else 'an earlier'} replica"


def _replicas(count: int) -> str:
    return "1 replica" if count == 1 else f"{count} replicas"


def _serving(view: EndpointView, generation: int) -> int:
    return sum(one.state == "serving" and one.generation == generation for one in view.members)


def _view(app: App, found: EndpointWithReplicas) -> EndpointView:
    return endpoint_view(found.record, found.instances, app.clock.now(), app.settings.gateway_url)


def _rate(instances: Mapping[str, InstanceRecord]) -> float:
    """USD per hour that the replicas cost now."""
    attempts = [attempt for record in instances.values() for attempt in record.attempts]
    return sum(one.offer.price_per_hour for one in attempts if one.billed_from and not one.gone_at)
