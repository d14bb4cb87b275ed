"""Redact secrets from everything that people read: log records, events, log tails."""

import base64
import html
import json
import logging
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any
from urllib.parse import quote, quote_plus

HIDDEN = "[redacted]"

_PATTERNS = (
    # Header values and assignments that contain credentials in any form.
    re.compile(r"(?i)\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{8,}"),
    re.compile(
        r"(?i)\b(api[_-]?key|token|secret|password|passwd|accountkey|sharedaccesskey|authorization|x-admin-token)"
        r"(\"?'?\s*[=:]\s*\"?'?)[A-Za-z0-9._~+/=-]{8,}"
    ),
    # Signed URLs: S3 and R2, Azure SAS.
    re.compile(r"(?i)([?&](?:x-amz-(?:signature|credential|security-token)|sig|code)=)[^&\s\"']+"),
    # Tokens with a recognizable form: the Hub's, gpulaunch's, AWS's, OpenAI's and the like.
    re.compile(r"\b(?:hf_[A-Za-z0-9]{16,}|gl-[A-Za-z0-9_-]{43}|(?:AKIA|ASIA)[A-Z0-9]{16}|sk-[A-Za-z0-9_-]{16,})\b"),
)
_SECRET_WORDS = frozenset(
    {"token", "key", "apikey", "secret", "password", "passwd", "credential", "credentials", "sig"}
)
_MADE_UP = re.compile(r"(?=.*[A-Za-z])(?=.*[0-9])[^$ ].{7,}")
_LOGIN_OPTIONS = frozenset({"-u", "--user", "--proxy-user"})
_LOGIN = re.compile(r"(?!\d+:\d+$)[^\s:/$]+:(?!//)[^\s$]{3,}")
"""Name and password as curl takes them, and not the numbers of a user and a group."""
_LOGIN_IN_TEXT = re.compile(r"(?<!\S)((?:-u|--user|--proxy-user)[ =][\"']?)(?!\d+:\d+\b)[^\s:/$\"']+:[^\s$\"']{3,}")
_USER_INFO = re.compile(r"(?i)\b([a-z][a-z0-9+.-]*://)[^/\s@]*@")


_PASSWORD_IN_URL = re.compile(r"(?i)\b([a-z][a-z0-9+.-]*://[^/\s:@'\"]*):[^/\s@'\"]+@")


def forms(secret: str) -> set[str]:
    """Return the forms in which programs print a secret: as it is, quoted, encoded for URLs, HTML or in base64."""
    text = secret.encode(errors="replace")
    quoted = {json.dumps(secret)[1:-1], repr(secret)[1:-1], html.escape(secret)}
    encoded = {base64.b64encode(text).decode().rstrip("="), base64.urlsafe_b64encode(text).decode().rstrip("=")}
    return {secret, quote(secret), quote(secret, safe=""), quote_plus(secret), *quoted, *encoded}


def encodable(text: str) -> str:
    """Return the text with lone surrogates replaced.

    UTF-8 cannot hold them: the Functions worker fails at a log line with one, and never ends a call whose error has
    one.
    """
    return text if text.isascii() else text.encode(errors="replace").decode()


class Redactor:
    """Replaces known secrets, and whatever looks like one, by `[redacted]`."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        # Short values would hide innocent text. Longest first, so that none hides part of another.
        known = sorted({form for one in secrets if len(one) >= 8 for form in forms(one)}, key=len, reverse=True)
        self._known = re.compile("|".join(map(re.escape, known))) if known else None

    def text(self, text: str) -> str:
        text = encodable(text)
        if self._known is not None:
            text = self._known.sub(HIDDEN, text)
        text = _PATTERNS[0].sub(lambda found: f"{found[1]} {HIDDEN}", text)
        text = _PATTERNS[1].sub(lambda found: f"{found[1]}{found[2]}{HIDDEN}", text)
        text = _PATTERNS[2].sub(lambda found: f"{found[1]}{HIDDEN}", text)
        text = _PATTERNS[3].sub(HIDDEN, text)
        if "@" in text:
            text = _PASSWORD_IN_URL.sub(rf"\1:{HIDDEN}@", text)
        return _LOGIN_IN_TEXT.sub(rf"\1{HIDDEN}", text)

    def arguments(self, given: Iterable[str]) -> list[str]:
        """Redact a command's arguments, also the values of options and variables that are named as secrets are."""
        shown: list[str] = []
        hides = login = False
        for argument in given:
            name, equals, value = argument.partition("=")
            secret = not _SECRET_WORDS.isdisjoint(re.split(r"[^a-z0-9]+", name.lower())) and " " not in name
            if (hides and not argument.startswith("-")) or (login and _LOGIN.fullmatch(argument)):
                shown.append(HIDDEN)
            elif secret and equals and value:
                shown.append(f"{name}={HIDDEN}")
            else:
                shown.append(_USER_INFO.sub(rf"\1{HIDDEN}@", self.text(argument)))
            hides = secret and not equals and argument.startswith("-")
            login = argument in _LOGIN_OPTIONS
        return shown

    def secrets(self, given: Sequence[str]) -> list[int]:
        """Return the places of arguments that are secrets by their form, or by their option's name and their look.

        `arguments` hides more than these: also the values of `--key 2` and `--token $TOKEN`.
        """
        found: list[int] = []
        for place, (argument, shown) in enumerate(zip(given, self.arguments(given), strict=True)):
            value = argument if shown == HIDDEN else argument.partition("=")[2]
            by_form = self.text(argument) != argument or _USER_INFO.search(argument) is not None
            by_form |= place > 0 and given[place - 1] in _LOGIN_OPTIONS
            if argument != shown and (by_form or _MADE_UP.fullmatch(value)):
                found.append(place)
        return found

    def lines(self, lines: Iterable[str]) -> list[str]:
        return [self.text(line) for line in lines]


def redact_all_logging(redactor: Redactor) -> None:
    """Redact every log record of the process at its creation, for all loggers and handlers."""
    make: Callable[..., logging.LogRecord] = logging.getLogRecordFactory()
    if getattr(make, "redacts", False):
        make = make.__wrapped__  # pyright: ignore[reportFunctionMemberAccess] - set below, on our own factory

    def redacting(*args: Any, **kwargs: Any) -> logging.LogRecord:
        record = make(*args, **kwargs)
        record.msg, record.args = redactor.text(record.getMessage()), ()
        if record.exc_info and record.exc_info[1] is not None:
            record.exc_text = redactor.text(logging.Formatter().formatException(record.exc_info))
        return record

    redacting.redacts = True  # pyright: ignore[reportFunctionMemberAccess]
    redacting.__wrapped__ = make  # pyright: ignore[reportFunctionMemberAccess]
    logging.setLogRecordFactory(redacting)
