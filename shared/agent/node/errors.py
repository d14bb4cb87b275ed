"""How work on the node ends early, and how it is tried again."""

from __future__ import annotations

import http.client
import random
import threading
from collections.abc import Callable, Sequence
from typing import TypeVar

from shared.agent.node.clock import NodeClock

TRIES = 8
"""With back-off up to 60 s: about two minutes without progress."""
BUSY_SECONDS = 660.0
"""Without progress, for a server that answers 429 or 503: the Hub counts requests in windows of 300 s, and whoever
comes late in one that is used up may meet the next one used up as well."""
NETWORK_ERRORS = (OSError, http.client.HTTPException)
"""Everything that a request can raise."""


T = TypeVar("T")


class FatalError(Exception):
    """The attempt failed: a code that the control plane knows, a line for people, and the log lines that show it."""

    def __init__(self, code: str, detail: str, evidence: Sequence[str] = ()) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail
        self.evidence = evidence


class FetchError(FatalError):
    def __init__(self, detail: str) -> None:
        super().__init__("model_fetch_failed", detail)


class RetryableError(Exception):
    """A later try may succeed; wait at least `after` seconds."""

    def __init__(self, reason: str, after: float = 0.0, *, busy: bool = False) -> None:
        super().__init__(reason)
        self.after = after
        self.busy = busy
        """The server asks for patience."""


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
    tries, seen, waited = 0, progress(), 0.0
    while not stop.is_set():
        try:
            return attempt()
        except RetryableError as error:
            if progress() > seen:
                tries, seen, waited = 0, progress(), 0.0
            tries += 1
            if tries >= TRIES and waited >= (BUSY_SECONDS if error.busy else 0.0):
                raise FetchError(f"{what}: {error}, after {tries} tries") from error
            pause = backoff(error, tries, 60.0)
            waited += pause
            clock.wait(stop, pause)
    raise StoppedError
