"""What the text of a setting has to be, whatever it means: whole, visible, resolved, and strong where it is a secret.

Values are pasted, piped from files and expanded by tools; each leaves its own remains. No message shows a value.
"""

import re
import unicodedata
from typing import Final
from urllib.parse import urlsplit

_QUOTES: Final = {'"': '"', "'": "'", "`": "`", "\u201c": "\u201d", "\u2018": "\u2019", "\u00ab": "\u00bb"}
_INVISIBLE: Final = frozenset({"Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp"})
_UNRESOLVED: Final = re.compile(
    # App Service hands on the text of a reference that it cannot resolve; shells, templates and pipelines do the same.
    r"@Microsoft\.[A-Za-z]+\(.*|\$\{.*\}|\$\(.*\)|\{\{.*\}\}|%[A-Za-z_][A-Za-z0-9_]*%|<[^<>]*>|#\{.*\}#|secretref:.*",
    re.IGNORECASE | re.DOTALL,
)
_SECRET: Final = re.compile(r"[!-~]+")
_LOCAL: Final = frozenset({"localhost", "127.0.0.1", "::1"})
VARIETY: Final = 10
"""Different characters of a secret that people choose, at least: 16 random letters and digits have fewer once in ten
thousand, `abcabcabcabcabcabc` has three."""


def cleaned(text: str) -> str:
    """Return the text without what copying leaves around it: blanks, line ends, invisible characters, quotes."""
    start, end = 0, len(text)
    while start < end and _is_edge(text[start]):
        start += 1
    while end > start and _is_edge(text[end - 1]):
        end -= 1
    text = text[start:end]
    closing = _QUOTES.get(text[:1])
    if closing is not None and len(text) > 1 and text[-1] == closing and not {text[0], closing} & set(text[1:-1]):
        return cleaned(text[1:-1])
    return text


def _is_edge(character: str) -> bool:
    return character.isspace() or unicodedata.category(character) in _INVISIBLE


def check_text(text: str) -> None:
    """Raise ValueError for a text that is a reference to a value, or has characters that no one sees."""
    if _UNRESOLVED.fullmatch(text):
        raise ValueError(
            "this is a reference that was not resolved, not a value; on Azure check the vault, then run "
            "`python -m deploy secrets refresh`"
        )
    if any(unicodedata.category(one) in _INVISIBLE and one not in "\t\r\n" for one in text):
        raise ValueError("the value has an invisible character in it; type it instead of pasting it")


def check_secret(text: str, *, spaces: bool) -> None:
    """Raise ValueError for a secret that was copied with something else, or cannot be sent in a header."""
    if not _SECRET.fullmatch(text.replace(" ", "") if spaces else text):
        raise ValueError("a secret has printable ASCII characters only, without blanks or line ends; copy it again")
    if set(text) & set(_QUOTES):
        raise ValueError("the value has a quote in it; copy it again without")


def is_weak(text: str) -> bool:
    """Whether a secret has too few different characters to be random."""
    return len(set(text)) < VARIETY


def check_url(text: str, *, path: bool) -> None:
    """Raise ValueError for anything but scheme, host, port and path: a user's password has no place in an address.

    Without `path` there may be none either: R2's dashboard shows addresses with the bucket in them.
    """
    try:
        url = urlsplit(text)
        host, _ = url.hostname, url.port
    except ValueError:
        host, url = None, urlsplit("")
    if url.scheme not in ("https", "http") or not host or re.search(r"[\s\\]", text):
        raise ValueError("a URL must start with https:// and a host (http:// is allowed for localhost only)")
    if "@" in url.netloc:
        raise ValueError("remove the user and the password from the URL")
    if url.query or url.fragment:
        raise ValueError("remove what follows ? or # from the URL")
    if not path and url.path.strip("/"):
        raise ValueError("remove the path from the URL: buckets are named by launches, as in r2://bucket/folder")


def is_in_clear(url: str) -> bool:
    """Whether what is sent there can be read on the way: plain http to another machine."""
    parts = urlsplit(url)
    return parts.scheme == "http" and parts.hostname not in _LOCAL
