"""A value that is read again after some seconds, not at every question."""

import threading
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Generic, TypeVar

T = TypeVar("T")


class TTLCache(Generic[T]):
    """One value in this process' memory, with the time at which it was read. Safe for several threads."""

    def __init__(self, seconds: float) -> None:
        self._age = timedelta(seconds=seconds)
        self._lock = threading.Lock()
        self._found: tuple[datetime, T] | None = None

    def get(self, now: datetime, read: Callable[[], T]) -> T:
        """The value, read anew when it is too old; threads that come meanwhile wait for that one reading."""
        with self._lock:
            if self._found is None or not self._found[0] <= now < self._found[0] + self._age:
                self._found = (now, read())
            return self._found[1]

    def drop(self) -> None:
        """Have it read anew at the next question."""
        with self._lock:
            self._found = None
