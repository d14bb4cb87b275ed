"""Memory for the bodies of requests, which callers may take only so much of. Pure."""

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass

MOST_BODIES = 256 * 1024 * 1024
"""Bytes of all requests' bodies at once: what waits for a node waits in memory."""


@dataclass
class Bodies:
    """The bodies of all requests under way, which together take at most so many bytes of memory."""

    most: int = MOST_BODIES
    size: int = 0

    @contextmanager
    def one(self) -> Generator["Body"]:
        """One request's body, forgotten when the request is over."""
        body = Body(self)
        try:
            yield body
        finally:
            self.size -= body.size


@dataclass
class Body:
    _all: Bodies
    size: int = 0

    def grow(self, size: int) -> bool:
        """Whether there is room for so many bytes more."""
        if self._all.size + size > self._all.most:
            return False
        self._all.size += size
        self.size += size
        return True
