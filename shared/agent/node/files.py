"""A file of the model while it is fetched, in ranges, and what a restarted agent finds of it."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass, field
from pathlib import Path

from shared.agent.node.errors import FetchError
from shared.agent.node.transport import MIB

RANGE = 16 * MIB
"""What a restart may have to fetch again, per connection."""


def safe_target(folder: Path, path: str) -> Path:
    """Where a file of the model is stored.

    Raises:
        FetchError: That would be outside the model's folder.
    """
    parts = path.split("/")
    if not path.isprintable() or "\\" in path or any(part in ("", ".", "..") for part in parts):
        raise FetchError(f"refused a file that would leave the model's folder: {path!r}")
    return folder.joinpath(*parts)


@dataclass
class Remote:
    """A file that is fetched, and which of its ranges are here."""

    path: str
    url: str
    size: int | None
    target: Path
    headers: dict[str, str]
    location: str | None = None
    """Where redirects led."""
    etag: str | None = None
    done: set[int] = field(default_factory=set[int])
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def part(self) -> Path:
        """The file while it is incomplete."""
        return self.target.with_name(self.target.name + ".part")

    @property
    def sidecar(self) -> Path:
        """The list of its complete ranges."""
        return self.target.with_name(self.target.name + ".part.json")

    @property
    def ranges(self) -> int:
        """The number of its ranges."""
        return -(-(self.size or 0) // RANGE)

    def length(self, index: int) -> int:
        """Bytes of one range."""
        return min(RANGE, (self.size or 0) - index * RANGE)

    def recall(self) -> None:
        """Read what an earlier run left."""
        try:
            left = json.loads(self.sidecar.read_text())
            if left["size"] == self.size and left["range"] == RANGE and self.part.stat().st_size == self.size:
                self.etag = left["etag"]
                self.done = {index for index in left["done"] if 0 <= index < self.ranges}
        except (OSError, ValueError, KeyError, TypeError):
            self.done = set()

    def note(self) -> None:
        """Write the list of complete ranges; the caller holds the lock."""
        text = json.dumps({"size": self.size, "range": RANGE, "etag": self.etag, "done": sorted(self.done)})
        draft = self.sidecar.with_name(self.sidecar.name + ".new")
        draft.write_text(text)
        draft.replace(self.sidecar)


@dataclass
class Stretch:
    """Neighbouring ranges of one file, fetched by one request; `got` counts the bytes that are here."""

    remote: Remote
    first: int
    count: int
    got: int = 0

    @property
    def start(self) -> int:
        """The position of its first byte in the file."""
        return self.first * RANGE

    @property
    def length(self) -> int:
        """Its bytes."""
        return sum(self.remote.length(index) for index in range(self.first, self.first + self.count))

    @property
    def left_in_range(self) -> int:
        """Bytes missing of the range that is being fetched."""
        return min(RANGE - self.got % RANGE, self.length - self.got)

    @property
    def completed(self) -> int | None:
        """The range that the last byte completed, if it did."""
        return self.first + (self.got - 1) // RANGE if self.got % RANGE == 0 or self.got == self.length else None
