"""Waiting that ends: for a turn among so many callers, and for a call whatever its server does."""

import contextvars
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

from shared.errors import StoreUnavailableError

T = TypeVar("T")


def within(seconds: float, work: Callable[[], T]) -> T:
    """Return what `work` returns, or leave it behind after `seconds`, in a thread that ends with it.

    HTTP clients limit each read, not the whole: a server that sends a byte now and then goes on for ever, in headers
    too, and looking up a name has no limit at all.

    Raises:
        TimeoutError: It takes longer.
    """
    done: Future[T] = Future()
    context = contextvars.copy_context()

    def run() -> None:
        try:
            done.set_result(context.run(work))
        except BaseException as error:
            done.set_exception(error)  # raised by the caller, if it still waits

    threading.Thread(target=run, name="within", daemon=True).start()
    return done.result(seconds)


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
