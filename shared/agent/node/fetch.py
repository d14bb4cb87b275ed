"""Fetch the model's files side by side, each in ranges over several connections, and resume an earlier run."""

from __future__ import annotations

import errno
import json
import shutil
import threading
import urllib.parse
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from shared.agent.node.clock import NodeClock
from shared.agent.node.errors import (
    NETWORK_ERRORS,
    TRIES,
    FatalError,
    FetchError,
    RetryableError,
    StoppedError,
    T,
    retry,
)
from shared.agent.node.state import State
from shared.agent.node.transport import MIB, Http, retry_after

STRETCH = 8
"""Ranges that one request asks for at most: starting a connection costs as much as some MiB."""
CONNECTIONS = 16
"""One connection to an object store gives some 50-100 MB/s; a node's network takes many."""
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
        return self.target.with_name(self.target.name + ".part")

    @property
    def sidecar(self) -> Path:
        return self.target.with_name(self.target.name + ".part.json")

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
        self._folder, self._http, self._clock, self._state, self._stop = folder, transport, clock, state, stop
        self._refresh = refresh
        """Fresh URLs by path, for URLs that expire."""
        self._refresh_lock = threading.Lock()
        self._refreshes = 0
        self._remotes: list[Remote] = []

    def fetch(self, files: Sequence[dict[str, Any]], headers: Mapping[str, str] | None = None) -> None:
        """Fetch files, each `{path, url, size}`.

        Raises:
            FatalError: A file cannot be fetched or does not fit on the disk.
            StoppedError: The agent is ending.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        remotes: dict[str, Remote] = {}
        for entry in files:
            path = entry["path"]
            target = safe_target(self._folder, path)
            remotes[path] = Remote(path, entry["url"], entry.get("size"), target, dict(headers or {}))
        missing = self._remotes = [remote for remote in remotes.values() if not self._is_here(remote)]
        for remote in missing:
            if remote.size is None:
                remote.size = self._retry(remote, lambda remote=remote: self._ask_size(remote))
            remote.target.parent.mkdir(parents=True, exist_ok=True)
            remote.recall()
        here = sum(remote.target.stat().st_size for remote in remotes.values() if remote.target.exists())
        here += sum(remote.length(index) for remote in missing for index in remote.done)
        total = here + sum(remote.length(i) for remote in missing for i in range(remote.ranges) if i not in remote.done)
        free = shutil.disk_usage(self._folder).free
        if total - here > free:
            raise FetchError(f"disk full: the model needs {total - here} more bytes, {free} are free")
        self._state.fetched, self._state.total = here, total
        self._fetch_missing(missing)

    def _is_here(self, remote: Remote) -> bool:
        return remote.target.is_file() and remote.size in (None, remote.target.stat().st_size)

    def _fetch_missing(self, missing: Sequence[Remote]) -> None:
        todo: deque[tuple[Remote, int]] = deque()
        errors: list[BaseException] = []
        lock = threading.Lock()
        for remote in missing:
            if not remote.done:
                with remote.part.open("wb") as file:
                    file.truncate(remote.size)
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
            return FetchError(f"disk full: the model needs {needed} more bytes")
        return FetchError(f"{remote.path}: {error}")

    def _complete(self, remote: Remote) -> None:
        remote.part.replace(remote.target)
        remote.sidecar.unlink(missing_ok=True)

    def _retry(self, remote: Remote, attempt: Callable[[], T]) -> T:
        return retry(remote.path, attempt, self._clock, self._stop, lambda: self._state.fetched)

    def _open(self, remote: Remote, first: int, last: int) -> Any:
        """Ask for bytes; follow redirects by hand and remember where they led."""
        url, asked = remote.url, remote.location or remote.url
        headers = {**remote.headers, "Range": f"bytes={first}-{last}", "Accept-Encoding": "identity"}
        for _ in range(6):
            if urllib.parse.urlsplit(asked)[:2] != urllib.parse.urlsplit(url)[:2]:
                headers.pop("Authorization", None)
            try:
                answer = self._http.open("GET", asked, headers)
            except NETWORK_ERRORS as error:
                raise RetryableError(f"{type(error).__name__}: {error}") from error
            if answer.status in (200, 206, 416):
                remote.location = asked
                return answer
            with answer:
                if answer.status in (301, 302, 303, 307, 308):
                    target = urllib.parse.urljoin(asked, answer.headers.get("Location") or "")
                    if not target.startswith("https://") and asked.startswith("https://"):
                        raise FetchError(f"{remote.path}: refused a redirect from https to http")
                    asked = target
                    continue
                self._refuse(remote, url, asked, answer)
        raise FetchError(f"{remote.path}: too many redirects")

    def _refuse(self, remote: Remote, url: str, asked: str, answer: Any) -> NoReturn:
        """Raise for an error answer: RetryableError where another try may succeed, after refreshing expired URLs."""
        status = answer.status
        if status in (401, 403) and asked != url:
            remote.location = None
            raise RetryableError(f"answered {status} behind a redirect", 1.0)
        if status == 403 and self._refresh is not None and self._refreshes < TRIES:
            with self._refresh_lock:
                if remote.url == url:
                    self._refreshes += 1
                    fresh = self._refresh()
                    for other in self._remotes:
                        other.url, other.location = fresh.get(other.path, other.url), None
            raise RetryableError("its address had expired")
        if status in (408, 425, 429) or status >= 500:
            raise RetryableError(f"answered {status}", retry_after(answer.headers))
        raise FetchError(f"{remote.path}: the store answered {status}")

    def _ask_size(self, remote: Remote) -> int:
        with self._open(remote, 0, 0) as answer:
            total = (answer.headers.get("Content-Range") or "").rpartition("/")[2]
            if answer.status != 206:
                total = answer.headers.get("Content-Length") if answer.status == 200 else "0"
        if not total or not total.isdigit():
            raise FetchError(f"{remote.path}: the store does not report its size")
        return int(total)

    def _range_arrived(self, remote: Remote, index: int) -> None:
        with remote.lock:
            remote.done.add(index)
            remote.note()
            if len(remote.done) == remote.ranges:
                self._complete(remote)

    def _is_whole(self, remote: Remote, answer: Any, start: int) -> bool:
        """Check an answer; return whether it is the whole file instead of its bytes from `start` on."""
        content_range = answer.headers.get("Content-Range") or ""
        total = answer.headers.get("Content-Length") if answer.status == 200 else content_range.rpartition("/")[2]
        if total is not None and total.isdigit() and int(total) != remote.size:
            message = f"size mismatch: the store has {total} bytes, {remote.size} were expected"
            raise FetchError(f"{remote.path}: {message}")
        if answer.status == 200 and remote.ranges > 1:
            raise FetchError(f"{remote.path}: the store does not answer range requests")
        if answer.status != 200 and (answer.status != 206 or not content_range.startswith(f"bytes {start}-")):
            raise RetryableError(f"answered {answer.status} with range {content_range!r}")
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
        with self._open(remote, first, last) as answer, remote.part.open("r+b") as file:
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


def take_stretch(todo: deque[tuple[Remote, int]]) -> Stretch:
    """Take neighbouring ranges of one file, fewer when few are left for all connections."""
    most = max(1, min(STRETCH, len(todo) // CONNECTIONS))
    remote, first = todo.popleft()
    count = 1
    while count < most and todo and todo[0][0] is remote and todo[0][1] == first + count:
        todo.popleft()
        count += 1
    return Stretch(remote, first, count)
