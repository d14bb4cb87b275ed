"""Values in this process's memory that are read again when they are too old. All are safe for several threads."""

import threading
from collections.abc import Callable, Hashable
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from typing import Generic, TypeVar

from shared.clock import Clock

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")


class _Patient:
    """A lock that raises TimeoutError after some seconds of waiting."""

    def __init__(self, seconds: float) -> None:
        self._lock = threading.Lock()
        self._seconds = seconds

    def __enter__(self) -> None:
        if not self._lock.acquire(timeout=self._seconds):
            raise TimeoutError

    def __exit__(self, *_: object) -> None:
        self._lock.release()


class TTLCache(Generic[T]):
    """One value, with the time at which it was read; `patience`: for how many seconds others wait for a reading."""

    def __init__(self, seconds: float, patience: float | None = None) -> None:
        self._age = timedelta(seconds=seconds)
        self._lock: AbstractContextManager[object] = threading.Lock() if patience is None else _Patient(patience)
        self._found: tuple[datetime, T] | None = None

    def get(self, now: datetime, read: Callable[[], T]) -> T:
        """Return the value, read again if it is too old; threads that come meanwhile wait for that one reading.

        Raises:
            TimeoutError: Another thread's reading takes longer than the patience.
        """
        with self._lock:
            if self._found is None or not self._found[0] <= now < self._found[0] + self._age:
                self._found = (now, read())
            return self._found[1]

    def drop(self) -> None:
        with self._lock:
            self._found = None


class KeyedTTLCache(Generic[K, T]):
    """One value per key. Callers do not wait for each other's reads: a hanging source blocks its own callers only."""

    def __init__(self, seconds: float, clock: Clock) -> None:
        self._age = timedelta(seconds=seconds)
        self._clock = clock
        self._lock = threading.Lock()
        self._found: dict[K, tuple[datetime, T]] = {}

    def find(self, key: K) -> T | None:
        with self._lock:
            found = self._found.get(key)
        return found[1] if found is not None and found[0] <= self._clock.now() < found[0] + self._age else None

    def put(self, key: K, value: T) -> None:
        """Store a value as of now, and drop those that are too old."""
        now = self._clock.now()
        with self._lock:
            fresh = {k: found for k, found in self._found.items() if now < found[0] + self._age}
            self._found = {**fresh, key: (now, value)}
