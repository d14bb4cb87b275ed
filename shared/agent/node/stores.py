"""Ask stores for bytes: redirects, refusals in the store's own words, expired addresses, pauses that they ask for."""

from __future__ import annotations

import re
import ssl
import threading
import urllib.parse
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from shared.agent.node.clock import NodeClock
from shared.agent.node.errors import NETWORK_ERRORS, TRIES, FetchError, RetryableError, StoppedError
from shared.agent.node.transport import Http, UnusableProxyError, retry_after

if TYPE_CHECKING:
    from shared.agent.node.fetch import Remote

WINDOW_SECONDS = 900.0
"""Longest pause that is believed: stores count requests in windows of seconds to a quarter of an hour."""
_EXPIRED = ("ExpiredToken", "RequestExpired", "TokenRefreshRequired")
"""S3's codes, partly with status 400, for addresses that a fresh signature replaces."""
_PASSING = ("RequestTimeout", "OperationAborted")
"""S3's codes, with status 400 and 409, for what another try may change."""


class Stores:
    """Opens ranges of files. A pause that one connection is asked for holds for all of them."""

    def __init__(
        self, transport: Http, clock: NodeClock, stop: threading.Event, refresh: Callable[[], dict[str, str]] | None
    ) -> None:
        self._http, self._clock, self._stop = transport, clock, stop
        self._refresh = refresh
        """Fresh URLs by path, for URLs that expire."""
        self._refresh_lock = threading.Lock()
        self._refreshes = 0
        self._quiet_until = 0.0
        self.remotes: Sequence[Remote] = ()
        """What is fetched; all of it gets the fresh URLs."""

    def open(self, remote: Remote, first: int, last: int) -> Any:
        """Ask for bytes; follow redirects by hand and remember where they led.

        Raises:
            RetryableError, FetchError: The store does not answer with the bytes.
            StoppedError: The agent is ending.
        """
        url, asked = remote.url, remote.location or remote.url
        headers = {**remote.headers, "Range": f"bytes={first}-{last}", "Accept-Encoding": "identity"}
        for _ in range(6):
            if urllib.parse.urlsplit(asked)[:2] != urllib.parse.urlsplit(url)[:2]:
                headers.pop("Authorization", None)
            answer = self._ask(asked, headers)
            if answer.status in (200, 206, 416):
                remote.location = asked
                return answer
            with answer:
                if answer.status in (301, 302, 303, 307, 308):
                    asked = _target(remote.path, asked, answer.headers.get("Location") or "")
                    continue
                self._refuse(remote, url, asked, answer)
        raise FetchError(f"{remote.path}: too many redirects")

    def _ask(self, url: str, headers: dict[str, str]) -> Any:
        pause = self._quiet_until - self._clock.ticks()
        if pause > 0 and self._clock.wait(self._stop, pause):
            raise StoppedError
        try:
            return self._http.open("GET", url, headers)
        except NETWORK_ERRORS as error:
            untrusted = isinstance(getattr(error, "reason", error), ssl.SSLCertVerificationError)
            if untrusted or isinstance(error, UnusableProxyError):
                # No other try ends differently.
                raise FetchError(f"{urllib.parse.urlsplit(url).hostname}: {error}") from error
            raise RetryableError(f"{type(error).__name__}: {error}") from error

    def _refuse(self, remote: Remote, url: str, asked: str, answer: Any) -> NoReturn:
        """Raise for an error answer: RetryableError where another try may succeed, after refreshing expired URLs."""
        status, code = answer.status, _code(answer)
        words = f"answered {status} {code}".rstrip()
        if status in (401, 403) and asked != url:
            remote.location = None
            raise RetryableError(f"{words} behind a redirect", 1.0)
        if (status == 403 or code in _EXPIRED) and self._refresh is not None and self._refreshes < TRIES:
            with self._refresh_lock:
                if remote.url == url:
                    self._refreshes += 1
                    fresh = self._refresh()
                    for other in self.remotes:
                        other.url, other.location = fresh.get(other.path, other.url), None
            raise RetryableError("its address had expired")
        if status in (408, 425, 429) or status >= 500 or code in _PASSING:
            pause, busy = retry_after(answer.headers, WINDOW_SECONDS), status in (429, 503)
            if busy:
                self._quiet_until = max(self._quiet_until, self._clock.ticks() + pause)
            raise RetryableError(words, pause, busy=busy)
        raise FetchError(f"{remote.path}: the store {words}")


def _target(path: str, asked: str, location: str) -> str:
    """Where a redirect leads.

    Raises:
        FetchError: It is not an address, or leaves https.
    """
    try:
        target = urllib.parse.urljoin(asked, location)
        scheme = urllib.parse.urlsplit(target).scheme
    except ValueError as error:
        raise FetchError(f"{path}: refused a redirect to what is not an address") from error
    if scheme != "https" and (scheme != "http" or asked.startswith("https://")):
        raise FetchError(f"{path}: refused a redirect from {urllib.parse.urlsplit(asked).scheme} to {scheme}")
    return target


def _code(answer: Any) -> str:
    """The store's own code of an error: the Hub's and Azure's in a header, S3's in its XML; empty if there is none."""
    named = answer.headers.get("X-Error-Code") or answer.headers.get("x-ms-error-code") or ""
    if not named:
        try:
            text = answer.read(4096).decode(errors="replace")
        except NETWORK_ERRORS:
            return ""
        found = re.search(r"<Code>([A-Za-z0-9]{1,60})</Code>", text)
        named = found[1] if found else ""
    return named if re.fullmatch(r"[A-Za-z0-9]{1,60}", named) else ""


def whole_number(text: str | None) -> int | None:
    """The number of a header; None when there is none, however much it looks like one."""
    return int(text) if text is not None and re.fullmatch(r"[0-9]{1,18}", text.strip()) else None
