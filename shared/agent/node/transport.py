"""HTTP by the standard library: no redirects, small JSON exchanges, proxies where they belong."""

from __future__ import annotations

import json
import ssl
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, cast

MIB = 1024 * 1024


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Redirects are followed by hand, so that a token never reaches another host."""

    def redirect_request(self, *_args: Any, **_kwargs: Any) -> None:
        return None


def tls_context() -> ssl.SSLContext:
    """The default checks, also on Pythons that were built without knowing where certificates are."""
    context = ssl.create_default_context()
    if not context.cert_store_stats()["x509"]:
        for bundle in ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt"):
            if Path(bundle).exists():
                context.load_verify_locations(bundle)
                break
    return context


class JsonAnswer(NamedTuple):
    status: int
    headers: Mapping[str, str]
    data: dict[str, Any] | None
    """The JSON object, or None when the body is anything else."""


def retry_after(headers: Mapping[str, str]) -> float:
    """Seconds of a Retry-After header, at most two minutes; a date or a missing header counts as 0."""
    text = (headers.get("Retry-After") or "").strip()
    return min(float(text), 120.0) if text.isdigit() else 0.0


class Http:
    """Requests; the environment's proxies are used except towards this machine and its metadata service."""

    def __init__(self) -> None:
        https = urllib.request.HTTPSHandler(context=tls_context())
        self._proxied = urllib.request.build_opener(_NoRedirect, https)
        self._direct = urllib.request.build_opener(_NoRedirect, https, urllib.request.ProxyHandler({}))

    def open(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None = None, timeout: float = 30.0
    ) -> Any:
        """The answer, whatever its status, to be read and closed.

        Raises:
            OSError, HTTPException: There is no answer.
        """
        request = urllib.request.Request(url, data=body, headers=dict(headers), method=method)  # noqa: S310 - of the control plane, the assignment or the metadata service
        host = urllib.parse.urlsplit(url).hostname or ""
        near = host == "localhost" or host.startswith(("127.", "169.254.", "metadata."))
        try:
            return (self._direct if near else self._proxied).open(request, timeout=timeout)
        except urllib.error.HTTPError as error:
            return error

    def json(
        self, method: str, url: str, headers: Mapping[str, str], body: Any = None, timeout: float = 15.0
    ) -> JsonAnswer:
        """A small exchange of JSON.

        Raises:
            OSError, HTTPException: There is no answer.
        """
        payload = None if body is None else json.dumps(body).encode()
        headers = headers if payload is None else {"Content-Type": "application/json", **headers}
        with self.open(method, url, headers, payload, timeout) as answer:
            text = answer.read(8 * MIB)
        try:
            data = json.loads(text)
        except ValueError:
            data = None
        return JsonAnswer(
            answer.status, answer.headers, cast("dict[str, Any]", data) if isinstance(data, dict) else None
        )
