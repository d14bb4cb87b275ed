"""Handlers below /api/endpoints."""

from collections.abc import Mapping
from typing import Any

from gpulaunch.models.endpoints import (
    EndpointChange,
    EndpointList,
    EndpointRequest,
    EndpointSpec,
    EndpointView,
    KeyRequest,
    UnreadableEndpointView,
)
from shared.api.endpoint_views import endpoint_view, key_list, new_key
from shared.api.http import Request, Response, json_if_changed, json_response
from shared.api.parse import endpoint_name, if_match, read_body, read_value
from shared.app import App
from shared.control.endpoints import EndpointWithReplicas
from shared.domain.endpoint import EndpointRecord
from shared.storage.endpoints import UnreadableEndpoint


def create(app: App, request: Request) -> Response:
    wanted = read_body(EndpointRequest, request)
    record, is_new = app.endpoints.create(wanted.name, wanted)
    return _answer(app, record, 201 if is_new else 200)


def put(app: App, request: Request) -> Response:
    name, wanted = endpoint_name(request), read_body(EndpointSpec, request)
    record, is_new = app.endpoints.put(name, wanted, if_match(request))
    return _answer(app, record, 201 if is_new else 200)


def change(app: App, request: Request) -> Response:
    name, wanted = endpoint_name(request), read_body(EndpointChange, request)
    return _answer(app, app.endpoints.respecify(name, lambda record: merged(record, wanted), if_match(request)))


def merged(record: EndpointRecord, wanted: EndpointChange) -> EndpointSpec:
    """What an endpoint is asked to be after a change (RFC 7396); null stands for the default, in `launch` as well.

    Raises:
        ProblemError: 422 with one entry for each wrong field.
    """
    launch = record.wanted.template.model_dump(mode="json", exclude_defaults=True)
    now: dict[str, Any] = {"launch": launch, "replicas": record.replicas, "drain_seconds": record.drain_seconds}
    asked = wanted.model_dump(exclude_unset=True, exclude={"launch"})
    merged = _patched(now, asked)
    return read_value(EndpointSpec, {**merged, "launch": _patched(launch, wanted.launch or {})})


def _patched(before: Mapping[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in {**before, **change}.items() if value is not None}


def page(app: App, request: Request) -> Response:
    found = app.endpoint_queries.all()
    views = [_seen(app, one) for one in found if not isinstance(one, UnreadableEndpoint)]
    unreadable = [
        UnreadableEndpointView(name=one.name, why=one.why) for one in found if isinstance(one, UnreadableEndpoint)
    ]
    return json_if_changed(request, EndpointList(endpoints=views, unreadable=unreadable))


def show(app: App, request: Request) -> Response:
    return json_if_changed(request, _view(app, endpoint_name(request)))


def delete(app: App, request: Request) -> Response:
    return _answer(app, app.endpoints.delete(endpoint_name(request), if_match(request)), 202)


def pause(app: App, request: Request) -> Response:
    return _answer(app, app.endpoints.pause(endpoint_name(request), if_match(request)))


def resume(app: App, request: Request) -> Response:
    return _answer(app, app.endpoints.resume(endpoint_name(request), if_match(request)))


def roll_out(app: App, request: Request) -> Response:
    return _answer(app, app.endpoints.roll_out(endpoint_name(request), if_match(request)))


def keys(app: App, request: Request) -> Response:
    return json_response(key_list(app.endpoint_queries.find(endpoint_name(request)).record))


def create_key(app: App, request: Request) -> Response:
    name, wanted = endpoint_name(request), read_body(KeyRequest, request)
    made, key = app.endpoint_keys.create(name, wanted)
    return json_response(new_key(made, key), 201, {"Location": f"/api/endpoints/{name}/keys/{made.key_id}"})


def revoke_key(app: App, request: Request) -> Response:
    record = app.endpoint_keys.revoke(endpoint_name(request), request.route.get("keyId", ""))
    return json_response(key_list(record))


def _view(app: App, name: str) -> EndpointView:
    found = app.endpoint_queries.find(name)
    return _seen(app, found)


def _seen(app: App, found: EndpointWithReplicas) -> EndpointView:
    return endpoint_view(found.record, found.instances, app.clock.now(), app.settings.gateway_url)


def _answer(app: App, record: EndpointRecord, status: int = 200) -> Response:
    headers = {"Location": f"/api/endpoints/{record.name}"} if status != 200 else {}
    found = app.endpoint_queries.with_replicas(record)
    return json_response(_seen(app, found), status, headers)
