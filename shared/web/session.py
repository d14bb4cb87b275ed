"""Sessions of the web UI: a signed cookie in place of the token, and a CSRF token in every form.

The cookie names the token it was issued for (as a keyed hash), its expiry, a nonce that CSRF tokens derive from, its
last use, and the generation of sessions it belongs to. It holds no role: the role is what the settings grant the token
now, so that removing or demoting a token also ends or demotes its sessions. What was ended by hand is in storage, see
`shared.control.sessions`.
"""

import base64
import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

from pydantic import SecretStr

from gpulaunch.operations import Scope
from shared.auth import Deriver, Purpose
from shared.clock import Clock
from shared.control.sessions import FIRST_GENERATION
from shared.settings import Settings

LIFETIME: Final = 12 * 3600
"""Seconds until a session expires, used or not: a working day."""
IDLE: Final = 30 * 60
"""Seconds until a session that is not used ends (OWASP ASVS 3.3.2). A page that polls is not used by that."""
RENEWED: Final = 60
"""Seconds of use until the cookie is issued again, so that not every answer carries one."""
GUEST_LIFETIME: Final = 3600
"""Seconds until an open sign-in page expires."""

_GUEST: Final = "guest"
_COOKIE: Final = re.compile(
    r"([A-Za-z0-9_-]{5,32})\.([0-9]{1,12})\.([A-Za-z0-9_-]{22})\.([0-9]{1,12})\.([A-Za-z0-9_-]{1,16})\.([A-Za-z0-9_-]{43})"
)


@dataclass(frozen=True)
class WebSession:
    """One visitor."""

    role: Scope | None
    """None: not signed in; such a session protects the sign-in form."""
    token_hash: str
    """Of the token it was issued for."""
    expires_at: int
    """Seconds since 1970."""
    nonce: str
    used_at: int = 0
    """Seconds since 1970."""
    generation: str = FIRST_GENERATION


OPEN: Final = WebSession(Scope.ADMIN, _GUEST, 0, secrets.token_urlsafe(16))
"""Everyone's session on a developer's machine without any token, as with the JSON API. Its nonce is random: the key of
such a machine is published, so that anyone could make the CSRF tokens of a known nonce."""


class Sessions:
    """Issues and reads the cookies of one deployment."""

    def __init__(self, deriver: Deriver, settings: Settings, clock: Clock) -> None:
        self._key = deriver.derive("web", 0, Purpose.SESSION).encode()
        self._settings = settings
        self._clock = clock

    @property
    def open_to_all(self) -> bool:
        """Whether no sign-in is needed: a developer's machine without tokens."""
        return self._settings.open_to_all

    @property
    def configured(self) -> bool:
        return self._settings.has_tokens

    def sign_in(self, token: str) -> WebSession | None:
        """Return a session for the bearer of a token, or None if the token is unknown."""
        token_hash = self._hash(token)
        role = self._role(token_hash)
        return None if role is None else self._new(role, token_hash, LIFETIME)

    def renewed(self, session: WebSession) -> WebSession | None:
        """Return the session as used now; None if its cookie need not be issued again."""
        if session is OPEN or session.role is None or self._now() - session.used_at < RENEWED:
            return None
        return replace(session, used_at=self._now())

    def guest(self) -> WebSession:
        """Return a session for a visitor who is about to sign in."""
        return self._new(None, _GUEST, GUEST_LIFETIME)

    def cookie(self, session: WebSession) -> tuple[str, int]:
        """Return the cookie's value and the seconds until the session expires."""
        text = f"{session.token_hash}.{session.expires_at}.{session.nonce}.{session.used_at}.{session.generation}"
        return f"{text}.{self._sign('session', text)}", max(0, session.expires_at - self._now())

    def read(self, cookie: str) -> WebSession | None:
        """Return the session of a cookie; None if it is forged, expired or idle, or its token was removed."""
        found = _COOKIE.fullmatch(cookie)
        if found is None:
            return None
        token_hash, expires_at, nonce, used_at, generation, signature = found.groups()
        if not hmac.compare_digest(signature, self._sign("session", cookie.rpartition(".")[0])):
            return None
        guest = token_hash == _GUEST
        role = None if guest else self._role(token_hash)
        idle = not guest and self._now() - int(used_at) >= IDLE
        if self._now() >= int(expires_at) or idle or (role is None and not guest):
            return None
        return WebSession(role, token_hash, int(expires_at), nonce, int(used_at), generation)

    def csrf_token(self, session: WebSession) -> str:
        """Return the CSRF token of this session's forms; another site can neither read nor guess it."""
        return self._sign("form", session.nonce)

    def is_csrf_token(self, session: WebSession, given: str) -> bool:
        """Whether a posted form belongs to this session, compared in constant time."""
        return hmac.compare_digest(self.csrf_token(session).encode(), given.encode(errors="surrogatepass"))

    def _new(self, role: Scope | None, token_hash: str, lifetime: int) -> WebSession:
        return WebSession(role, token_hash, self._now() + lifetime, secrets.token_urlsafe(16), self._now())

    def _now(self) -> int:
        return int(self._clock.now().timestamp())

    def _sign(self, purpose: str, text: str) -> str:
        digest = hmac.new(self._key, f"{purpose}|{text}".encode(errors="surrogatepass"), hashlib.sha256).digest()
        return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()

    def _hash(self, token: str) -> str:
        return self._sign("token", token)[:24]

    def _role(self, token_hash: str) -> Scope | None:
        if self._among(token_hash, self._settings.admin_tokens):
            return Scope.ADMIN
        return Scope.READ if self._among(token_hash, self._settings.read_tokens) else None

    def _among(self, token_hash: str, tokens: Iterable[SecretStr]) -> bool:
        found = False
        for token in tokens:
            found |= hmac.compare_digest(token_hash, self._hash(token.get_secret_value()))
        return found
