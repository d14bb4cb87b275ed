"""Requests and responses as the HTTP edge sees them, whatever host carries them."""

import hashlib
import ipaddress
import json
import re
import string
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import SplitResult, quote, urlsplit

from pydantic import BaseModel

from gpulaunch.models.problems import PROBLEM_TYPE
from shared.api.problems import ProblemError

API_HEADERS: Final = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
"""Of every answer of the JSON API. A token in a header of its own does not keep shared caches from storing answers."""
_STRICT_TRANSPORT: Final = {"Strict-Transport-Security": "max-age=31536000"}
"""Of every answer over https."""
_HOST: Final = re.compile(r"[A-Za-z0-9.-]{1,253}(:[0-9]{1,5})?|\[[0-9A-Fa-f:.]{2,45}\](:[0-9]{1,5})?")
_PRINTABLE: Final = string.ascii_letters + string.digits + string.punctuation + " "


@dataclass(frozen=True, kw_only=True)
class Request:
    method: str
    url: str
    headers: Mapping[str, str]
    """Names in lower case."""
    query: Mapping[str, str]
    route: Mapping[str, str]
    body: bytes
    trace: str | None = None
    """The caller's traceparent (W3C)."""
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    """In the answer's X-Request-Id, in problems and in the log."""

    def header(self, name: str) -> str:
        """A header's value; empty when it is not there."""
        return self.headers.get(name.lower()) or ""

    @property
    def address(self) -> SplitResult:
        """The parts of the URL, all empty if the Host header makes it an invalid one."""
        try:
            return urlsplit(self.url)
        except ValueError:
            return SplitResult("", "", "", "", "")

    @property
    def is_secure(self) -> bool:
        forwarded = self.header("X-Forwarded-Proto").split(",")[0].strip().lower()
        return (forwarded or self.address.scheme) == "https"

    @property
    def origin(self) -> str:
        """Scheme and host by which the caller knows the app; empty, for relative links, if no valid host is given.

        A proxy that asks for the app by another name passes the caller's on in X-Forwarded-Host.
        """
        host = self.header("X-Forwarded-Host").split(",")[0].strip() or self.address.netloc
        return f"{'https' if self.is_secure else 'http'}://{host}" if _HOST.fullmatch(host) else ""

    def absolute(self, path: str) -> str:
        return self.origin + path

    @property
    def what(self) -> str:
        """Method and path, for log lines; the query may hold anything."""
        return f"{self.method} {quote(self.address.path, safe=_PRINTABLE, errors='replace')[:200]}"

    @property
    def source(self) -> str:
        """The caller's address, of IPv6 the network, which one caller has all of; `unknown` without a front end.

        The front end appends the address that it sees to X-Forwarded-For; what stands before it the caller may have
        made up.
        """
        last = self.header("X-Forwarded-For").rpartition(",")[2].strip()
        bare = last[1:].partition("]")[0] if last.startswith("[") else last
        for text in (bare, bare.rpartition(":")[0]):
            try:
                found = ipaddress.ip_address(text)
            except ValueError:
                continue
            if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped is None:
                return str(ipaddress.ip_network((int(found) >> 64 << 64, 64)))
            return str(getattr(found, "ipv4_mapped", None) or found)
        return "unknown"


@dataclass(kw_only=True)
class Response:
    """One HTTP response; headers may be added on the way out."""

    status: int = 200
    body: bytes | str = b""
    media_type: str | None = None
    charset: str | None = None
    headers: dict[str, str] = field(default_factory=dict[str, str])


def json_response(model: BaseModel, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(
        status=status, body=model.model_dump_json(), media_type="application/json", headers=dict(headers or {})
    )


def digest_of(model: BaseModel) -> str:
    """What the ETag of an answer holds."""
    return hashlib.sha256(model.model_dump_json().encode()).hexdigest()[:32]


def json_if_changed(request: Request, model: BaseModel) -> Response:
    """A model as JSON with an ETag over all of it; 304 when the caller has it already."""
    response = json_response(model)
    digest = digest_of(model)
    etag = f'W/"{digest}"'
    known = [part.strip() for part in request.header("If-None-Match").split(",")]
    if etag in known or f'"{digest}"' in known or "*" in known:
        return Response(status=304, headers={"ETag": etag})
    response.headers["ETag"] = etag
    return response


def problem_response(error: ProblemError, request_id: str) -> Response:
    headers = {"Retry-After": str(error.retry_after)} if error.retry_after else {}
    if error.problem.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    problem = error.problem.model_copy(update={"request_id": request_id})
    # Pydantic's serializer fails at a lone surrogate, which a quoted part of a request may hold.
    body = json.dumps(problem.model_dump(exclude_none=True), ensure_ascii=False)
    return Response(status=error.problem.status, body=body, media_type=PROBLEM_TYPE, headers=headers)


def finished(request: Request, response: Response, defaults: Mapping[str, str]) -> Response:
    """Add the headers that every answer has, and make body and headers what any host can send.

    The Functions host answers 500 for a header that is not printable ASCII, and its worker for text that UTF-8 cannot
    hold.
    """
    secure = _STRICT_TRANSPORT if request.is_secure else {}
    headers = {**defaults, **secure, **response.headers, "X-Request-Id": request.id}
    response.headers = {name: quote(value, safe=_PRINTABLE, errors="replace") for name, value in headers.items()}
    if isinstance(response.body, str):
        response.body = response.body.encode(errors="replace")
    return response
