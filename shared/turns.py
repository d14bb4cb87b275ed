"""Waiting for a turn among so many callers, which ends."""

import threading

from gpulaunch.deadlines import time_left
from shared.errors import StoreUnavailableError


class Turns:
    """A context manager that lets `slots` callers in at a time.

    Entering raises StoreUnavailableError when the others have kept all slots for `seconds`, or until the caller's own
    deadline; `what` names them for people.
    """

    def __init__(self, slots: int, seconds: float, what: str) -> None:
        self._slots = threading.BoundedSemaphore(slots)
        self._seconds = seconds
        self._what = what

    def __enter__(self) -> None:
        if not self._slots.acquire(timeout=max(0.0, min(self._seconds, time_left()))):
            raise StoreUnavailableError(f"{self._what} was in use by others for {self._seconds:.0f} s")

    def __exit__(self, *_: object) -> None:
        self._slots.release()
