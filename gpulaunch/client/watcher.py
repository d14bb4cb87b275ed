"""Polling one instance: when to ask next, how, and what the answers amount to. Without I/O, for both clients."""

from collections.abc import Callable, Sequence

import httpx

from gpulaunch import operations
from gpulaunch.client.errors import ClientError, EndedError, WaitTimeoutError
from gpulaunch.client.exchange import Call, parsed, transient
from gpulaunch.models.instances import Phase
from gpulaunch.models.responses import InstanceView

FIRST_POLL, LAST_POLL = 1.0, 5.0
"""Seconds between two polls: the first after a change, half as long again each time; an unchanged one is a 304."""
OUTAGE = 300.0
"""Seconds for which a wait tolerates an app that does not answer: a deployment takes one or two minutes."""


class Watcher:
    """Polls by ETag, so that an unchanged instance costs the app one read.

    Args:
        timeout: Seconds until `pause` raises; None for no limit.
        clock: Seconds since some moment, as time.monotonic gives them.
    """

    def __init__(self, instance_id: str, timeout: float | None, clock: Callable[[], float]) -> None:
        self.call = Call(operation=operations.SHOW, instance_id=instance_id)
        self._clock = clock
        self._timeout = timeout
        self._began = self._answered_at = clock()
        self._pause = FIRST_POLL
        self._view: InstanceView | None = None

    def pause(self) -> float:
        """Seconds until the next poll; 0 before the first.

        Raises:
            WaitTimeoutError: the time is over. The first poll is made in any case.
        """
        if self._view is None:
            return 0.0
        if self._timeout is None:
            return self._pause
        left = self._began + self._timeout - self._clock()
        if left <= 0:
            raise WaitTimeoutError(self._view, self._timeout)
        return min(self._pause, left)

    def change(self, response: httpx.Response) -> InstanceView | None:
        """The instance's new state; None when it has not changed."""
        self._answered_at = self._clock()
        if response.status_code == 304:
            self._slow_down()
            return None
        self._view = parsed(response, InstanceView)
        self._pause = FIRST_POLL
        etag = {"If-None-Match": response.headers["ETag"]}
        self.call = Call(operation=operations.SHOW, instance_id=self.call.instance_id, headers=etag)
        return self._view

    def tolerate(self, error: ClientError) -> None:
        """Go on in spite of an error, or raise it: at the first poll, if it is permanent, or after an outage."""
        if self._view is None or not transient(error) or self._clock() - self._answered_at > OUTAGE:
            raise error
        self._slow_down()

    def _slow_down(self) -> None:
        self._pause = min(self._pause * 1.5, LAST_POLL)


def is_ready(view: InstanceView) -> bool:
    """Whether the instance serves.

    Raises:
        EndedError: it is terminating or has ended.
    """
    if view.phase.ended or view.phase is Phase.TERMINATING:
        raise EndedError(view)
    return view.phase is Phase.READY


def new_lines(before: Sequence[str], now: Sequence[str]) -> list[str]:
    """Lines added to a tail that keeps only the last ones: what follows the longest overlap."""
    for size in range(min(len(before), len(now)), 0, -1):
        if list(before[-size:]) == list(now[:size]):
            return list(now[size:])
    return list(now)
