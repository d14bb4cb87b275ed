"""How work on the node ends early, and how it is tried again."""

from __future__ import annotations

import http.client
import random
import threading
from collections.abc import Callable
from typing import TypeVar

from shared.agent.node.clock import NodeClock

TRIES = 8
"""With back-off up to 60 s: about two minutes without progress."""
NETWORK_ERRORS = (OSError, http.client.HTTPException)
"""Everything that a request can raise."""


T = TypeVar("T")


class FatalError(Exception):
    """The attempt failed: a code that the control plane knows, and a line for people."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail


class FetchError(FatalError):
    def __init__(self, detail: str) -> None:
        super().__init__("model_fetch_failed", detail)


class RetryableError(Exception):
    """A later try may succeed; wait at least `after` seconds."""

    def __init__(self, reason: str, after: float = 0.0) -> None:
        super().__init__(reason)
        self.after = after


class StoppedError(Exception):
    """The agent is ending; work in progress is abandoned."""


def backoff(error: RetryableError, tries: int, most: float) -> float:
    """Seconds to wait after that many failures in a row."""
    pause = min(most, 2.0 ** min(tries - 1, 9)) * random.uniform(0.5, 1)  # noqa: S311 - spreads calls, guards nothing
    return max(error.after, pause)


def retry(
    what: str,
    attempt: Callable[[], T],
    clock: NodeClock,
    stop: threading.Event,
    progress: Callable[[], int] = lambda: 0,
) -> T:
    """Try until it works; a try counts from the first one again when it made progress.

    Raises:
        FetchError: Too many tries in a row failed.
        StoppedError: The agent is ending.
    """
    tries, seen = 0, progress()
    while not stop.is_set():
        try:
            return attempt()
        except RetryableError as error:
            tries = 1 if progress() > seen else tries + 1
            seen = progress()
            if tries >= TRIES:
                raise FetchError(f"{what}: {error}, after {tries} tries") from error
            clock.wait(stop, backoff(error, tries, 60.0))
    raise StoppedError
