"""Endpoints as the app shows them."""

from typing import Any

from gpulaunch.models.endpoints import NUMBERS, EndpointRequest, EndpointSpec, EndpointView
from tests.twins.clock import START


def view_of(asked: EndpointRequest, **changes: Any) -> EndpointView:
    """An endpoint of which this was asked."""
    others = dict.fromkeys(NUMBERS) | {"replicas": asked.most_replicas}
    given = {name: getattr(asked, name) for name in EndpointSpec.model_fields} | others | asked.numbers
    values: dict[str, Any] = {
        "name": asked.name,
        "status": "ready",
        "message": "",
        "created_at": START,
        "updated_at": START,
        "address": None,
        "start_seconds": 240.0,
        "ready_replicas": asked.most_replicas,
        "paused": False,
        "generation": 1,
        "revision": f"revision of {asked.name}",
        "generations": [],
        "members": [],
        "cost_usd": 0.0,
        "retry_at": None,
        "events": [],
    }
    return EndpointView.model_validate(values | given | changes)
