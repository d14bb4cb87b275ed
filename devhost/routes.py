"""Routes of literal segments and whole-segment `{parameters}`, in the order in which the Functions host tries them."""

import re
from collections.abc import Iterable
from typing import Generic, TypeVar

T = TypeVar("T")

_SEGMENT = re.compile(r"\{[A-Za-z][A-Za-z0-9]*\}|[^{}]+")


class Route:
    """One template.

    Raises:
        ValueError: the template has a brace or a parameter that devhost does not know, or one parameter twice.
    """

    def __init__(self, template: str) -> None:
        segments = [segment for segment in template.split("/") if segment]
        for segment in segments:
            if not _SEGMENT.fullmatch(segment):
                raise ValueError(f"'{segment}' is neither text nor one {{parameter}}")
        parameters = [segment for segment in segments if segment.startswith("{")]
        if len(set(parameters)) != len(parameters):
            raise ValueError("a route parameter occurs twice")
        # Text is tried before a parameter, segment by segment.
        self.order = [segment.startswith("{") for segment in segments]
        pattern = "".join(f"/(?P<{s[1:-1]}>[^/]+)" if s.startswith("{") else "/" + re.escape(s) for s in segments)
        self._pattern = re.compile(pattern + "/?", re.IGNORECASE)

    def match(self, path: str) -> dict[str, str] | None:
        """Return the route parameters of a path, or None."""
        found = self._pattern.fullmatch(path)
        return None if found is None else found.groupdict()


class Router(Generic[T]):
    """Finds the target of a request. Methods are upper case; an empty set means all."""

    def __init__(self, entries: Iterable[tuple[Route, frozenset[str], T]]) -> None:
        self._entries = sorted(entries, key=lambda entry: entry[0].order)

    def find(self, method: str, path: str) -> tuple[T, dict[str, str]] | None:
        """Return target and parameters. A wrong method does not match (404, not 405), nor does HEAD where GET would."""
        for route, methods, target in self._entries:
            if (not methods or method in methods) and (values := route.match(path)) is not None:
                return target, values
        return None
