"""A lock that gives up: so many callers at a time, and an error for whoever waits too long."""

import threading

from shared.errors import StoreUnavailableError


class Turns:
    """A context manager that lets `slots` callers in at a time.

    Entering raises StoreUnavailableError when the others have kept all slots for `seconds`; `what` names them for
    people.
    """

    def __init__(self, slots: int, seconds: float, what: str) -> None:
        self._slots = threading.BoundedSemaphore(slots)
        self._seconds = seconds
        self._what = what

    def __enter__(self) -> None:
        if not self._slots.acquire(timeout=self._seconds):
            raise StoreUnavailableError(f"{self._what} was in use by others for {self._seconds:.0f} s")

    def __exit__(self, *_: object) -> None:
        self._slots.release()
