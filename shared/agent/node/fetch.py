"""Fetch the model's files side by side, each in ranges over several connections, and resume an earlier run."""

from __future__ import annotations

import errno
import hashlib
import json
import shutil
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from shared.agent.node.clock import NodeClock
from shared.agent.node.errors import NETWORK_ERRORS, FatalError, FetchError, RetryableError, StoppedError, T, retry
from shared.agent.node.files import Checksum, safe_target
from shared.agent.node.state import State
from shared.agent.node.stores import Stores, whole_number
from shared.agent.node.transport import MIB, Http

STRETCH = 8
"""Ranges that one request asks for at most: starting a connection costs as much as some MiB."""
CONNECTIONS = 16
"""One connection to an object store gives some 50-100 MB/s; a node's network takes many."""
RANGE = 16 * MIB
"""What a restart may have to fetch again, per connection."""


@dataclass
class Remote:
    """A file that is fetched, and which of its ranges are here."""

    path: str
    url: str
    size: int | None
    target: Path
    part: Path
    """Holds what is here until all of it is; outside the model's folder, whose names belong to the model."""
    headers: dict[str, str] = field(repr=False)
    checksum: Checksum | None = None
    location: str | None = None
    """Where redirects led."""
    etag: str | None = None
    done: set[int] = field(default_factory=set[int])
    lock: threading.Lock = field(default_factory=threading.Lock)

    @classmethod
    def of(cls, entry: Mapping[str, Any], folder: Path, parts: Path, headers: Mapping[str, str]) -> Remote:
        target = safe_target(folder, entry["path"])
        part = parts / hashlib.sha256(str(target).encode()).hexdigest()[:32]
        checksum = Checksum.of(entry)
        return cls(entry["path"], entry["url"], entry.get("size"), target, part, dict(headers), checksum)

    @property
    def sidecar(self) -> Path:
        return self.part.with_name(self.part.name + ".json")

    @property
    def is_here(self) -> bool:
        """Whether it is where vLLM reads it; it gets there complete and checked."""
        return self.target.is_file() and self.size in (None, self.target.stat().st_size)

    @property
    def ranges(self) -> int:
        return -(-(self.size or 0) // RANGE)

    def length(self, index: int) -> int:
        return min(RANGE, (self.size or 0) - index * RANGE)

    def recall(self) -> None:
        try:
            left = json.loads(self.sidecar.read_text())
            if left["size"] == self.size and left["range"] == RANGE and self.part.stat().st_size == self.size:
                self.etag = left["etag"]
                self.done = {index for index in left["done"] if 0 <= index < self.ranges}
        except (OSError, ValueError, KeyError, TypeError):
            self.done = set()

    def begin(self) -> None:
        if not self.done:
            with self.part.open("wb") as file:
                file.truncate(self.size)

    def note(self) -> None:
        """Write the list of complete ranges; the caller holds the lock."""
        text = json.dumps({"size": self.size, "range": RANGE, "etag": self.etag, "done": sorted(self.done)})
        draft = self.sidecar.with_name(self.sidecar.name + ".new")
        draft.write_text(text)
        draft.replace(self.sidecar)

    def finish(self) -> bool:
        """Check the whole file and put it where it belongs; False: it was damaged, and is to be fetched anew."""
        if self.checksum is not None and not self.checksum.matches(self.part):
            self.done, self.etag = set(), None
            self.sidecar.unlink(missing_ok=True)
            return False
        self.target.parent.mkdir(parents=True, exist_ok=True)
        self.part.replace(self.target)
        self.sidecar.unlink(missing_ok=True)
        return True


@dataclass
class Stretch:
    """Neighbouring ranges of one file, fetched by one request; `got` counts the bytes that are here."""

    remote: Remote
    first: int
    count: int
    got: int = 0

    @property
    def start(self) -> int:
        return self.first * RANGE

    @property
    def length(self) -> int:
        return sum(self.remote.length(index) for index in range(self.first, self.first + self.count))

    @property
    def left_in_range(self) -> int:
        """Bytes missing of the range that is being fetched."""
        return min(RANGE - self.got % RANGE, self.length - self.got)

    @property
    def completed(self) -> int | None:
        """The range that the last byte completed, if it did."""
        return self.first + (self.got - 1) // RANGE if self.got % RANGE == 0 or self.got == self.length else None


class Fetcher:
    def __init__(
        self,
        folder: Path,
        transport: Http,
        clock: NodeClock,
        state: State,
        stop: threading.Event,
        *,
        refresh: Callable[[], dict[str, str]] | None = None,
    ) -> None:
        self._folder, self._clock, self._state, self._stop = folder, clock, state, stop
        self._parts = folder.with_name(f"{folder.name}.parts")
        self._stores = Stores(transport, clock, stop, refresh)

    def fetch(self, files: Sequence[Mapping[str, Any]], headers: Mapping[str, str] | None = None) -> None:
        """Fetch files, each `{path, url, size, checksum}`; when this returns, all of them are there, complete.

        Raises:
            FatalError: A file cannot be fetched, is not what the source says, or does not fit on the disk.
            StoppedError: The agent is ending.
        """
        for made in (self._folder, self._parts):
            made.mkdir(parents=True, exist_ok=True)
        entries = {entry["path"]: entry for entry in files}
        remotes = [Remote.of(entry, self._folder, self._parts, headers or {}) for entry in entries.values()]
        missing = self._stores.remotes = [remote for remote in remotes if not remote.is_here]
        for remote in missing:
            if remote.size is None:
                remote.size = self._retry(remote, lambda remote=remote: self._ask_size(remote))
            remote.recall()
        self._count(remotes, missing)
        for _ in range(2):
            self._fetch_missing(missing)
            # What was damaged on its way is fetched once more.
            missing = [remote for remote in remotes if not remote.is_here]
        if missing:
            raise FetchError(f"{missing[0].path}: the content is not what the source has by its checksum")

    def _count(self, remotes: Sequence[Remote], missing: Sequence[Remote]) -> None:
        """Note what is here and what is to come.

        Raises:
            FetchError: The disk has no room for it.
        """
        left = sum(remote.length(index) for remote in missing for index in range(remote.ranges))
        left -= sum(remote.length(index) for remote in missing for index in remote.done)
        total = sum(remote.size if remote.size is not None else remote.target.stat().st_size for remote in remotes)
        free = shutil.disk_usage(self._folder).free
        if left > free:
            message = f"disk full: the model needs {left} more bytes, {free} are free"
            raise FetchError(f"{message}; set a larger disk_size")
        self._state.add_total(total, total - left)

    def _fetch_missing(self, missing: Sequence[Remote]) -> None:
        todo: deque[tuple[Remote, int]] = deque()
        errors: list[Exception] = []
        lock = threading.Lock()
        for remote in missing:
            remote.begin()
            todo.extend((remote, index) for index in range(remote.ranges) if index not in remote.done)
            if len(remote.done) == remote.ranges:
                self._complete(remote)

        def work() -> None:
            while not errors and not self._stop.is_set():
                with lock:
                    if not todo:
                        return
                    stretch = take_stretch(todo)
                try:
                    self._retry(stretch.remote, lambda stretch=stretch: self._pull(stretch))
                except (FatalError, StoppedError) as error:
                    errors.append(error)
                except OSError as error:
                    errors.append(self._disk_error(stretch.remote, error))
                except Exception as error:  # a thread that ends in silence would leave holes in the model
                    errors.append(FetchError(f"{stretch.remote.path}: {type(error).__name__}: {error}"))

        workers = [threading.Thread(target=work, name="fetch", daemon=True) for _ in range(CONNECTIONS)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        if errors:
            raise errors[0]
        if self._stop.is_set():
            raise StoppedError

    def _disk_error(self, remote: Remote, error: OSError) -> FetchError:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            needed = max(0, (self._state.total or 0) - self._state.fetched)
            return FetchError(f"disk full: the model needs {needed} more bytes; set a larger disk_size")
        return FetchError(f"{remote.path}: {error}")

    def _complete(self, remote: Remote) -> None:
        if not remote.finish():
            self._state.add_fetched(-(remote.size or 0))

    def _retry(self, remote: Remote, attempt: Callable[[], T]) -> T:
        return retry(remote.path, attempt, self._clock, self._stop, lambda: self._state.fetched)

    def _ask_size(self, remote: Remote) -> int:
        with self._stores.open(remote, 0, 0) as answer:
            total = (answer.headers.get("Content-Range") or "").rpartition("/")[2]
            if answer.status != 206:
                total = answer.headers.get("Content-Length") if answer.status == 200 else "0"
        size = whole_number(total)
        if size is None:
            raise FetchError(f"{remote.path}: the store does not report its size")
        return size

    def _range_arrived(self, remote: Remote, index: int) -> None:
        with remote.lock:
            remote.done.add(index)
            remote.note()
            if len(remote.done) == remote.ranges:
                self._complete(remote)

    def _is_whole(self, remote: Remote, answer: Any, start: int) -> bool:
        """Check an answer; return whether it is the whole file instead of its bytes from `start` on."""
        content_range = answer.headers.get("Content-Range") or ""
        given = answer.headers.get("Content-Length") if answer.status == 200 else content_range.rpartition("/")[2]
        total = whole_number(given)
        if total is not None and total != remote.size:
            message = f"size mismatch: the store has {total} bytes, {remote.size} were expected"
            raise FetchError(f"{remote.path}: {message}")
        if answer.status == 200 and remote.ranges > 1:
            raise FetchError(f"{remote.path}: the store does not answer range requests")
        if answer.status != 200 and (answer.status != 206 or not content_range.startswith(f"bytes {start}-")):
            raise RetryableError(f"answered {answer.status} with range {content_range!r}")
        if remote.checksum is not None and remote.checksum.algorithm == "md5" and _is_keyed(answer.headers):
            remote.checksum = None
        etag = answer.headers.get("ETag")
        if etag is not None:
            with remote.lock:
                if remote.etag not in (None, etag):
                    remote.sidecar.unlink(missing_ok=True)
                    raise FetchError(f"{remote.path} changed while it was fetched")
                remote.etag = etag
        return bool(answer.status == 200)

    def _pull(self, stretch: Stretch) -> None:
        """Fetch what is missing of a stretch; what arrived before a RetryableError is kept."""
        remote, length = stretch.remote, stretch.length
        first, last = stretch.start + stretch.got, stretch.start + length - 1
        with self._stores.open(remote, first, last) as answer, remote.part.open("r+b") as file:
            if self._is_whole(remote, answer, first):
                self._state.add_fetched(-stretch.got)
                stretch.got = 0
            file.seek(stretch.start + stretch.got)
            # A broken connection loses one block, so the first ones are small; large ones spare the processor.
            block, memory = MIB // 16, memoryview(bytearray(min(MIB, length - stretch.got)))
            while stretch.got < length:
                if self._stop.is_set():
                    raise StoppedError
                try:
                    # No block crosses a range's end, where the range is noted.
                    read = answer.readinto(memory[: min(block, stretch.left_in_range)])
                except NETWORK_ERRORS as error:
                    raise RetryableError(f"{type(error).__name__}: {error}") from error
                if not read:
                    raise RetryableError("the connection ended early")
                file.write(memory[:read])
                stretch.got += read
                block = min(MIB, 2 * block)
                self._state.add_fetched(read)
                if stretch.completed is not None:
                    # A noted range has to survive this process.
                    file.flush()
                    self._range_arrived(remote, stretch.completed)


def _is_keyed(headers: Mapping[str, str]) -> bool:
    """Whether S3 encrypts the file with a key of the customer's: its ETag is not the MD5 of the content then."""
    kept = headers.get("x-amz-server-side-encryption") or ""
    return kept.startswith("aws:kms") or bool(headers.get("x-amz-server-side-encryption-customer-algorithm"))


def take_stretch(todo: deque[tuple[Remote, int]]) -> Stretch:
    """Take neighbouring ranges of one file, fewer when few are left for all connections."""
    most = max(1, min(STRETCH, len(todo) // CONNECTIONS))
    remote, first = todo.popleft()
    count = 1
    while count < most and todo and todo[0][0] is remote and todo[0][1] == first + count:
        todo.popleft()
        count += 1
    return Stretch(remote, first, count)
