"""Handlers below /api/endpoints."""

from collections.abc import Mapping
from typing import Any

from gpulaunch.models.decisions import DecisionList
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
from shared.api.http import Request, Response, digest_of, json_if_changed, json_response
from shared.api.long_running import accepted
from shared.api.parse import endpoint_name, if_match, read_body, read_value
from shared.app import App
from shared.control.endpoints import EndpointWithReplicas
from shared.domain.endpoint import EndpointRecord
from shared.domain.errors import EndpointNotFoundError
from shared.storage.endpoints import UnreadableEndpoint


def create(app: App, request: Request) -> Response:
    wanted = read_body(EndpointRequest, request)
    record, is_new = app.endpoints.create(wanted.name, wanted)
    return _made(app, request, record, is_new)


def put(app: App, request: Request) -> Response:
    name, wanted = endpoint_name(request), read_body(EndpointSpec, request)
    record, is_new = app.endpoints.put(name, wanted, _revision(app, request))
    return _made(app, request, record, is_new)


def change(app: App, request: Request) -> Response:
    name, wanted = endpoint_name(request), read_body(EndpointChange, request)
    return _answer(app, app.endpoints.respecify(name, lambda record: merged(record, wanted), _revision(app, request)))


def merged(record: EndpointRecord, wanted: EndpointChange) -> EndpointSpec:
    """What an endpoint is asked to be after a change (RFC 7396); null stands for the default, in `launch` as well.

    Raises:
        ProblemError: 422 with one entry for each wrong field.
    """
    launch = record.wanted.template.model_dump(mode="json", exclude_defaults=True)
    asked = wanted.model_dump(exclude_unset=True, exclude={"launch"})
    now: dict[str, Any] = {"launch": launch, "drain_seconds": record.drain_seconds, **_count(record, asked)}
    merged = _patched(now, asked)
    return read_value(EndpointSpec, {**merged, "launch": _patched(launch, wanted.launch or {})})


def _count(record: EndpointRecord, asked: Mapping[str, Any]) -> dict[str, Any]:
    """What was asked of the number of replicas before a change, as far as it goes with the change.

    A fixed number ends what follows the load, and `max_replicas` ends a fixed number.
    """
    bounds = record.scaling
    if bounds is None:
        return {} if asked.get("max_replicas") is not None else {"replicas": record.replicas}
    if asked.get("replicas") is not None:
        return {}
    return {
        "min_replicas": bounds.min_replicas,
        "max_replicas": bounds.max_replicas,
        "scaling": bounds.preset,
        "target_concurrency": bounds.target_concurrency,
    }


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
    record = app.endpoints.delete(endpoint_name(request), _revision(app, request))
    view = _seen(app, app.endpoint_queries.with_replicas(record))
    return json_response(view, 202, accepted(request, f"/api/endpoints/{record.name}", "delete"))


def pause(app: App, request: Request) -> Response:
    return _answer(app, app.endpoints.pause(endpoint_name(request), _revision(app, request)))


def resume(app: App, request: Request) -> Response:
    return _answer(app, app.endpoints.resume(endpoint_name(request), _revision(app, request)))


def roll_out(app: App, request: Request) -> Response:
    return _answer(app, app.endpoints.roll_out(endpoint_name(request), _revision(app, request)))


def decisions(app: App, request: Request) -> Response:
    found, decided = app.endpoint_queries.decisions(endpoint_name(request))
    reason = app.endpoint_queries.reason(found, app.clock.now())
    return json_response(DecisionList(decisions=decided, replicas=found.record.target, reason=reason))


def keys(app: App, request: Request) -> Response:
    return _keys(app, app.endpoint_queries.find(endpoint_name(request)).record)


def create_key(app: App, request: Request) -> Response:
    name, wanted = endpoint_name(request), read_body(KeyRequest, request)
    made, key = app.endpoint_keys.create(name, wanted)
    location = request.absolute(f"/api/endpoints/{name}/keys/{made.key_id}")
    return json_response(new_key(made, key), 201, {"Location": location})


def revoke_key(app: App, request: Request) -> Response:
    record = app.endpoint_keys.revoke(endpoint_name(request), request.route.get("keyId", ""))
    return _keys(app, record)


def _keys(app: App, record: EndpointRecord) -> Response:
    return json_response(key_list(record, app.endpoint_queries.key_usage(app.clock.now())))


def _view(app: App, name: str) -> EndpointView:
    found = app.endpoint_queries.find(name)
    return _seen(app, found)


def _seen(app: App, found: EndpointWithReplicas) -> EndpointView:
    return endpoint_view(found.record, found.instances, app.clock.now(), app.settings.gateway_url)


def _revision(app: App, request: Request) -> str:
    """The revision that a change is made over: what If-Match names, by itself or by the ETag of `show`."""
    given = if_match(request)
    if not given:
        return ""
    try:
        found = app.endpoint_queries.find(endpoint_name(request))
    except EndpointNotFoundError:
        return given  # what that means depends on the change, which finds it out itself
    return found.record.revision if digest_of(_seen(app, found)) == given else given


def _made(app: App, request: Request, record: EndpointRecord, is_new: bool) -> Response:
    headers = {"Location": request.absolute(f"/api/endpoints/{record.name}")} if is_new else {}
    view = _seen(app, app.endpoint_queries.with_replicas(record))
    return json_response(view, 201 if is_new else 200, headers)


def _answer(app: App, record: EndpointRecord) -> Response:
    return json_response(_seen(app, app.endpoint_queries.with_replicas(record)))
