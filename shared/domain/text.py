"""Text from nodes and providers, made fit to be stored, logged and shown: one line, no control characters, cut to size.

Sizes are those of a row: UTF-16 units of JSON, in which `"`, `\\` and characters outside the basic plane take two.
"""

import json
import re
from collections.abc import Sequence

DETAIL_UNITS = 500
"""Of an attempt's detail and of a health message."""
FAILURE_UNITS = 1000
"""Of an attempt's failure; a record with 70 attempts has room for all of them and the log."""
MESSAGE_UNITS = 2000
"""Of an event and of an ending, which quote a failure."""
SHORT_UNITS = 200
"""Of every text of a record that has no room for more."""
LOG_LINES = 100
"""Log lines kept in the record: enough to show why a server did not start."""
LOG_UNITS = 64_000
"""And their size, an eighth of what a row holds."""

_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?")
"""Terminal sequences: colours, cursor, titles, links."""
_SPACES = re.compile(r"[\t\n\v\f\x85\u2028\u2029]+")
_DROPPED = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""C0, C1, what changes the direction of writing, and lone surrogates, which UTF-8 cannot hold."""


def clean(text: str) -> str:
    """Return the text as one line without characters that do something instead of being shown."""
    return _DROPPED.sub("", _SPACES.sub(" ", _ESCAPES.sub("", text)))


def stored_units(text: str) -> int:
    return len(json.dumps(text, ensure_ascii=False).encode("utf-16-le", "surrogatepass")) // 2 - 2


def shorten(text: str, units: int) -> str:
    """Return the text cleaned and, where it is longer than `units`, cut and ended with `…`."""
    cleaned = clean(text)
    if stored_units(cleaned) <= units:
        return cleaned
    left = units - 1
    for index, character in enumerate(cleaned):
        left -= 2 if character in '"\\' or character > "\uffff" else 1
        if left < 0:
            return f"{cleaned[:index]}…"
    return cleaned


def last_lines(lines: Sequence[str]) -> list[str]:
    """Return the last lines of a log, as many as a record keeps."""
    kept: list[str] = []
    left = LOG_UNITS
    for line in reversed([clean(line) for line in lines[-LOG_LINES:]]):
        left -= stored_units(line) + 3
        if left < 0:
            break
        kept.append(line)
    return kept[::-1]
