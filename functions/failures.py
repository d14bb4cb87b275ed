"""What leaves a function when it fails."""

import traceback
from collections.abc import Generator
from contextlib import contextmanager


class FailedError(Exception):
    """Stands for an error whose text the worker cannot send to the host."""


@contextmanager
def sendable_failures() -> Generator[None]:
    """Pass errors on, those with lone surrogates in their text as one without.

    The worker cannot serialize such a text, and the call would hang until the host's functionTimeout.
    """
    try:
        yield
    except Exception as error:
        text = "".join(traceback.format_exception(error))
        try:
            text.encode()
        except UnicodeEncodeError:
            raise FailedError(text.encode(errors="replace").decode()) from None
        raise
