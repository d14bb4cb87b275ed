"""The filters of Table Storage, as far as this program's queries need them: comparisons, and, or, not, brackets."""

import operator
import re
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from tests.standins.storage.shapes import RefusedError

Condition = Callable[[Mapping[str, Any]], bool]

_TOKEN: Final = re.compile(
    r"\s*(?:(?P<bracket>[()])"
    r"|(?P<moment>datetime'(?:[^']*)')"
    r"|(?P<text>'(?:[^']|'')*')"
    r"|(?P<number>-?\d+(?:\.\d+)?L?)"
    r"|(?P<word>[A-Za-z_]\w*))"
)
_COMPARISONS: Final[dict[str, Callable[[Any, Any], bool]]] = {
    "eq": operator.eq,
    "ne": operator.ne,
    "gt": operator.gt,
    "ge": operator.ge,
    "lt": operator.lt,
    "le": operator.le,
}


def condition(text: str) -> Condition:
    """The filter as a function of a row's properties.

    Raises:
        RefusedError: it is not a filter.
    """
    tokens = list(_tokens(text))
    found, rest = _either(tokens)
    if rest:
        raise _wrong(text)
    return found


def _tokens(text: str) -> Iterator[tuple[str, str]]:
    place = 0
    while place < len(text.rstrip()):
        match = _TOKEN.match(text, place)
        if match is None or match.lastgroup is None:
            raise _wrong(text)
        place = match.end()
        yield match.lastgroup, match[match.lastgroup]


def _either(tokens: list[tuple[str, str]]) -> tuple[Condition, list[tuple[str, str]]]:
    first, rest = _both(tokens)
    if rest[:1] != [("word", "or")]:
        return first, rest
    second, rest = _either(rest[1:])
    return (lambda row: first(row) or second(row)), rest


def _both(tokens: list[tuple[str, str]]) -> tuple[Condition, list[tuple[str, str]]]:
    first, rest = _one(tokens)
    if rest[:1] != [("word", "and")]:
        return first, rest
    second, rest = _both(rest[1:])
    return (lambda row: first(row) and second(row)), rest


def _one(tokens: list[tuple[str, str]]) -> tuple[Condition, list[tuple[str, str]]]:
    if tokens[:1] == [("bracket", "(")]:
        inner, rest = _either(tokens[1:])
        if rest[:1] != [("bracket", ")")]:
            raise _wrong(repr(tokens))
        return inner, rest[1:]
    if tokens[:1] == [("word", "not")]:
        inner, rest = _one(tokens[1:])
        return (lambda row: not inner(row)), rest
    if len(tokens) < 3 or tokens[0][0] != "word" or tokens[1][1] not in _COMPARISONS:
        raise _wrong(repr(tokens))
    return _comparison(tokens[0][1], _COMPARISONS[tokens[1][1]], _value(*tokens[2])), tokens[3:]


def _comparison(name: str, compare: Callable[[Any, Any], bool], value: object) -> Condition:
    if isinstance(value, datetime):
        return lambda row: name in row and compare(datetime.fromisoformat(row[name]), value)
    kind = type(value)
    # A row without the property meets no condition about it.
    return lambda row: isinstance(held := row.get(name), kind) and compare(held, value)


def _value(kind: str, text: str) -> object:
    if kind == "text":
        return text[1:-1].replace("''", "'")
    if kind == "moment":
        moment = datetime.fromisoformat(text[len("datetime'") : -1])
        return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    if kind == "number":
        return float(text) if "." in text else int(text.rstrip("L"))
    if text in ("true", "false"):
        return text == "true"
    raise _wrong(text)


def _wrong(text: str) -> RefusedError:
    return RefusedError(400, "InvalidInput", f"not a filter: {text}")
