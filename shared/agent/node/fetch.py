"""Fetch the model's files side by side, each in ranges over several connections, and resume an earlier run."""

from __future__ import annotations

import errno
import random
import shutil
import threading
import urllib.parse
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from shared.agent.node.clock import NodeClock
from shared.agent.node.errors import NETWORK_ERRORS, FatalError, FetchError, RetryableError, StoppedError
from shared.agent.node.files import Remote, Stretch, safe_target
from shared.agent.node.state import State
from shared.agent.node.transport import MIB, Http, retry_after

STRETCH = 8
"""Ranges that one request asks for at most: starting a connection costs as much as some MiB."""
CONNECTIONS = 16
"""One connection to an object store gives some 50-100 MB/s; a node's network takes many."""
TRIES = 8
"""With back-off up to 60 s: about two minutes without a byte."""

T = TypeVar("T")


class Fetcher:
    """Fetches a model's files into a folder."""

    def __init__(
        self,
        *,
        folder: Path,
        transport: Http,
        clock: NodeClock,
        state: State,
        stop: threading.Event,
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
        remotes = {entry["path"]: self._remote(entry, headers or {}) for entry in files}
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

    def _remote(self, entry: dict[str, Any], headers: Mapping[str, str]) -> Remote:
        path = entry["path"]
        return Remote(path, entry["url"], entry.get("size"), safe_target(self._folder, path), dict(headers))

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
        tries, seen = 0, self._state.fetched
        while not self._stop.is_set():
            try:
                return attempt()
            except RetryableError as error:
                tries = 1 if self._state.fetched > seen else tries + 1
                seen = self._state.fetched
                if tries >= TRIES:
                    raise FetchError(f"{remote.path}: {error}, after {tries} tries") from error
                backoff = min(60.0, 2.0 ** (tries - 1)) * random.uniform(0.5, 1)  # noqa: S311 - spreads calls, guards nothing
                self._clock.wait(self._stop, max(error.after, backoff))
        raise StoppedError

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
