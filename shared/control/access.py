"""Failed sign-ins and wrong tokens: counted per address in this process, logged, and answered with a pause."""

import logging
import threading
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from gpulaunch.models.problems import Problem
from shared.clock import Clock
from shared.domain.errors import TooManyFailuresError
from shared.domain.messages import AccessNotice

log = logging.getLogger("gpulaunch.access")

FAILURES: Final = 10
"""Of one address in a WINDOW: more than anyone mistypes, and far too few to guess a token of 16 characters."""
REFUSALS: Final = 60
"""Logged for one address in a WINDOW: strangers must not fill the log, which is paid by size."""
WINDOW: Final = timedelta(minutes=1)
ADDRESSES: Final = 2048
"""Counted at most; the one that was seen longest ago is forgotten first. A megabyte or two, whoever calls."""
ALERT_AGAIN: Final = timedelta(hours=1)

_Key = tuple[str, str]


class RecentEvents:
    """The latest events of many keys, in bounded memory; safe for several threads."""

    def __init__(self, clock: Clock, limit: int) -> None:
        self._clock, self._limit = clock, limit
        self._lock = threading.Lock()
        self._times: OrderedDict[_Key, deque[datetime]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._times)

    def add(self, key: _Key) -> bool:
        """Add an event; return whether the limit is reached within the window."""
        now = self._clock.now()
        with self._lock:
            times = self._times.setdefault(key, deque(maxlen=self._limit))
            self._times.move_to_end(key)
            times.append(now)
            if len(self._times) > ADDRESSES:
                self._times.popitem(last=False)
            return len(times) == self._limit and now - times[0] < WINDOW

    def wait(self, key: _Key) -> timedelta:
        """Return how long until another event would be within the limit; zero if it is now."""
        with self._lock:
            times = self._times.get(key)
            if times is None or len(times) < self._limit:
                return timedelta(0)
            return max(times[0] + WINDOW - self._clock.now(), timedelta(0))


@dataclass
class FailedAttempts:
    """Failures by address and, for nodes, by instance."""

    clock: Clock
    alert: Callable[[AccessNotice], None]
    """Sends to the webhooks; never raises."""

    def __post_init__(self) -> None:
        self._recent = RecentEvents(self.clock, FAILURES)
        self._alerted_at: datetime | None = None

    def check(self, source: str, about: str = "") -> None:
        """Refuse an attempt before its token is compared, if the address has failed too often.

        Raises:
            TooManyFailuresError: With the time until the next attempt.
        """
        if left := self._recent.wait((source, about)):
            raise TooManyFailuresError(-(-left // timedelta(seconds=1)))

    def failed(self, source: str, what: str, request_id: str, about: str = "") -> None:
        """Count and log a failure, which `what` names; alert when it is one too many, and then log no more of them."""
        if self._recent.wait((source, about)):
            return
        where = f" for {about}" if about else ""
        extra = {"source": source, "request_id": request_id, "instance_id": about or None}
        text = "%s from %s%s; request %s"
        log.warning(text, what, source, where, request_id, extra={"event": "access_failed", **extra})
        if not self._recent.add((source, about)):
            return
        summary = f"{FAILURES} failed attempts from {source} within a minute{where}."
        log.error("%s", summary, extra={"event": "access_throttled", **extra})
        now = self.clock.now()
        if self._alerted_at is None or now - self._alerted_at >= ALERT_AGAIN:
            self._alerted_at = now
            more = "The log has each as access_failed; another alert follows after an hour at the earliest."
            self.alert(AccessNotice(at=now, source=source, message=f"{summary} {more}"))


class RefusalLog:
    """A line for each refused request, so that the id in its answer can be found; at most REFUSALS per address."""

    def __init__(self, clock: Clock) -> None:
        self._recent = RecentEvents(clock, REFUSALS)

    def note(self, source: str, what: str, problem: Problem, request_id: str) -> None:
        if not self._recent.wait((source, "")):
            self._recent.add((source, ""))
            extra = {"event": "refused", "source": source, "request_id": request_id}
            log.info("%s answered %d %s; request %s", what, problem.status, problem.code, request_id, extra=extra)
