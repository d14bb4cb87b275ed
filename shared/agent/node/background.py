"""Work on its own thread, and its outcome."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from shared.agent.node.errors import FatalError, StoppedError

T = TypeVar("T")


class Background(Generic[T]):
    """A thread whose result or error the main thread collects."""

    def __init__(self, name: str, work: Callable[[], T], code: str) -> None:
        self.value: T | None = None
        self._error: BaseException | None = None
        self._code = code
        self._done = threading.Event()

        def run() -> None:
            try:
                self.value = work()
            except Exception as error:  # whatever it is, the main thread reports it
                self._error = error
            self._done.set()

        threading.Thread(target=run, name=name, daemon=True).start()

    def finished(self) -> bool:
        """Whether it has finished.

        Raises:
            FatalError: It failed.
        """
        if isinstance(self._error, FatalError):
            raise self._error
        if self._error is not None and not isinstance(self._error, StoppedError):
            raise FatalError(self._code, f"{type(self._error).__name__}: {self._error}")
        return self._done.is_set() and self._error is None
