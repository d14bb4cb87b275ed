"""A minimal browser without scripts: cookies and forms."""

import html
import re
import urllib.parse
from dataclasses import dataclass, field

from tests.functional.world import ADMIN, Answer, World

_COOKIE = re.compile(r"([^=]+)=([^;]*)")


@dataclass
class Visitor:
    world: World
    cookies: dict[str, str] = field(default_factory=dict[str, str])
    secure: bool = False
    """Whether a proxy in front of the app terminates HTTPS."""

    def get(self, path: str, **headers: str) -> Answer:
        return self._call("GET", path, b"", headers)

    def part(self, path: str, mark: str = "") -> Answer:
        """Get a part of a page as htmx does."""
        return self._call("GET", path, b"", {"HX-Request": "true", "If-None-Match": mark})

    def post(self, path: str, form: dict[str, str], **headers: str) -> Answer:
        return self._call("POST", path, urllib.parse.urlencode(form).encode(), headers)

    def send(self, page: str, action: str, form: dict[str, str]) -> Answer:
        """Post a form as a browser does: with the CSRF token of its page."""
        return self.post(action, {"csrf_token": csrf_token_of(self.get(page)), **form})

    def sign_in(self, token: str = ADMIN) -> "Visitor":
        answer = self.send("/signin", "/signin", {"token": token})
        assert answer.status == 303, answer.body
        return self

    def _call(self, method: str, path: str, body: bytes, headers: dict[str, str]) -> Answer:
        sent = {name: value for name, value in headers.items() if value}
        sent["Cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        if self.secure:
            sent["X-Forwarded-Proto"] = "https"
        answer = self.world.call(method, path, token=None, headers=sent, raw=body)
        given = _COOKIE.match(answer.headers.get("Set-Cookie", ""))
        if given is not None:
            self.cookies[given[1]] = given[2]
        return answer


def csrf_token_of(page: Answer) -> str:
    found = re.search(r'name="csrf_token" value="([^"]+)"', page.body.decode())
    assert found is not None, page.body
    return html.unescape(found[1])


def hidden_fields(page: Answer) -> dict[str, str]:
    """Return what a page's forms send without being seen."""
    found = re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)">', page.body.decode())
    return {name: html.unescape(value) for name, value in found}


def text_of(page: Answer) -> str:
    """Return a page's text without tags, whitespace collapsed."""
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", page.body.decode())).split())
