"""Answer requests for pages: session, access, CSRF check, problems as pages, security headers."""

import urllib.parse
from collections.abc import Callable, Mapping
from dataclasses import replace

from gpulaunch.operations import Scope
from shared.api.access import check_local, log_change
from shared.api.http import Request, Response, finished
from shared.api.problems import ProblemError, problem_of
from shared.app import App
from shared.web import deploy_pages, endpoint_pages, pages
from shared.web.rendering import HEADERS, pages_hash, render
from shared.web.routes import Page
from shared.web.session import OPEN, Sessions
from shared.web.visit import Visit, see_other, session_cookie

Handler = Callable[[Visit], Response]

HANDLERS: Mapping[str, Handler] = {
    "web_home": pages.home,
    "web_signin": pages.sign_in_page,
    "web_signin_post": pages.sign_in,
    "web_signout": pages.sign_out,
    "web_launch": pages.launch_page,
    "web_launch_plan": pages.launch_plan,
    "web_launch_plan_post": pages.launch_plan,
    "web_launch_post": pages.launch,
    "web_deploy": deploy_pages.deploy_page,
    "web_deploy_plan": deploy_pages.deploy_plan,
    "web_deploy_plan_post": deploy_pages.deploy_plan,
    "web_deploy_post": deploy_pages.deploy,
    "web_instances": pages.instances,
    "web_instance": pages.instance,
    "web_instance_live": pages.instance_live,
    "web_instance_terminate": pages.confirm_termination,
    "web_instance_terminate_post": pages.terminate,
    "web_instance_key": pages.key,
    "web_endpoints": endpoint_pages.endpoints,
    "web_endpoint": endpoint_pages.endpoint,
    "web_endpoint_live": endpoint_pages.endpoint_live,
    "web_endpoint_change": endpoint_pages.ask,
    "web_endpoint_change_post": endpoint_pages.change,
    "web_endpoint_keys": endpoint_pages.keys,
    "web_endpoint_keys_post": endpoint_pages.create_key,
    "web_endpoint_revoke": endpoint_pages.ask_to_revoke,
    "web_endpoint_revoke_post": endpoint_pages.revoke,
    "web_costs": pages.costs,
    "web_costs_csv": pages.costs_csv,
    "web_settings": pages.settings,
    "web_docs": pages.docs,
    "web_static": pages.static,
    "web_missing": pages.missing,
}
"""By the page's name."""
AGAIN: Mapping[str, Handler] = {
    "web_launch_post": pages.launch_again,
    "web_deploy_post": deploy_pages.deploy_again,
    "web_endpoint_change_post": endpoint_pages.ask_again,
    "web_endpoint_keys_post": endpoint_pages.create_key_again,
}
"""Shows a form of an earlier session once more, as it was filled in, by the name of the page it was posted to."""
_UNUSED = ("web_static", "web_missing")
"""Pages that say nothing of a session, so that it need not be looked up."""


def answer(page: Page, request: Request, runtime: Callable[[], App]) -> Response:
    """Answer one request for a page; every error becomes a page."""
    visit = None
    try:
        visit = _visit(request, runtime())
        polling = page.polled and visit.is_htmx
        if page.name not in _UNUSED and _is_ended(visit, polling):
            visit = replace(visit, session=None)
        response = _refused(visit, page) or HANDLERS[page.name](visit)
        log_change(page.scope, request, response)
        used = visit.sessions.renewed(visit.session) if visit.session is not None and not polling else None
        if used is not None and "Set-Cookie" not in response.headers:
            visit.set_cookie(response, used)
    except Exception as error:
        # The last line of defence.
        problem = problem_of(error, request.what, request.id)
        if visit is not None:
            visit.app.refusals.note(request.source, request.what, problem.problem, request.id)
        response = _problem_page(problem, request, visit)
    response.headers.setdefault("X-Gpulaunch-Pages", pages_hash())
    return finished(request, response, HEADERS)


def _visit(request: Request, app: App) -> Visit:
    sessions = Sessions(app.deriver, app.settings, app.clock)
    session = OPEN if sessions.open_to_all else sessions.read(session_cookie(request))
    return Visit(request=request, app=app, sessions=sessions, session=session)


def _is_ended(visit: Visit, polling: bool) -> bool:
    session = visit.session
    if session is None or session is OPEN or session.role is None:
        return False
    return visit.app.ended_sessions.is_ended(session.nonce, session.generation, polling)


def _refused(visit: Visit, page: Page) -> Response | None:
    """Return the answer to a visitor who may not proceed: the way to the sign-in, or the form once more.

    Raises:
        ProblemError: 403, the visitor is not an admin, or the form is not from this session.
    """
    if visit.sessions.open_to_all:
        check_local(visit.request)
    if page.scope is not Scope.OPEN and not visit.is_signed_in:
        if visit.is_htmx:
            # The page stays, says so and offers to sign in: what was typed into it is not lost.
            return Response(status=401)
        url = visit.request.address
        there = url.path + (f"?{url.query}" if url.query else "")
        # A form leads back to its page, save the one that signs out.
        return see_other(
            "/signin" if page.name == "web_signout" else f"/signin?next={urllib.parse.quote(there, safe='')}"
        )
    if page.scope is Scope.ADMIN and not visit.is_admin:
        raise ProblemError("forbidden", "Your token is read-only. Sign in with an admin token.")
    if page.method == "POST" and page.changes:
        # Browsers say which site a request comes from; the token protects where they do not.
        foreign = visit.request.header("Sec-Fetch-Site") not in ("", "same-origin", "none")
        given = visit.form.get("csrf_token", "")
        if foreign or visit.session is None or not visit.sessions.is_csrf_token(visit.session, given):
            if page.name in AGAIN and not foreign:
                # Whoever has signed in anew keeps what was typed before.
                return AGAIN[page.name](visit)
            raise ProblemError("forbidden", "This form has expired. Go back, reload the page and try again.")
    return None


def _problem_page(error: ProblemError, request: Request, visit: Visit | None) -> Response:
    if visit is None:
        # The settings could not be read, so the page cannot show who is signed in.
        body = render("broken.html", error=error.problem, request_id=request.id)
        return Response(body=body, status=error.problem.status, media_type="text/html", charset="utf-8")
    answer = visit.page("error.html", error.problem.status, error=error.problem, request_id=request.id)
    if error.retry_after:
        answer.headers["Retry-After"] = str(error.retry_after)
    return answer
