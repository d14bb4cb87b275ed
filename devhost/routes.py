"""Route templates as ASP.NET reads them, in the order in which the Functions host tries them."""

import re
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal, InvalidOperation
from functools import cmp_to_key
from itertools import zip_longest
from typing import Generic, TypeVar

Check = Callable[[str], bool]
T = TypeVar("T")


def _parses(convert: Callable[[str], object]) -> Check:
    def check(text: str) -> bool:
        try:
            convert(text)
        except (ValueError, InvalidOperation):
            return False
        return True

    return check


def _integer(bits: int) -> Check:
    limit = 2 ** (bits - 1)
    return lambda text: re.fullmatch(r"[+-]?[0-9]{1,20}", text) is not None and -limit <= int(text) < limit


_PLAIN: dict[str, Check] = {
    "int": _integer(32),
    "long": _integer(64),
    "bool": lambda text: text.lower() in {"true", "false"},
    "guid": _parses(uuid.UUID),
    "datetime": _parses(datetime.fromisoformat),
    "decimal": _parses(Decimal),
    "double": _parses(float),
    "float": _parses(float),
    "alpha": lambda text: re.fullmatch("[A-Za-z]*", text) is not None,
    "required": bool,
}


def _number(holds: Callable[[int], bool]) -> Check:
    return lambda text: _PLAIN["long"](text) and holds(int(text))


# By name and count of arguments.
_WITH_NUMBERS: dict[tuple[str, int], Callable[[list[int]], Check]] = {
    ("minlength", 1): lambda n: lambda text: len(text) >= n[0],
    ("maxlength", 1): lambda n: lambda text: len(text) <= n[0],
    ("length", 1): lambda n: lambda text: len(text) == n[0],
    ("length", 2): lambda n: lambda text: n[0] <= len(text) <= n[1],
    ("min", 1): lambda n: _number(lambda value: value >= n[0]),
    ("max", 1): lambda n: _number(lambda value: value <= n[0]),
    ("range", 2): lambda n: _number(lambda value: n[0] <= value <= n[1]),
}


def _constraint(text: str) -> Check:
    name, bracket, rest = text.partition("(")
    if not bracket and name in _PLAIN:
        return _PLAIN[name]
    argument = rest.removesuffix(")")
    if name == "regex":
        pattern = re.compile(argument, re.IGNORECASE)
        return lambda value: pattern.search(value) is not None
    parts = argument.split(",")
    if (name, len(parts)) not in _WITH_NUMBERS or not all(_PLAIN["int"](part.strip()) for part in parts):
        raise ValueError(f"unknown route constraint {text!r}")
    return _WITH_NUMBERS[name, len(parts)]([int(part) for part in parts])


@dataclass(frozen=True, slots=True)
class Parameter:
    name: str
    checks: tuple[Check, ...]
    default: str | None
    optional: bool
    catch_all: bool


# A constraint's argument may hold one more level of brackets, as in `:regex(^(a|b)$)`.
_CONSTRAINT = r":([^:()=?]+(?:\((?:[^()\\]|\\.|\([^()]*\))*\))?)"
_PARAMETER = re.compile(rf"(\*{{0,2}})([^*{{}}/?:=]+)((?:{_CONSTRAINT})*)(?:=([^?]*))?(\?)?")


def _parameter(text: str) -> Parameter:
    match = _PARAMETER.fullmatch(text)
    if match is None:
        raise ValueError(f"{{{text}}} is no route parameter")
    stars, name, constraints, _, default, optional = match.groups()
    checks = tuple(_constraint(part) for part in re.findall(_CONSTRAINT, constraints))
    return Parameter(name, checks, default, optional is not None, bool(stars))


Part = str | Parameter


def _split(template: str) -> list[list[Part]]:
    """Split a template into segments, and each of these into literal text and parameters."""
    segments: list[list[Part]] = [[]]
    position = 0
    while position < len(template):
        char = template[position]
        if char == "/":
            segments.append([])
            position += 1
        elif char == "{" and template[position : position + 2] != "{{":
            depth, end = 1, position + 1
            while depth and end < len(template):
                depth += {"{": 1, "}": -1}.get(template[end], 0)
                end += 1
            if depth:
                raise ValueError("a brace is not closed")
            segments[-1].append(_parameter(template[position + 1 : end - 1].replace("{{", "{").replace("}}", "}")))
            position = end
        else:
            text = re.match(r"(?:\{\{|\}\}|[^{}/])+", template[position:])
            if text is None:
                raise ValueError("a brace is not opened")
            segments[-1].append(text[0].replace("{{", "{").replace("}}", "}"))
            position += text.end()
    return [segment for segment in segments if segment]


class Route:
    """One template. `match` gives the route parameters of a path, or None. Raises ValueError for a bad template."""

    def __init__(self, template: str) -> None:
        self.segments = _split(template.strip("/"))
        self.parameters = [part for segment in self.segments for part in segment if isinstance(part, Parameter)]
        names = [parameter.name.lower() for parameter in self.parameters]
        if len(set(names)) != len(names):
            raise ValueError("a route parameter occurs twice")
        pattern = ""
        for index, segment in enumerate(self.segments):
            pattern += self._pattern(segment, last=index == len(self.segments) - 1)
        self._regex = re.compile(pattern + "/?", re.IGNORECASE | re.DOTALL)

    @staticmethod
    def _pattern(segment: list[Part], *, last: bool) -> str:
        match segment:
            case [Parameter(catch_all=True)]:
                if not last:
                    raise ValueError("a catch-all parameter must be the last segment")
                return "(?:/(.*?))?"
            case [Parameter() as only]:
                return "(?:/([^/]+))?" if only.optional or only.default is not None else "/([^/]+)"
            case parts:
                return "/" + "".join(re.escape(part) if isinstance(part, str) else "([^/]+?)" for part in parts)

    def match(self, path: str) -> dict[str, str] | None:
        found = self._regex.fullmatch(path)
        if found is None:
            return None
        values: dict[str, str] = {}
        for parameter, text in zip(self.parameters, found.groups(), strict=True):
            value = text or parameter.default
            if value is None:
                if not (parameter.optional or parameter.catch_all):
                    return None
                continue
            if not all(check(value) for check in parameter.checks):
                return None
            values[parameter.name] = value
        return values


def _compare(x: Route, y: Route) -> int:
    """The host's order: segment by segment text before parameter, more constraints first; then the longer route."""
    for left, right in zip_longest(x.segments, y.segments):
        if left is None or right is None:
            return 1 if left is None else -1
        a, b = left[0], right[0]
        if isinstance(a, Parameter) and isinstance(b, Parameter):
            order = len(b.checks) - len(a.checks)
        elif isinstance(a, str) and isinstance(b, str):
            order = (a.lower() > b.lower()) - (a.lower() < b.lower())
        else:
            order = -1 if isinstance(a, str) else 1
        if order:
            return order
    return 0


class Router(Generic[T]):
    """Finds the target of a request. Methods are upper case; an empty set means all."""

    def __init__(self, entries: Iterable[tuple[Route, frozenset[str], T]]) -> None:
        self._entries = sorted(entries, key=cmp_to_key(lambda x, y: _compare(x[0], y[0])))

    def find(self, method: str, path: str) -> tuple[T, dict[str, str]] | None:
        """Return target and route parameters. A wrong method is no match, as in the real host (404, not 405)."""
        for route, methods, target in self._entries:
            # The host adds HEAD to every function that takes GET.
            if methods and method not in methods and not (method == "HEAD" and "GET" in methods):
                continue
            values = route.match(path)
            if values is not None:
                return target, values
        return None

    def refuses_head(self, path: str) -> bool:
        """Whether HEAD must be answered 405: a function has this path, but takes neither GET nor HEAD."""
        return any(methods and route.match(path) is not None for route, methods, _ in self._entries)
