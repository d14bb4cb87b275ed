"""The pages for people."""

import contextlib
import urllib.parse

from gpulaunch.models.requests import LaunchRequest
from shared.api.http import Response
from shared.api.parse import instance_id, read_value
from shared.api.problems import ProblemError, not_found, problem_of
from shared.api.views import credentials
from shared.domain.errors import InstanceNotFoundError, RefusalError
from shared.storage.base import UnreadableRecordError
from shared.web import costs as costs_page
from shared.web import fleet, launch_form, settings_page
from shared.web import instance as instance_page
from shared.web.rendering import DOCS_HEADERS, static_files
from shared.web.visit import Visit, own_path, see_other


def home(visit: Visit) -> Response:  # noqa: ARG001 - every handler gets the visit
    """To the instances."""
    return see_other("/instances")


def sign_in_page(visit: Visit) -> Response:
    """The sign-in form."""
    where = own_path(visit.request.query.get("next", ""))
    if visit.session is not None and visit.session.role is not None:
        return see_other(where)
    return _sign_in_form(visit, where)


def sign_in(visit: Visit) -> Response:
    """Sign in with a token."""
    where = own_path(visit.form.get("next", ""))
    session = visit.sessions.sign_in(visit.form.get("token", "").strip(), visit.app.clock.now())
    if session is None:
        return _sign_in_form(visit, where, "Unknown token.", 401)
    return visit.keep(see_other(where), session)


def sign_out(visit: Visit) -> Response:
    """Forget the session."""
    return visit.keep(see_other("/signin"), None)


def _sign_in_form(visit: Visit, where: str, wrong: str = "", status: int = 200) -> Response:
    guest = visit.sessions.guest(visit.app.clock.now())
    asked = Visit(visit.request, visit.app, visit.sessions, guest)
    return asked.keep(
        asked.page("signin.html", status, where=where, wrong=wrong, configured=visit.sessions.configured), guest
    )


def launch_page(visit: Visit) -> Response:
    """The launch form, empty, or filled in like an instance that there is."""
    values = launch_form.fields({})
    like = visit.request.query.get("like", "")
    if like:
        with contextlib.suppress(InstanceNotFoundError, UnreadableRecordError):
            values = launch_form.fields_of(visit.app.instances.find(like).record.request)
    return _launch_form(visit, values)


def launch_plan(visit: Visit) -> Response:
    """The plan for what the form says at the moment, for htmx."""
    values = launch_form.fields(dict(visit.request.query))
    planned = launch_form.preview(visit.app.planner, values)
    return visit.page("plan.html", oob=True, **launch_form.context(visit.app, values, planned, visit.address))


def launch(visit: Visit) -> Response:
    """Launch what the form says; or show its plan, where no script does it."""
    values = launch_form.fields(visit.form)
    if visit.form.get("do") == "plan":
        return _launch_form(visit, values)
    try:
        request = read_value(LaunchRequest, launch_form.body_of(values))
        made = visit.app.launcher.launch(request, visit.form.get("key") or None)
    except (ProblemError, RefusalError) as error:
        return _launch_form(visit, values, problem_of(error, "launch form", ""))
    return see_other(f"/instances/{made.instance_id}")


def _launch_form(visit: Visit, values: dict[str, str], error: ProblemError | None = None) -> Response:
    planned = launch_form.preview(visit.app.planner, values)
    refused = launch_form.by_field(error) if error is not None else {}
    context = launch_form.context(visit.app, values, planned, visit.address)
    return visit.page("launch.html", error.status if error else 200, oob=False, refused=refused, **context)


def instances(visit: Visit) -> Response:
    """All instances, or the list alone for htmx."""
    shown, marks = fleet.read(visit.app, dict(visit.request.query))
    if visit.is_htmx:
        return visit.part_if_changed("fleet.html", marks, lambda: shown)
    return visit.page("instances.html", mark=visit.mark(marks), **shown)


def instance(visit: Visit) -> Response:
    """One instance."""
    return _instance(visit)


def instance_live(visit: Visit) -> Response:
    """What changes on an instance's page; one read and a 304 when nothing did."""
    found = visit.app.instances.find(instance_id(visit.request))
    return visit.part_if_changed("live.html", [found.etag], lambda: instance_page.context(visit.app, found))


def confirm_termination(visit: Visit) -> Response:
    """Ask before an instance is terminated, where no script does it."""
    return _instance(visit, "terminate.html")


def terminate(visit: Visit) -> Response:
    """Terminate an instance."""
    return see_other(f"/instances/{visit.app.terminator.terminate(instance_id(visit.request)).instance_id}")


def key(visit: Visit) -> Response:
    """The endpoint's key, on demand; never a part of a page that is polled."""
    answer = credentials(visit.app.instances.find(instance_id(visit.request)).record, visit.app.deriver)
    return visit.page("key_part.html" if visit.is_htmx else "key.html", credentials=answer)


def _instance(visit: Visit, template: str = "instance.html") -> Response:
    found = visit.app.instances.find(instance_id(visit.request))
    return visit.page(template, mark=visit.mark([found.etag]), **instance_page.context(visit.app, found))


def costs(visit: Visit) -> Response:
    """What the instances have cost."""
    return visit.page("costs.html", **costs_page.context(visit.app))


def settings(visit: Visit) -> Response:
    """The settings that matter to users; no secrets."""
    return visit.page("settings.html", session=visit.session, **settings_page.context(visit.app))


def docs(visit: Visit) -> Response:
    """The API reference, rendered in the browser from the OpenAPI document."""
    answer = visit.page("docs.html")
    answer.headers.update(DOCS_HEADERS)
    return answer


def static(visit: Visit) -> Response:
    """A static file; kept for ever under its address with a version."""
    name = urllib.parse.unquote(visit.request.route.get("file", ""))
    if name not in static_files():
        raise not_found("such file")
    content, kind, version = static_files()[name]
    kept = visit.request.query.get("v") == version
    cache = "public, max-age=31536000, immutable" if kept else "no-cache"
    return Response(body=content, media_type=kind, headers={"Cache-Control": cache})
