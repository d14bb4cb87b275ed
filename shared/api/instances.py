"""Handlers below /api/instances."""

from urllib.parse import urlencode

from gpulaunch.models.instances import STARTING
from gpulaunch.models.problems import FieldError
from gpulaunch.models.queries import EventQuery, InstanceQuery
from gpulaunch.models.requests import LaunchRequest
from gpulaunch.models.responses import InstanceList, LogAnswer
from shared.api import views
from shared.api.access import log_shown_key, token_of
from shared.api.http import Request, Response, digest_of, json_if_changed, json_response
from shared.api.long_running import accepted
from shared.api.parse import if_match, read_body, read_query
from shared.api.problems import invalid_request
from shared.app import App
from shared.auth import Purpose
from shared.domain.errors import InstanceChangedError
from shared.storage.base import (
    InstanceFilter,
    RecordPage,
    Unreadable,
    UnreadableRecordError,
    Versioned,
    readable,
)


def launch(app: App, request: Request) -> Response:
    """Accept a launch: 202, with the place to look in Location."""
    wanted = read_body(LaunchRequest, request)
    caller = "" if app.settings.open_to_all else app.deriver.derive(token_of(request), 0, Purpose.CALLER)
    answer = app.launcher.launch(wanted, _launch_key(request), request.trace, caller, if_match(request) or None)
    return json_response(answer, 202, accepted(request, f"/api/instances/{answer.instance_id}", "launch"))


def _launch_key(request: Request) -> str | None:
    """What makes the launch safe to repeat, by our name of it or by that of OASIS, which Azure's SDKs send.

    Raises:
        ProblemError: 422 for two that differ.
    """
    names = ("idempotency-key", "repeatability-request-id")
    # An empty one is refused with the others that cannot be keys: its caller believes to have sent one.
    given = {request.headers[name] for name in names if name in request.headers}
    if len(given) > 1:
        message = "Differs from Idempotency-Key; send one of them."
        raise invalid_request([FieldError(field="Repeatability-Request-ID", message=message)])
    return next(iter(given), None)


def plan(app: App, request: Request) -> Response:
    """What a launch would do and cost; its ETag is what `If-Match` takes."""
    answer = app.preparation.prepare(read_body(LaunchRequest, request)).answer()
    return json_response(answer, headers={"ETag": f'"{answer.plan}"'})


def page(app: App, request: Request) -> Response:
    query = read_query(InstanceQuery, request.query)
    found = app.instances.page(filter_of(query), query.page_size, query.continuation_token)
    view = page_view(app, found)
    if found.next_token is not None:
        # A Functions key in `code` is the caller's to send.
        asked = {name: value for name, value in request.query.items() if name != "code"}
        following = urlencode(asked | {"continuation_token": found.next_token})
        view = view.model_copy(update={"nextLink": request.absolute(f"/api/instances?{following}")})
    return json_if_changed(request, view)


def filter_of(query: InstanceQuery) -> InstanceFilter:
    return InstanceFilter(phase=query.phase, provider=query.provider, label=query.label_filter, live=query.live)


def page_view(app: App, found: RecordPage) -> InstanceList:
    now = app.clock.now()
    return InstanceList(
        instances=[views.instance_view(one.record, views.as_of(one.record, now)) for one in readable(found.records)],
        unreadable=[views.unreadable_view(one) for one in found.records if isinstance(one, Unreadable)],
        next_token=found.next_token,
    )


def _id(app: App, request: Request) -> str:
    return app.instances.resolve(request.route.get("instanceId", ""))


def show(app: App, request: Request) -> Response:
    record = app.instances.find(_id(app, request)).record
    return json_if_changed(request, views.instance_view(record, views.as_of(record, app.clock.now())))


def events(app: App, request: Request) -> Response:
    query = read_query(EventQuery, request.query)
    record = app.instances.find(_id(app, request)).record
    seen = app.instances.events(record, query.after)
    story = seen if query.after < 0 else app.instances.events(record)
    spans, now = app.estimates.of(record) if record.phase in STARTING else None, app.clock.now()
    steps = views.step_views(record, story, spans or {}, now)
    return json_if_changed(request, views.event_list(record, seen, steps, views.as_of(record, now)))


def logs(app: App, request: Request) -> Response:
    record = app.instances.find(_id(app, request)).record
    number = record.attempt.number if record.attempt else None
    return json_response(LogAnswer(instance_id=record.instance_id, attempt=number, lines=record.log_tail))


def credentials(app: App, request: Request) -> Response:
    """Address and key of a ready endpoint."""
    record = app.instances.find(_id(app, request)).record
    answer = views.credentials(record, app.deriver)
    log_shown_key(request, record.instance_id)
    return json_response(answer)


def terminate(app: App, request: Request) -> Response:
    """Begin to terminate an instance, whether its record can be read or not; with If-Match only as it was seen."""
    instance_id, seen = _id(app, request), if_match(request)
    if seen:
        found = app.terminator.terminate_seen(_as_seen(app, instance_id, seen))
    else:
        found = app.terminator.terminate(instance_id)
    headers = accepted(request, f"/api/instances/{found.instance_id}", "terminate")
    if isinstance(found, Unreadable):
        return json_response(views.unreadable_view(found), 202, headers)
    return json_response(views.instance_view(found, app.clock.now()), 202, headers)


def _as_seen(app: App, instance_id: str, etag: str) -> Versioned:
    """The record, if `show` still answers with that ETag.

    Raises:
        InstanceChangedError: It does not, or the record cannot be read, so that it has none.
    """
    try:
        found = app.instances.find(instance_id)
    except UnreadableRecordError as error:
        raise InstanceChangedError from error
    if digest_of(views.instance_view(found.record, views.as_of(found.record, app.clock.now()))) != etag:
        raise InstanceChangedError
    return found
