"""The handlers of the pages."""

import contextlib
import difflib
import logging
import re
import secrets
import urllib.parse
from dataclasses import replace
from datetime import UTC, datetime

from gpulaunch.models.problems import FieldError
from gpulaunch.models.requests import LaunchRequest
from shared.api import operators
from shared.api.access import log_shown_key
from shared.api.http import Response, problem_response
from shared.api.parse import read_value
from shared.api.problems import ProblemError, problem_of
from shared.api.views import credentials
from shared.domain.errors import InstanceNotFoundError, PlanChangedError, RefusalError, TooManyFailuresError
from shared.errors import StoreUnavailableError
from shared.planning.launch_plan import LaunchPlan
from shared.storage.base import UnreadableRecordError
from shared.web import costs as costs_page
from shared.web import fleet, launch_form, settings_page
from shared.web import instance as instance_page
from shared.web.rendering import DOCS_HEADERS, compressed, ids, static_files
from shared.web.routes import PAGES
from shared.web.session import OPEN
from shared.web.visit import Visit, own_path, see_other

log = logging.getLogger("gpulaunch.access")


def home(visit: Visit) -> Response:  # noqa: ARG001 - every handler gets the visit
    return see_other("/instances")


def sign_in_page(visit: Visit) -> Response:
    where = own_path(visit.request.query.get("next", ""))
    if visit.is_signed_in:
        return see_other(where)
    return _sign_in_form(visit, where)


def sign_in(visit: Visit) -> Response:
    where = own_path(visit.form.get("next", ""))
    failures, source = visit.app.failures, visit.request.source
    try:
        failures.check(source)
    except TooManyFailuresError as error:
        answer = _sign_in_form(visit, where, str(error), 429)
        answer.headers["Retry-After"] = str(error.retry_after)
        return answer
    session = visit.sessions.sign_in(visit.form.get("token", "").strip())
    if session is None:
        failures.failed(source, "a failed sign-in", visit.request.id)
        return _sign_in_form(visit, where, "Unknown token.", 401)
    session = replace(session, generation=visit.app.ended_sessions.generation())
    log.info("signed in as %s from %s; request %s", session.role, source, visit.request.id)
    return visit.set_cookie(see_other(where), session)


def sign_out(visit: Visit) -> Response:
    """End this session, or all sessions; also for those who have a copy of the cookie."""
    ended, session = visit.app.ended_sessions, visit.session
    if visit.form.get("all"):
        if not visit.is_admin:
            raise ProblemError("forbidden", "Your token is read-only. Sign in with an admin token.")
        ended.end_all()
    elif session is not None and session is not OPEN:
        ended.end(session.nonce, datetime.fromtimestamp(session.expires_at, UTC))
    log.info("%s; request %s", "all sessions ended" if visit.form.get("all") else "signed out", visit.request.id)
    return visit.set_cookie(see_other("/signin"), None)


def _sign_in_form(visit: Visit, where: str, wrong: str = "", status: int = 200) -> Response:
    guest = replace(visit, session=visit.sessions.guest())
    known = {"configured": visit.sessions.configured, "local": visit.app.settings.development}
    page = guest.page("signin.html", status, where=where, wrong=wrong, **known)
    return guest.set_cookie(page, guest.session)


def launch_page(visit: Visit) -> Response:
    """Show the launch form, empty or filled in like an earlier launch."""
    values = launch_form.fields({})
    like = visit.request.query.get("like", "")
    if like:
        with contextlib.suppress(InstanceNotFoundError, UnreadableRecordError):
            values = launch_form.fields_of(visit.app.instances.find(like).record.request)
    return _launch_form(visit, values)


def launch_plan(visit: Visit) -> Response:
    """Show the plan of the form's current values, for htmx."""
    values = launch_form.fields(visit.form if visit.request.method == "POST" else dict(visit.request.query))
    planned = launch_form.preview(visit.app.planner.plan, values)
    return visit.page("plan.html", oob=True, **launch_form.context(visit.app, values, planned, visit.address))


def launch_again(visit: Visit) -> Response:
    """Show a form of an earlier session once more, as it was filled in."""
    error = ProblemError(
        "forbidden", "This form is from an earlier session. Nothing was launched: check it, then launch."
    )
    return _launch_form(visit, launch_form.fields(visit.form), error)


def launch(visit: Visit) -> Response:
    """Launch what the form asks for if it is what its plan showed, else show the plan as it is now."""
    values = launch_form.fields(visit.form)
    if visit.form.get("do") != "launch":
        return _launch_form(visit, values)
    try:
        body = launch_form.body_of(values)
        request, shown = read_value(LaunchRequest, body), visit.form.get("shown", "")
        made = visit.app.launcher.launch(request, launch_form.key_of(visit.form, body), shown=shown)
    except PlanChangedError as error:
        return _launch_form(visit, values, problem_of(error, "launch form", ""), visit.form.get("price", ""))
    except (ProblemError, RefusalError, StoreUnavailableError) as error:
        # Without storage it may or may not have been launched; sent again, the form launches once.
        return _launch_form(visit, values, problem_of(error, visit.request.what, visit.request.id))
    return see_other(f"/instances/{made.instance_id}")


def _launch_form(
    visit: Visit, values: dict[str, str], error: ProblemError | None = None, before: str | None = None
) -> Response:
    """Show the form with its plan; `before` is the price that an earlier plan showed, None where there was none."""
    app = visit.app

    def plan(request: LaunchRequest) -> LaunchPlan:
        # What has changed is planned as a launch is, with quotas, lest the next attempt find it changed again.
        return app.planner.plan(request) if before is None else app.preparation.prepare(request).plan

    planned = launch_form.preview(plan, values)
    refused = launch_form.by_field(error) if error is not None and before is None else {}
    context = launch_form.context(app, values, planned, visit.address)
    status = error.problem.status if error else 200
    sent = visit.form if visit.request.method == "POST" else {}
    unsure = status == 503
    kept = {"key": sent.get("key") or secrets.token_urlsafe(16), "answered": bool(sent), "unsure": unsure}
    return visit.page("launch.html", status, oob=False, refused=refused, before=before, **kept, **context)


def instances(visit: Visit) -> Response:
    """Show the instances, or the list alone for htmx."""
    shown, etags = fleet.read(visit.app, dict(visit.request.query))
    if visit.is_htmx:
        return visit.part_if_changed("fleet.html", etags, lambda: shown)
    return visit.page("instances.html", etag=visit.etag(etags), **shown)


def _id(visit: Visit) -> str:
    return visit.app.instances.resolve(urllib.parse.unquote(visit.request.route.get("instanceId", "")))


def instance_live(visit: Visit) -> Response:
    """Show the changing part of an instance's page; one read and a 304 if nothing changed."""
    found = visit.app.instances.find(_id(visit))
    return visit.part_if_changed(
        "live.html", [fleet.etag(found, visit.app.clock.now())], lambda: instance_page.context(visit.app, found)
    )


def confirm_termination(visit: Visit) -> Response:
    """Ask before terminating an instance, for browsers without scripts."""
    return instance(visit, "terminate.html")


def terminate(visit: Visit) -> Response:
    return see_other(f"/instances/{visit.app.terminator.terminate(_id(visit)).instance_id}")


def key(visit: Visit) -> Response:
    """Show the endpoint's key; it is never part of a polled page."""
    record = visit.app.instances.find(_id(visit)).record
    answer = credentials(record, visit.app.deriver)
    log_shown_key(visit.request, record.instance_id)
    return visit.page("key_part.html" if visit.is_htmx else "key.html", credentials=answer)


def instance(visit: Visit, template: str = "instance.html") -> Response:
    try:
        found = visit.app.instances.find(_id(visit))
    except UnreadableRecordError as error:
        (shown,) = fleet.unreadable_rows(visit.app, [error.unreadable])
        template = template.replace("instance.html", "unreadable.html")
        return visit.page(template, view=error.unreadable, one=shown, title=error.unreadable.instance_id)
    return visit.page(
        template, etag=visit.etag([fleet.etag(found, visit.app.clock.now())]), **instance_page.context(visit.app, found)
    )


def costs(visit: Visit) -> Response:
    return visit.page("costs.html", **costs_page.context(visit.app, visit.request.query.get("days", "")))


def costs_csv(visit: Visit) -> Response:
    """Send what `GET /api/costs` answers as CSV to whoever has a session instead of a token."""
    return operators.costs(visit.app, replace(visit.request, query={**visit.request.query, "format": "csv"}))


def settings(visit: Visit) -> Response:
    """Show the settings that matter to users, without secrets."""
    return visit.page("settings.html", session=visit.session, **settings_page.context(visit.app))


def docs(visit: Visit) -> Response:
    """Show the API reference, which the browser renders from the OpenAPI document."""
    answer = visit.page("docs.html")
    answer.headers.update(DOCS_HEADERS)
    return answer


def missing(visit: Visit) -> Response:
    """Answer for an address where there is nothing, with what is alike."""
    path = visit.request.address.path
    if path.lower().startswith("/api/"):
        detail = f"There is no such call: {visit.request.what}. /api/openapi.json and /api/docs describe all calls."
        return problem_response(ProblemError("not_found", detail), visit.request.id)
    shown = [page.route for page in PAGES if page.method == "GET" and page.route.isalpha()]
    alike = difflib.get_close_matches(path.strip("/").lower(), shown, n=3)
    nearest = [f"/instances/{one}" for one in ids(path)[:1]] + [f"/{one}" for one in alike]
    raise ProblemError(
        "not_found",
        f"There is no page at {path[:100]}.",
        errors=[FieldError(field="", message="There is no such page.", nearest=nearest)],
    )


def static(visit: Visit) -> Response:
    """Send a static file; cached forever under its address with the current version."""
    name = urllib.parse.unquote(visit.request.route.get("file", ""))
    if name not in static_files():
        raise ProblemError("not_found", "There is no such file.")
    content, kind, version = static_files()[name]
    kept = visit.request.query.get("v") == version
    cache = "public, max-age=31536000, immutable" if kept else "no-cache"
    headers = {"Cache-Control": cache, "Vary": "Accept-Encoding"}
    if _takes_gzip(visit.request.header("Accept-Encoding")):
        return Response(body=compressed(name), media_type=kind, headers={**headers, "Content-Encoding": "gzip"})
    return Response(body=content, media_type=kind, headers=headers)


def _takes_gzip(accepted: str) -> bool:
    """Whether gzip is among the codings of Accept-Encoding, and not by a weight of nought."""
    for coding in accepted.lower().split(","):
        name, _, weight = coding.replace(" ", "").partition(";q=")
        if name == "gzip":
            return not re.fullmatch(r"0(\.0{0,3})?", weight)
    return False
