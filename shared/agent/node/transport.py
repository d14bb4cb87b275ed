"""HTTP by the standard library: no redirects, small JSON exchanges, proxies where they belong."""

from __future__ import annotations

import contextlib
import json
import re
import ssl
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, cast

from shared.agent.node.tls import BUNDLES

MIB = 1024 * 1024
T = TypeVar("T")


def within(seconds: float, work: Callable[[], T]) -> T:
    """Return what `work` returns, or leave it behind after `seconds`, in a thread that ends with it.

    A socket's timeout is for each read: a server that sends a byte now and then would go on for ever.

    Raises:
        TimeoutError: It takes longer.
    """
    done: list[T] = []
    failed: list[BaseException] = []

    def run() -> None:
        try:
            done.append(work())
        except BaseException as error:
            failed.append(error)  # raised by the caller, if it still waits

    thread = threading.Thread(target=run, name="within", daemon=True)
    thread.start()
    thread.join(seconds)
    if failed:
        raise failed[0]
    if not done:
        raise TimeoutError(f"no answer within {seconds:g} s")
    return done[0]


class UnusableProxyError(OSError):
    """The environment names a proxy that the standard library cannot use."""


def environment_proxies() -> dict[str, str]:
    """The environment's proxies by scheme, ALL_PROXY included, which urllib does not know."""
    found = urllib.request.getproxies()
    chosen = {scheme: found.get(scheme) or found.get("all") for scheme in ("http", "https")}
    return {scheme: proxy for scheme, proxy in chosen.items() if proxy}


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Redirects are followed by hand, so that a token never reaches another host."""

    def redirect_request(self, *_args: Any, **_kwargs: Any) -> None:
        return None


def tls_context() -> ssl.SSLContext:
    """The default checks, also on Pythons that were built without knowing where certificates are."""
    context = ssl.create_default_context()
    if not context.cert_store_stats()["x509"]:
        for bundle in BUNDLES:
            if Path(bundle).exists():
                context.load_verify_locations(bundle)
                break
    return context


def _opener(context: ssl.SSLContext, proxies: urllib.request.ProxyHandler) -> urllib.request.OpenerDirector:
    """For http and https only: urllib's own default opens files and FTP as well."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        proxies,
        urllib.request.UnknownHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(context=context),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        _NoRedirect(),
    ):
        opener.add_handler(handler)
    return opener


class WholeAnswer(NamedTuple):
    status: int
    headers: Mapping[str, str]
    body: bytes


class JsonAnswer(NamedTuple):
    status: int
    headers: Mapping[str, str]
    data: dict[str, Any] | None
    """The JSON object, or None when the body is anything else."""


def retry_after(headers: Mapping[str, str], most: float = 120.0) -> float:
    """Seconds that a server asks callers to wait, in any of the ways that servers have; 0 if it does not say.

    `Retry-After` as seconds or a date; `RateLimit` (https://datatracker.ietf.org/doc/draft-ietf-httpapi-ratelimit-headers,
    today's form as the Hub has it, `"api";r=0;t=280`, and the earlier one, `remaining=0, reset=280`); `RateLimit-Reset`
    and `X-RateLimit-Reset` in seconds or as a time; milliseconds as Azure has them. `most` bounds what is believed.
    """
    waits = [0.0]
    text = (headers.get("Retry-After") or "").strip()
    waits.append(_seconds(text))
    with contextlib.suppress(ValueError, TypeError, OverflowError):
        waits.append(parsedate_to_datetime(text).timestamp() - time.time())
    limit = headers.get("RateLimit") or ""
    waits += [_seconds(found) for found in re.findall(r"(?:\bt|\breset)\s*=\s*([0-9.]{1,12})", limit)]
    for name in ("RateLimit-Reset", "X-RateLimit-Reset"):
        reset = _seconds((headers.get(name) or "").strip())
        waits.append(reset - time.time() if reset > 1e9 else reset)
    waits += [_seconds((headers.get(name) or "").strip()) / 1000 for name in ("x-ms-retry-after-ms", "retry-after-ms")]
    return min(most, max(waits))


def _seconds(text: str) -> float:
    return float(text) if re.fullmatch(r"[0-9]{1,12}(\.[0-9]{1,9})?", text) else 0.0


class Http:
    """Requests; the environment's proxies are used except towards this machine and its metadata service."""

    def __init__(self) -> None:
        self._proxies = environment_proxies()
        self._proxied = _opener(tls_context(), urllib.request.ProxyHandler(self._proxies))
        self._near = tls_context()
        self._direct = _opener(self._near, urllib.request.ProxyHandler({}))

    def trust(self, authority: str) -> None:
        """Believe certificates of this authority (PEM) on this machine."""
        self._near.load_verify_locations(cadata=authority)

    def open(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None = None, timeout: float = 30.0
    ) -> Any:
        """The answer, whatever its status, to be read and closed. Its headers come within the timeout.

        Raises:
            OSError, HTTPException: No answer came.
        """
        self._check_proxy(url)
        request = urllib.request.Request(url, data=body, headers=dict(headers), method=method)  # noqa: S310 - of the control plane, the assignment or the metadata service
        opener = self._direct if _is_near(url) else self._proxied
        try:
            return within(timeout, lambda: opener.open(request, timeout=timeout))
        except urllib.error.HTTPError as error:
            return error

    def _check_proxy(self, url: str) -> None:
        parts = urllib.parse.urlsplit(url)
        socks = self._proxies.get(parts.scheme, "").strip().lower().startswith("socks")
        if socks and not _is_near(url) and not urllib.request.proxy_bypass(parts.hostname or ""):
            message = f"the node's environment names a SOCKS proxy for {parts.hostname}, which the agent cannot use"
            raise UnusableProxyError(f"{message}; name an http:// one, or add the host to NO_PROXY")

    def read(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None = None, timeout: float = 15.0
    ) -> WholeAnswer:
        """The answer with its body, of which 8 MiB at most are read, within the timeout.

        Raises:
            OSError, HTTPException: No answer came.
        """

        def exchange() -> WholeAnswer:
            with self.open(method, url, headers, body, timeout) as answer:
                return WholeAnswer(answer.status, answer.headers, answer.read(8 * MIB))

        return within(timeout, exchange)

    def json(
        self, method: str, url: str, headers: Mapping[str, str], body: Any = None, timeout: float = 15.0
    ) -> JsonAnswer:
        """A small exchange of JSON.

        Raises:
            OSError, HTTPException: No answer came.
        """
        payload = None if body is None else json.dumps(body).encode()
        headers = headers if payload is None else {"Content-Type": "application/json", **headers}
        answer = self.read(method, url, headers, payload, timeout)
        try:
            data = json.loads(answer.body)
        except ValueError:
            data = None
        return JsonAnswer(
            answer.status, answer.headers, cast("dict[str, Any]", data) if isinstance(data, dict) else None
        )


def _is_near(url: str) -> bool:
    host = urllib.parse.urlsplit(url).hostname or ""
    return host == "localhost" or host.startswith(("127.", "169.254.", "metadata."))
