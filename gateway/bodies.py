"""Memory for the bodies of requests, which callers may take only so much of. Pure."""

from dataclasses import dataclass
from typing import Self

MOST_BODIES = 256 * 1024 * 1024
"""Bytes of all requests' bodies at once: what waits for a node waits in memory."""


@dataclass
class Bodies:
    """The bodies of all requests under way, which together take at most so many bytes of memory."""

    most: int = MOST_BODIES
    size: int = 0


@dataclass
class Body:
    """One request's body, forgotten at the end of `with`."""

    _all: Bodies
    size: int = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._all.size -= self.size

    def grow(self, size: int) -> bool:
        """Whether there is room for so many bytes more."""
        if self._all.size + size > self._all.most:
            return False
        self._all.size += size
        self.size += size
        return True
