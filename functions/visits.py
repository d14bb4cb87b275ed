"""What all pages share: the session, forms against forgery, problems as pages, and the headers of every answer."""

import functools
import hashlib
import urllib.parse
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import azure.functions as func

from functions.http import header, problem_of

if TYPE_CHECKING:
    from shared.api.problems import ProblemError
    from shared.control.parts import Parts
    from shared.web.session import Session, Sessions

Access = Literal["open", "read", "admin"]
"""Who may see a page: everybody, whoever is signed in, or whoever signed in with an admin token."""

_MAX_FORM = 64 * 1024
_NO_STORE = {"Cache-Control": "no-store"}


@dataclass(frozen=True)
class Visit:
    """One request for a page."""

    req: func.HttpRequest
    parts: "Parts"
    sessions: "Sessions"
    session: "Session | None"

    @property
    def is_admin(self) -> bool:
        """Whether the visitor may change anything."""
        return self.session is not None and self.session.role == "admin"

    @property
    def is_htmx(self) -> bool:
        """Whether a part of a page is asked for, by htmx."""
        return header(self.req, "HX-Request") == "true"

    @property
    def address(self) -> str:
        """Where this app is reached."""
        url = urllib.parse.urlsplit(self.req.url)
        return self.parts.settings.public_url or f"{'https' if _secure(self.req) else url.scheme}://{url.netloc}"

    @functools.cached_property
    def form(self) -> dict[str, str]:
        """The posted form. Raises ProblemError (413, 400)."""
        from shared.api.problems import malformed, too_large

        body = self.req.get_body()
        if len(body) > _MAX_FORM:
            raise too_large(_MAX_FORM)
        try:
            return dict(urllib.parse.parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=100))
        except ValueError as error:
            raise malformed("The form is malformed.") from error

    def page(self, template: str, status: int = 200, **context: Any) -> func.HttpResponse:
        """A page, or a part of one."""
        from shared.web.rendering import render

        signed_in = self.session is not None and self.session.role is not None
        known = {
            "is_admin": self.is_admin,
            "signed_in": signed_in,
            "open_to_all": self.sessions.open_to_all,
            "form_mark": self.sessions.form_mark(self.session) if self.session else "",
            "orchestrator": self.parts.settings.orchestrator,
            "clock_now": self.parts.clock.now(),
        }
        body = render(template, **known, **context)
        return func.HttpResponse(body, status_code=status, mimetype="text/html", charset="utf-8", headers=_NO_STORE)

    def part_if_changed(
        self, template: str, marks: list[str], make: Callable[[], dict[str, Any]], **context: Any
    ) -> func.HttpResponse:
        """A part of a page with an ETag made of what was read; 304, and nothing more is read, when it is known."""
        mark = self.mark(marks)
        if header(self.req, "If-None-Match") == mark:
            return func.HttpResponse(status_code=304, headers={"ETag": mark, **_NO_STORE})
        answer = self.page(template, mark=mark, **context, **make())
        answer.headers["ETag"] = mark
        return answer

    def mark(self, marks: list[str]) -> str:
        """The ETag of what was read, as this visitor sees it."""
        from shared.web.rendering import look

        text = "\n".join([look(), str(self.is_admin), *marks])
        return f'"{hashlib.sha256(text.encode()).hexdigest()[:32]}"'

    def keep(self, answer: func.HttpResponse, session: "Session | None") -> func.HttpResponse:
        """Set the session's cookie; None: take it away."""
        name, secure = _cookie_name(self.req), "; Secure" if _secure(self.req) else ""
        value, age = "", 0
        if session is not None:
            value = self.sessions.cookie(session)
            age = max(0, int(session.expires_at - self.parts.clock.now().timestamp()))
        answer.headers["Set-Cookie"] = f"{name}={value}; Path=/; Max-Age={age}; HttpOnly; SameSite=Strict{secure}"
        return answer


Handler = Callable[[Visit], func.HttpResponse]


def page(
    blueprint: func.Blueprint, name: str, route: str, method: Literal["GET", "POST"] = "GET", access: Access = "read"
) -> Callable[[Handler], Callable[[func.HttpRequest], func.HttpResponse]]:
    """Register a page: its route, who may see it, problems as pages; a POST needs the mark of one of our forms."""

    def register(handler: Handler) -> Callable[[func.HttpRequest], func.HttpResponse]:
        # The worker finds the parameter by name, and must not see the handler's own signature.
        def guarded(req: func.HttpRequest) -> func.HttpResponse:
            return _answer(access, method, handler, req)

        guarded.__name__ = name
        guarded.__doc__ = handler.__doc__
        blueprint.function_name(name)(
            blueprint.route(route=route, methods=[method], auth_level=func.AuthLevel.ANONYMOUS)(guarded)
        )
        return guarded

    return register


def see_other(where: str) -> func.HttpResponse:
    """Go there, by GET."""
    return func.HttpResponse(status_code=303, headers={"Location": where, **_NO_STORE})


def own_path(given: str) -> str:
    """A path of this app to go to; the list of instances for anything else."""
    safe = given.startswith("/") and not given.startswith(("//", "/\\")) and given.isprintable()
    return given if safe else "/instances"


def _answer(access: Access, method: str, handler: Handler, req: func.HttpRequest) -> func.HttpResponse:
    from shared.web.rendering import HEADERS, STRICT_TRANSPORT

    request_id = uuid.uuid4().hex
    visit = None
    try:
        visit = _visit(req)
        answer = _refused(visit, access, method) or handler(visit)
    except Exception as error:
        # The last line of defence, as in functions.http.
        answer = _problem_page(problem_of(error, req, request_id), request_id, visit)
    for name, value in {**HEADERS, **(STRICT_TRANSPORT if _secure(req) else {}), "X-Request-Id": request_id}.items():
        answer.headers.setdefault(name, value)
    return answer


def _visit(req: func.HttpRequest) -> Visit:
    from shared.app import runtime
    from shared.web.session import OPEN, Sessions

    parts = runtime()
    sessions = Sessions(parts.deriver, parts.settings)
    session = OPEN if sessions.open_to_all else sessions.read(_cookie(req), parts.clock.now())
    return Visit(req, parts, sessions, session)


def _refused(visit: Visit, access: Access, method: str) -> func.HttpResponse | None:
    """An answer to who may not come in, or None. Raises ProblemError (403)."""
    from shared.api.problems import forbidden

    signed_in = visit.session is not None and visit.session.role is not None
    if access != "open" and not signed_in:
        url = urllib.parse.urlsplit(visit.req.url)
        there = urllib.parse.quote(url.path + (f"?{url.query}" if url.query else ""), safe="")
        sign_in = "/signin" if visit.is_htmx or method != "GET" else f"/signin?next={there}"
        if visit.is_htmx:
            return func.HttpResponse(status_code=401, headers={"HX-Redirect": sign_in, **_NO_STORE})
        return see_other(sign_in)
    if access == "admin" and not visit.is_admin:
        raise forbidden("Your token is read-only. Sign in with an admin token.")
    if method == "POST":
        # Browsers say where a request comes from; the mark protects where they don't.
        foreign = header(visit.req, "Sec-Fetch-Site") not in ("", "same-origin", "none")
        given = visit.form.get("form_mark", "")
        if foreign or visit.session is None or not visit.sessions.is_form_mark(visit.session, given):
            raise forbidden("This form has expired. Go back, reload the page and try again.")
    return None


def _problem_page(error: "ProblemError", request_id: str, visit: Visit | None) -> func.HttpResponse:
    from shared.web.rendering import render

    if visit is None:
        # Not even the settings could be read, so that no page can be made that says who is signed in.
        body = render("broken.html", error=error, request_id=request_id)
        return func.HttpResponse(body, status_code=error.status, mimetype="text/html", charset="utf-8")
    answer = visit.page("error.html", error.status, error=error, request_id=request_id)
    if error.retry_after:
        answer.headers["Retry-After"] = str(error.retry_after)
    return answer


def _secure(req: func.HttpRequest) -> bool:
    forwarded = header(req, "X-Forwarded-Proto").split(",")[0].strip().lower()
    return (forwarded or urllib.parse.urlsplit(req.url).scheme) == "https"


def _cookie_name(req: func.HttpRequest) -> str:
    # With that beginning a browser takes the cookie over https and from this host only.
    return "__Host-gpulaunch" if _secure(req) else "gpulaunch"


def _cookie(req: func.HttpRequest) -> str:
    cookies: Mapping[str, str] = dict(
        part.strip().split("=", 1) for part in header(req, "Cookie").split(";") if "=" in part
    )
    return cookies.get(_cookie_name(req), "")
