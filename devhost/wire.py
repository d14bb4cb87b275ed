"""A request and a response as ASP.NET's server, the host and its worker turn them into what a function sees and sends.

Pure text work, checked against the genuine host; `web.py` is where it is used.
"""

import codecs
import re
from collections.abc import Iterable, Mapping, Sequence
from http.cookies import SimpleCookie
from urllib.parse import quote

REQUEST_LINE_LIMIT = 8192
HEADERS_LIMIT, HEADERS_SIZE_LIMIT = 100, 32768
"""Kestrel's defaults: how many headers, and how many bytes of them in all."""
RawHeaders = Sequence[tuple[bytes, bytes]]

_ESCAPES = re.compile("(?:%[0-9A-Fa-f]{2})+")
_NOT_IN_A_PATH = re.compile(r"[^A-Za-z0-9\-._~/!$&'()*+,;=:@%]+|%(?![0-9A-Fa-f]{2})")
_HOST = re.compile(r"([A-Za-z0-9!$&'()\-._~]+|\[[0-9A-Fa-f:.]+\])(:[0-9]+)?|")


def _kept(error: UnicodeError) -> tuple[str, int]:
    """Leave bytes that are not UTF-8 escaped, as ASP.NET does."""
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return "".join(f"%{byte:02X}" for byte in error.object[error.start : error.end]), error.end


codecs.register_error("devhost.kept", _kept)


def refusal(request_line: int, headers: RawHeaders) -> int | None:
    """The status with which Kestrel refuses a request before any function is looked for; None for a good one."""
    if request_line > REQUEST_LINE_LIMIT:
        return 414
    size = sum(len(name) + len(value) + len(": \r\n") for name, value in headers)
    if len(headers) > HEADERS_LIMIT or size > HEADERS_SIZE_LIMIT:
        return 431
    try:
        read = [(name, value.decode()) for name, value in headers]
    except UnicodeDecodeError:
        return 400
    hosts = [value for name, value in read if name == b"host"]
    return None if all(map(_HOST.fullmatch, hosts)) else 400


def path_of(target: bytes) -> str:
    """The path that is routed: decoded but for slashes, with dot segments resolved.

    Raises:
        ValueError: It is not a path, or has a NUL in it.
    """
    # An encoded slash stays encoded.
    path = _unescaped(re.sub("%2f", lambda slash: f"%25{slash[0][1:]}", target.decode("ascii"), flags=re.IGNORECASE))
    if not path.startswith("/") or "\0" in path:
        raise ValueError("not a path")
    kept: list[str] = []
    *folders, last = path.split("/")[1:]
    for segment in (*folders, last):
        if segment == "..":
            del kept[-1:]
        elif segment != ".":
            kept.append(segment)
    return "/" + "/".join([*kept, ""] if last in (".", "..") else kept)


def url_of(host: str, path: str, query: str) -> str:
    """`req.url`: the decoded path encoded anew, where what looks like an escape stays one, and the query as sent."""
    encoded = _NOT_IN_A_PATH.sub(lambda found: quote(found[0], safe=""), path)
    return f"http://{host}{encoded}{query and '?'}{query}"


def query_of(raw: str) -> dict[str, str]:
    """The parameters: names that differ in case are one, and those without a value reach no function."""
    pairs = (part.replace("+", " ").partition("=") for part in raw.split("&") if part)
    joined = _joined((_unescaped(name), _unescaped(value)) for name, _, value in pairs)
    return {name: value for name, value in joined if value}


def headers_of(raw: RawHeaders) -> dict[str, str]:
    return dict(_joined((name.decode("ascii").lower(), value.decode()) for name, value in raw))


def sendable(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    """A response's headers, with cookies as the worker takes them apart and the host puts them together.

    Raises:
        ValueError: One that the host fails to send.
    """
    if wrong := [name for name, value in headers.items() if not (value.isascii() and value.isprintable())]:
        raise ValueError(f"these headers are not printable ASCII: {', '.join(wrong)}")
    cookies = [cookie for name, value in headers.items() if name.lower() == "set-cookie" for cookie in _cookies(value)]
    others = [(name, value) for name, value in headers.items() if name.lower() != "set-cookie"]
    return [(name.encode(), value.encode()) for name, value in (*others, *(("Set-Cookie", one) for one in cookies))]


def _cookies(value: str) -> Iterable[str]:
    for name, cookie in SimpleCookie(value).items():
        parts = [f"{name}={quote(cookie.value, safe='')}"]
        parts += [f"{attribute}={cookie[attribute]}" for attribute in ("expires", "max-age") if cookie[attribute]]
        # The worker names a domain and a path even where the function names none.
        parts += [f"{attribute}={cookie[attribute]}" for attribute in ("domain", "path")]
        parts += ["secure"] if cookie["secure"] else []
        parts += [f"samesite={cookie['samesite'].lower()}"] if cookie["samesite"] else []
        parts += ["httponly"] if cookie["httponly"] else []
        yield "; ".join(parts)


def _unescaped(text: str) -> str:
    return _ESCAPES.sub(lambda run: bytes.fromhex(run[0].replace("%", "")).decode("utf-8", "devhost.kept"), text)


def _joined(pairs: Iterable[tuple[str, str]]) -> Iterable[tuple[str, str]]:
    """Join the values of one name, without regard to its case, by commas; empty ones are dropped among others."""
    found: dict[str, tuple[str, list[str]]] = {}
    for name, value in pairs:
        found.setdefault(name.lower(), (name, []))[1].append(value)
    return ((name, ",".join(filter(None, values))) for name, values in found.values())
