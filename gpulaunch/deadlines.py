"""Time limits: of one call, whatever its server does, and of all calls that one piece of work makes."""

import contextvars
import math
import threading
import time
from collections.abc import Callable, Generator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")

_until: contextvars.ContextVar[float] = contextvars.ContextVar("until", default=math.inf)
"""The deadline of everything inside `time_limit`, by the monotonic clock."""


class NoTimeLeftError(TimeoutError):
    """The deadline was over before anything was begun."""


@contextmanager
def time_limit(seconds: float) -> Generator[None]:
    """Give all calls inside one deadline together, or the rest of the one that is in force if that is less."""
    token = _until.set(min(_until.get(), time.monotonic() + seconds))
    try:
        yield
    finally:
        _until.reset(token)


def time_left() -> float:
    """Seconds until the deadline; not positive once it is over, infinite where there is none."""
    return _until.get() - time.monotonic()


def within(seconds: float, work: Callable[[], T]) -> T:
    """Return what `work` returns, or leave it behind after `seconds`, in a thread that ends with it.

    HTTP clients limit each read, not the whole: a server that sends a byte now and then goes on for ever, in headers
    too, and looking up a name has no limit at all.

    Raises:
        TimeoutError: It takes longer, or longer than what is left of `time_limit`.
        NoTimeLeftError: Nothing is left of that.
    """
    seconds = min(seconds, time_left())
    if seconds <= 0:
        raise NoTimeLeftError
    done: Future[T] = Future()
    context = contextvars.copy_context()

    def run() -> None:
        try:
            done.set_result(context.run(work))
        except BaseException as error:
            done.set_exception(error)  # raised by the caller, if it still waits

    threading.Thread(target=run, name="within", daemon=True).start()
    return done.result(None if seconds == math.inf else seconds)
