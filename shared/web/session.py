"""Who looks at the pages: a signed cookie in place of the token, and a mark for every form against forged posts.

The cookie says which token it was made for (by a mark from which the token can't be found), until when it holds, and a
random word that the forms' marks are made of. Its role is not in it: it is the role that the token has now, so that a
token that is taken out of the settings, or moved to the readers, takes its sessions along.
"""

import base64
import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from pydantic import SecretStr

from shared.auth import Deriver, Purpose, Role
from shared.settings import Settings

LIFETIME: Final = 12 * 3600
"""Seconds a session holds, used or not: a working day."""
GUEST_LIFETIME: Final = 3600
"""Seconds the sign-in page may stand open."""

_NOBODY: Final = "guest"
_COOKIE: Final = re.compile(r"([A-Za-z0-9_-]{5,32})\.([0-9]{1,12})\.([A-Za-z0-9_-]{22})\.([A-Za-z0-9_-]{43})")


@dataclass(frozen=True)
class Session:
    """One visitor."""

    role: Role | None
    """None: not signed in; such a session exists so that the sign-in form is protected too."""
    mark: str
    """Which token it was made for."""
    expires_at: int
    """Seconds since 1970."""
    nonce: str


OPEN: Final = Session(Role.ADMIN, _NOBODY, 0, "development")
"""Everybody's session on a developer's machine where no token is configured, as for the JSON interface."""


class Sessions:
    """Makes and reads the cookies of one deployment."""

    def __init__(self, deriver: Deriver, settings: Settings) -> None:
        self._key = deriver.derive("web", 0, Purpose.SESSION).encode()
        self._settings = settings

    @property
    def open_to_all(self) -> bool:
        """Whether nobody has to sign in: a developer's machine without tokens."""
        return self._settings.development and not self.configured

    @property
    def configured(self) -> bool:
        """Whether there is any token to sign in with."""
        return bool(self._settings.admin_tokens or self._settings.read_tokens)

    def sign_in(self, token: str, now: datetime) -> Session | None:
        """A session for the bearer of a token; None when the token is not known."""
        mark = self._mark(token)
        role = self._role(mark)
        return None if role is None else self._new(role, mark, now, LIFETIME)

    def guest(self, now: datetime) -> Session:
        """A session for somebody who is about to sign in."""
        return self._new(None, _NOBODY, now, GUEST_LIFETIME)

    def cookie(self, session: Session) -> str:
        """The cookie's value."""
        text = f"{session.mark}.{session.expires_at}.{session.nonce}"
        return f"{text}.{self._sign('session', text)}"

    def read(self, cookie: str, now: datetime) -> Session | None:
        """The session of a cookie; None when it is not ours, has expired, or its token is gone."""
        found = _COOKIE.fullmatch(cookie)
        if found is None:
            return None
        mark, expires_at, nonce, signature = found.groups()
        if not hmac.compare_digest(signature, self._sign("session", f"{mark}.{expires_at}.{nonce}")):
            return None
        if now.timestamp() >= int(expires_at):
            return None
        role = None if mark == _NOBODY else self._role(mark)
        if role is None and mark != _NOBODY:
            return None
        return Session(role, mark, int(expires_at), nonce)

    def form_mark(self, session: Session) -> str:
        """What every form of this session carries; another site can neither read nor guess it."""
        return self._sign("form", session.nonce)

    def is_form_mark(self, session: Session, given: str) -> bool:
        """Whether a posted form is one of this session's, compared in constant time."""
        return hmac.compare_digest(self.form_mark(session).encode(), given.encode())

    @staticmethod
    def _new(role: Role | None, mark: str, now: datetime, lifetime: int) -> Session:
        return Session(role, mark, int(now.timestamp()) + lifetime, secrets.token_urlsafe(16))

    def _sign(self, purpose: str, text: str) -> str:
        digest = hmac.new(self._key, f"{purpose}|{text}".encode(), hashlib.sha256).digest()
        return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()

    def _mark(self, token: str) -> str:
        return self._sign("token", token)[:24]

    def _role(self, mark: str) -> Role | None:
        if self._among(mark, self._settings.admin_tokens):
            return Role.ADMIN
        return Role.READ if self._among(mark, self._settings.read_tokens) else None

    def _among(self, mark: str, tokens: Iterable[SecretStr]) -> bool:
        found = False
        for token in tokens:
            found |= hmac.compare_digest(mark, self._mark(token.get_secret_value()))
        return found
