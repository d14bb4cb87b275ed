"""The pages for people."""

import urllib.parse
from typing import Any

import azure.functions as func

from functions.http import instance_id
from functions.visits import Visit, own_path, page, see_other

bp = func.Blueprint()


@page(bp, "web_home", "/", access="open")
def home(visit: Visit) -> func.HttpResponse:  # noqa: ARG001 - every handler gets the visit
    """To the instances."""
    return see_other("/instances")


@page(bp, "web_signin", "signin", access="open")
def sign_in_page(visit: Visit) -> func.HttpResponse:
    """The sign-in form."""
    where = own_path(visit.req.params.get("next", ""))
    if visit.session is not None and visit.session.role is not None:
        return see_other(where)
    return _sign_in_form(visit, where)


@page(bp, "web_signin_post", "signin", "POST", access="open")
def sign_in(visit: Visit) -> func.HttpResponse:
    """Sign in with a token."""
    where = own_path(visit.form.get("next", ""))
    session = visit.sessions.sign_in(visit.form.get("token", "").strip(), visit.parts.clock.now())
    if session is None:
        return _sign_in_form(visit, where, "Unknown token.", 401)
    return visit.keep(see_other(where), session)


@page(bp, "web_signout", "signout", "POST")
def sign_out(visit: Visit) -> func.HttpResponse:
    """Forget the session."""
    return visit.keep(see_other("/signin"), None)


def _sign_in_form(visit: Visit, where: str, wrong: str = "", status: int = 200) -> func.HttpResponse:
    guest = visit.sessions.guest(visit.parts.clock.now())
    asked = Visit(visit.req, visit.parts, visit.sessions, guest)
    return asked.keep(
        asked.page("signin.html", status, where=where, wrong=wrong, configured=visit.sessions.configured), guest
    )


@page(bp, "web_launch", "launch")
def launch_page(visit: Visit) -> func.HttpResponse:
    """The launch form, empty, or filled in like an instance that there is."""
    from shared.web import launch_form

    values = launch_form.fields({})
    like = visit.req.params.get("like", "")
    found = visit.parts.store.load(like) if like else None
    if found is not None:
        values = launch_form.fields_of(found.record.request)
    return _launch_form(visit, values)


@page(bp, "web_launch_plan", "launch/plan")
def launch_plan(visit: Visit) -> func.HttpResponse:
    """The plan for what the form says at the moment, for htmx."""
    from shared.web import launch_form

    values = launch_form.fields(dict(visit.req.params))
    planned = launch_form.preview(visit.parts, values)
    return visit.page("plan.html", oob=True, **launch_form.context(visit.parts, values, planned, visit.address))


@page(bp, "web_launch_post", "launch", "POST", access="admin")
def launch(visit: Visit) -> func.HttpResponse:
    """Launch what the form says; or show its plan, where no script does it."""
    from shared.api.problems import ProblemError
    from shared.control.launch import launch as begin
    from shared.web import launch_form

    values = launch_form.fields(visit.form)
    if visit.form.get("do") == "plan":
        return _launch_form(visit, values)
    try:
        made, _ = begin(visit.parts, launch_form.encoded(values), visit.form.get("key") or None)
    except ProblemError as error:
        return _launch_form(visit, values, error)
    return see_other(f"/instances/{made}")


def _launch_form(visit: Visit, values: dict[str, str], error: Any = None) -> func.HttpResponse:
    from shared.web import launch_form

    planned = launch_form.preview(visit.parts, values)
    refused = launch_form.by_field(error) if error is not None else {}
    context = launch_form.context(visit.parts, values, planned, visit.address)
    return visit.page("launch.html", error.status if error else 200, oob=False, refused=refused, **context)


@page(bp, "web_instances", "instances")
def instances(visit: Visit) -> func.HttpResponse:
    """All instances, or the list alone for htmx."""
    from shared.web import fleet

    shown, marks = fleet.read(visit.parts, dict(visit.req.params))
    if visit.is_htmx:
        return visit.part_if_changed("fleet.html", marks, lambda: shown)
    return visit.page("instances.html", mark=visit.mark(marks), **shown)


@page(bp, "web_instance", "instances/{instanceId}")
def instance(visit: Visit) -> func.HttpResponse:
    """One instance."""
    return _instance(visit)


@page(bp, "web_instance_live", "instances/{instanceId}/live")
def instance_live(visit: Visit) -> func.HttpResponse:
    """What changes on an instance's page; one read and a 304 when nothing did."""
    from shared.control.queries import find
    from shared.web import instance as shown

    found = find(visit.parts, instance_id(visit.req))
    return visit.part_if_changed("live.html", [found.etag], lambda: shown.context(visit.parts, found))


@page(bp, "web_instance_end", "instances/{instanceId}/terminate", access="admin")
def confirm_end(visit: Visit) -> func.HttpResponse:
    """Ask before an instance is ended, where no script does it."""
    return _instance(visit, "terminate.html")


@page(bp, "web_instance_end_post", "instances/{instanceId}/terminate", "POST", access="admin")
def end(visit: Visit) -> func.HttpResponse:
    """End an instance."""
    from shared.control.terminate import end_instance

    return see_other(f"/instances/{end_instance(visit.parts, instance_id(visit.req)).instance_id}")


@page(bp, "web_instance_key", "instances/{instanceId}/key", access="admin")
def key(visit: Visit) -> func.HttpResponse:
    """The endpoint's key, on demand; never a part of a page that is polled."""
    from shared.api.views import credentials
    from shared.control.queries import find

    answer = credentials(visit.parts, find(visit.parts, instance_id(visit.req)).record)
    return visit.page("key_part.html" if visit.is_htmx else "key.html", credentials=answer)


def _instance(visit: Visit, template: str = "instance.html") -> func.HttpResponse:
    from shared.control.queries import find
    from shared.web import instance as shown

    found = find(visit.parts, instance_id(visit.req))
    return visit.page(template, mark=visit.mark([found.etag]), **shown.context(visit.parts, found))


@page(bp, "web_costs", "costs")
def costs(visit: Visit) -> func.HttpResponse:
    """What the instances have cost."""
    from shared.web.costs import context

    return visit.page("costs.html", **context(visit.parts))


@page(bp, "web_settings", "settings")
def settings(visit: Visit) -> func.HttpResponse:
    """The settings that matter to users; no secrets."""
    from shared.web.settings_page import context

    return visit.page("settings.html", session=visit.session, **context(visit.parts))


@page(bp, "web_docs", "api/docs", access="open")
def docs(visit: Visit) -> func.HttpResponse:
    """The API reference, rendered in the browser from the OpenAPI document."""
    from shared.web.rendering import DOCS_HEADERS

    answer = visit.page("docs.html")
    answer.headers.update(DOCS_HEADERS)
    return answer


@page(bp, "web_static", "static/{file}", access="open")
def static(visit: Visit) -> func.HttpResponse:
    """A static file; kept for ever under its address with a version."""
    from shared.api.problems import not_found
    from shared.web.rendering import static_files

    name = urllib.parse.unquote(visit.req.route_params.get("file", ""))
    if name not in static_files():
        raise not_found("such file")
    content, kind, version = static_files()[name]
    kept = visit.req.params.get("v") == version
    cache = "public, max-age=31536000, immutable" if kept else "no-cache"
    return func.HttpResponse(content, mimetype=kind, headers={"Cache-Control": cache})
