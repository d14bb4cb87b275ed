"""Handlers below /api/instances."""

from collections.abc import Iterable

from gpulaunch.models.instances import STARTING
from gpulaunch.models.queries import EventQuery, InstanceQuery
from gpulaunch.models.requests import LaunchRequest
from gpulaunch.models.responses import InstanceList
from shared.api.http import Request, Response, json_if_changed, json_response
from shared.api.parse import instance_id, read_body, read_query
from shared.api.views import credentials, event_list, instance_view, log_answer, unreadable_view
from shared.app import App
from shared.storage.base import InstanceFilter, RecordPage, Unreadable


def launch_instance(app: App, request: Request) -> Response:
    """Accept a launch: 202, with the place to look in Location."""
    launch = read_body(LaunchRequest, request)
    answer = app.launcher.launch(launch, request.header("Idempotency-Key") or None, request.trace)
    return json_response(answer, 202, {"Location": f"/api/instances/{answer.instance_id}"})


def list_instances(app: App, request: Request) -> Response:
    """A page of instances."""
    query = read_query(InstanceQuery, request.query)
    page = app.instances.page(filter_of(query), query.page_size, query.continuation_token)
    return json_if_changed(request, page_view(app, page), page_etags(page))


def filter_of(query: InstanceQuery) -> InstanceFilter:
    """Which records a query asks for."""
    return InstanceFilter(phase=query.phase, provider=query.provider, label=query.label_filter, live=query.live)


def page_view(app: App, page: RecordPage) -> InstanceList:
    """A page of a listing as users see it."""
    now = app.clock.now()
    found = page.records
    return InstanceList(
        instances=[instance_view(one.record, now) for one in found if not isinstance(one, Unreadable)],
        unreadable=[unreadable_view(one) for one in found if isinstance(one, Unreadable)],
        next_token=page.next_token,
    )


def page_etags(page: RecordPage) -> list[str]:
    """What the ETag of a page is made of."""
    etags: Iterable[str] = (found.etag for found in page.records)
    return [*etags, page.next_token or ""]


def show_instance(app: App, request: Request) -> Response:
    """One instance."""
    found = app.instances.find(instance_id(request))
    return json_if_changed(request, instance_view(found.record, app.clock.now()), [found.etag])


def instance_events(app: App, request: Request) -> Response:
    """An instance's timeline."""
    query = read_query(EventQuery, request.query)
    found = app.instances.find(instance_id(request))
    record = found.record
    events = app.instances.events(record.instance_id, query.after)
    spans = app.estimates.of(record) if record.phase in STARTING else None
    answer = event_list(record, events, app.clock.now(), spans)
    return json_if_changed(request, answer, [found.etag, str(query.after)])


def instance_logs(app: App, request: Request) -> Response:
    """The last log lines of an instance's node."""
    return json_response(log_answer(app.instances.find(instance_id(request)).record))


def instance_credentials(app: App, request: Request) -> Response:
    """Address and key of a ready endpoint; not to be cached anywhere."""
    answer = credentials(app.instances.find(instance_id(request)).record, app.deriver)
    return json_response(answer, headers={"Cache-Control": "no-store"})


def end_instance(app: App, request: Request) -> Response:
    """Begin to terminate an instance."""
    found = app.terminator.terminate(instance_id(request))
    location = {"Location": f"/api/instances/{found.instance_id}"}
    view = unreadable_view(found) if isinstance(found, Unreadable) else instance_view(found, app.clock.now())
    return json_response(view, 202, location)
