"""One request for a page: its session, its form, and what every page is made with."""

import functools
import hashlib
import urllib.parse
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from shared.api.http import Request, Response
from shared.api.problems import malformed, too_large
from shared.app import App
from shared.web.rendering import look, render
from shared.web.session import Session, Sessions

_MAX_FORM = 64 * 1024
NO_STORE = {"Cache-Control": "no-store"}


@dataclass(frozen=True)
class Visit:
    """One request for a page."""

    request: Request
    app: App
    sessions: Sessions
    session: Session | None

    @property
    def is_admin(self) -> bool:
        """Whether the visitor may change anything."""
        return self.session is not None and self.session.role == "admin"

    @property
    def is_htmx(self) -> bool:
        """Whether a part of a page is asked for, by htmx."""
        return self.request.header("HX-Request") == "true"

    @property
    def address(self) -> str:
        """Where this app is reached."""
        url = urllib.parse.urlsplit(self.request.url)
        return self.app.settings.public_url or f"{'https' if is_secure(self.request) else url.scheme}://{url.netloc}"

    @functools.cached_property
    def form(self) -> dict[str, str]:
        """The posted form. Raises ProblemError (413, 400)."""
        body = self.request.body
        if len(body) > _MAX_FORM:
            raise too_large(_MAX_FORM)
        try:
            return dict(urllib.parse.parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=100))
        except ValueError as error:
            raise malformed("The form is malformed.") from error

    def page(self, template: str, status: int = 200, **context: Any) -> Response:
        """A page, or a part of one."""
        signed_in = self.session is not None and self.session.role is not None
        known = {
            "is_admin": self.is_admin,
            "signed_in": signed_in,
            "open_to_all": self.sessions.open_to_all,
            "form_mark": self.sessions.form_mark(self.session) if self.session else "",
            "orchestrator": self.app.settings.orchestrator,
            "clock_now": self.app.clock.now(),
        }
        body = render(template, **known, **context)
        return Response(body=body, status=status, media_type="text/html", charset="utf-8", headers=dict(NO_STORE))

    def part_if_changed(
        self, template: str, marks: list[str], make: Callable[[], dict[str, Any]], **context: Any
    ) -> Response:
        """A part of a page with an ETag made of what was read; 304, and nothing more is read, when it is known."""
        mark = self.mark(marks)
        if self.request.header("If-None-Match") == mark:
            return Response(status=304, headers={"ETag": mark, **NO_STORE})
        answer = self.page(template, mark=mark, **context, **make())
        answer.headers["ETag"] = mark
        return answer

    def mark(self, marks: list[str]) -> str:
        """The ETag of what was read, as this visitor sees it."""
        text = "\n".join([look(), str(self.is_admin), *marks])
        return f'"{hashlib.sha256(text.encode()).hexdigest()[:32]}"'

    def keep(self, answer: Response, session: Session | None) -> Response:
        """Set the session's cookie; None: delete it."""
        name, secure = cookie_name(self.request), "; Secure" if is_secure(self.request) else ""
        value, age = "", 0
        if session is not None:
            value = self.sessions.cookie(session)
            age = max(0, int(session.expires_at - self.app.clock.now().timestamp()))
        answer.headers["Set-Cookie"] = f"{name}={value}; Path=/; Max-Age={age}; HttpOnly; SameSite=Strict{secure}"
        return answer


def see_other(where: str) -> Response:
    """Go there, by GET."""
    return Response(status=303, headers={"Location": where, **NO_STORE})


def own_path(given: str) -> str:
    """A path of this app to go to; the list of instances for anything else."""
    safe = given.startswith("/") and not given.startswith(("//", "/\\")) and given.isprintable()
    return given if safe else "/instances"


def is_secure(request: Request) -> bool:
    forwarded = request.header("X-Forwarded-Proto").split(",")[0].strip().lower()
    return (forwarded or urllib.parse.urlsplit(request.url).scheme) == "https"


def cookie_name(request: Request) -> str:
    # With that beginning a browser takes the cookie over https and from this host only.
    return "__Host-gpulaunch" if is_secure(request) else "gpulaunch"


def session_cookie(request: Request) -> str:
    cookies: Mapping[str, str] = dict(
        part.strip().split("=", 1) for part in request.header("Cookie").split(";") if "=" in part
    )
    return cookies.get(cookie_name(request), "")
