"""One request for a page: its session, its form, and the responses to it."""

import functools
import hashlib
import urllib.parse
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from gpulaunch.operations import Scope
from shared.api.http import Request, Response
from shared.api.problems import ProblemError
from shared.app import App
from shared.web.rendering import render, templates_hash
from shared.web.session import Sessions, WebSession

_MAX_FORM = 64 * 1024


@dataclass(frozen=True, kw_only=True)
class Visit:
    """One request for a page."""

    request: Request
    app: App
    sessions: Sessions
    session: WebSession | None

    @property
    def is_signed_in(self) -> bool:
        return self.session is not None and self.session.role is not None

    @property
    def is_admin(self) -> bool:
        return self.session is not None and self.session.role is Scope.ADMIN

    @property
    def is_htmx(self) -> bool:
        return self.request.header("HX-Request") == "true"

    @property
    def address(self) -> str:
        """The app's own URL."""
        url = self.request.address
        scheme = "https" if self.request.is_secure else url.scheme
        return self.app.settings.public_url or f"{scheme}://{url.netloc}"

    @functools.cached_property
    def form(self) -> dict[str, str]:
        """The posted form.

        Raises:
            ProblemError: 413, the form is too large; 400, it is malformed.
        """
        body = self.request.body
        if len(body) > _MAX_FORM:
            raise ProblemError("body_too_large", f"A body has at most {_MAX_FORM} bytes.")
        try:
            return dict(urllib.parse.parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=100))
        except ValueError as error:
            raise ProblemError("malformed_request", "The form is malformed.") from error

    def page(self, template: str, status: int = 200, **context: Any) -> Response:
        """Render a page or a part of one."""
        known = {
            "is_admin": self.is_admin,
            "signed_in": self.is_signed_in,
            "open_to_all": self.sessions.open_to_all,
            "csrf_token": self.sessions.csrf_token(self.session) if self.session else "",
            "orchestrator": self.app.settings.orchestrator,
            "clock_now": self.app.clock.now(),
        }
        body = render(template, **known, **context)
        return Response(body=body, status=status, media_type="text/html", charset="utf-8")

    def part_if_changed(self, template: str, etags: list[str], context: Callable[[], dict[str, Any]]) -> Response:
        """Render a part of a page; if the visitor has it already, answer 304 without making its context."""
        etag = self.etag(etags)
        if self.request.header("If-None-Match") == etag:
            return Response(status=304, headers={"ETag": etag})
        response = self.page(template, etag=etag, **context())
        response.headers["ETag"] = etag
        return response

    def etag(self, etags: list[str]) -> str:
        """Return the ETag of a page made from records with these ETags, as this visitor sees it."""
        text = "\n".join([templates_hash(), str(self.is_admin), *etags])
        return f'"{hashlib.sha256(text.encode()).hexdigest()[:32]}"'

    def set_cookie(self, response: Response, session: WebSession | None) -> Response:
        """Add the session's cookie to a response; None deletes the cookie."""
        name, secure = cookie_name(self.request), "; Secure" if self.request.is_secure else ""
        value, age = ("", 0) if session is None else self.sessions.cookie(session)
        response.headers["Set-Cookie"] = f"{name}={value}; Path=/; Max-Age={age}; HttpOnly; SameSite=Strict{secure}"
        return response


def see_other(where: str) -> Response:
    """Redirect to a page by GET."""
    return Response(status=303, headers={"Location": where})


def own_path(given: str) -> str:
    """Return the path if it is within this app, else the instance list's."""
    safe = given.startswith("/") and not given.startswith(("//", "/\\")) and given.isprintable()
    return given if safe else "/instances"


def cookie_name(request: Request) -> str:
    # Browsers accept a cookie with this prefix only over HTTPS and from this host.
    return "__Host-gpulaunch" if request.is_secure else "gpulaunch"


def session_cookie(request: Request) -> str:
    cookies = dict(part.strip().split("=", 1) for part in request.header("Cookie").split(";") if "=" in part)
    return cookies.get(cookie_name(request), "")
