"""Templates, static files and security headers."""

import gzip
import hashlib
import json
import re
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from gpulaunch.format import duration, span, usd
from gpulaunch.models.instances import INSTANCE_ID
from gpulaunch.version import VERSION
from shared.clouds.registry import TRAITS

if TYPE_CHECKING:
    from jinja2 import Environment

HERE: Final = Path(__file__).parent

_POLICY: Final = (
    # Scripts and styles come from the app's own files only; data: is for the icons of Pico's style sheet.
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS: Final = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cache-Control": "no-store",
}
"""Of every response that does not set its own."""
DOCS_HEADERS: Final = {
    # Redoc inserts empty style elements (the first hash), which it fills by script, and one style sheet (the second).
    "Content-Security-Policy": _POLICY.replace(
        "style-src 'self'",
        "style-src 'self' 'sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=' "
        "'sha256-QMIg+bpjm3JdElJ388KYke01izlUW0UoNOeKjpMxdgc='",
    ),
}
"""Of the API page."""

_KINDS: Final = {
    ".css": "text/css",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
    ".txt": "text/plain",
}


@cache
def static_files() -> dict[str, tuple[bytes, str, str]]:
    """Static files by name: content, media type and content hash."""
    return {
        path.name: (content := path.read_bytes(), _KINDS[path.suffix], hashlib.sha256(content).hexdigest()[:12])
        for path in sorted((HERE / "static").iterdir())
        if path.suffix in _KINDS
    }


@cache
def compressed(name: str) -> bytes:
    """A static file in gzip, made once in a process: the host compresses nothing."""
    return gzip.compress(static_files()[name][0], mtime=0)


def static_url(name: str) -> str:
    """Return the address of a static file; it changes with the content, so that the file may be cached forever."""
    return f"/static/{name}?v={static_files()[name][2]}"


@cache
def templates_hash() -> str:
    """Return a hash of all templates: part of every ETag, so that a page of an older version is stale."""
    digest = hashlib.sha256()
    for path in sorted((HERE / "templates").iterdir()):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


@cache
def pages_hash() -> str:
    """Return a hash of all that makes the pages, by which an open page finds that a newer version answers it."""
    known = [VERSION, templates_hash(), *(version for _, _, version in static_files().values())]
    return hashlib.sha256("\n".join(known).encode()).hexdigest()[:12]


def render(template: str, **context: Any) -> str:
    """Fill in a template; every value is escaped."""
    return environment().get_template(template).render(**context)


@cache
def environment() -> "Environment":
    """Return the templates, compiled on first use."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    made = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    filters: dict[str, Any] = made.filters  # pyright: ignore[reportAssignmentType] - typed as the built-in ones only
    for function in (usd, hours, duration, span, moment, epoch, words, pretty, size, ids):
        filters[function.__name__] = function
    known: dict[str, Any] = made.globals  # pyright: ignore[reportAssignmentType] - as the filters
    known |= {"static": static_url, "clouds": TRAITS, "pages_hash": pages_hash}
    return made


def hours(count: float) -> str:
    """Hours with one decimal, below one hour with two."""
    return f"{count:,.2f}" if count < 1 else f"{count:,.1f}"


def moment(at: datetime) -> str:
    """A point in time in UTC, as people read it."""
    return at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")


def epoch(at: datetime) -> int:
    """Milliseconds since 1970, for scripts."""
    return int(at.timestamp() * 1000)


def words(code: str) -> str:
    """`no_capacity` as `no capacity`."""
    return str(code).replace("_", " ")


def pretty(value: object) -> str:
    """Indented JSON."""
    return json.dumps(value, indent=2, ensure_ascii=False)


def ids(text: str) -> list[str]:
    """The ids of instances that a text names."""
    return [word for word in re.findall(r"inst-[0-9A-Z]{26}", text) if re.fullmatch(INSTANCE_ID, word)]


def size(count: float) -> str:
    """A number of bytes as kB, MB or GB (powers of ten)."""
    for unit, one in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= one:
            return f"{count / one:.1f} {unit}"
    return f"{count:.0f} B"
