"""Translate errors of the storage SDKs."""

from collections.abc import Generator
from contextlib import contextmanager
from typing import Final

from azure.core.exceptions import (
    AzureError,
    ClientAuthenticationError,
    DecodeError,
    HttpResponseError,
    ServiceRequestError,
    ServiceResponseError,
)

from shared.errors import StoreError, StoreUnavailableError

REPEATED: Final = frozenset({"POST"})
"""`retry_on_methods` of transactions: retry them on dropped connections, such as a pooled one that the service has just
closed. By default the SDK does not retry POST; here it is safe, because a write recognizes its own work."""
_NOT_NOW = frozenset({"TableNotFound", "TableBeingDeleted", "QueueNotFound", "QueueBeingDeleted"})
"""Codes of a table or queue that is being recreated: the requested row is unknown, not absent."""


def code_of(error: AzureError) -> str:
    """Return the service's error code, such as `EntityAlreadyExists`, or an empty string."""
    code = getattr(error, "error_code", None)
    return "" if code is None else str(getattr(code, "value", code))


def status_of(error: AzureError) -> int | None:
    return error.status_code if isinstance(error, HttpResponseError) else None


def translate(error: AzureError, doing: str) -> StoreError:
    """Translate an error that has no special meaning to the caller.

    No answer, throttling, missing rights and a missing table say nothing about what is stored and may pass:
    StoreUnavailableError. Any other error would repeat for ever: StoreError.
    """
    status, code = status_of(error), code_of(error)
    passing = (
        isinstance(error, ServiceRequestError | ServiceResponseError | DecodeError | ClientAuthenticationError)
        or status is None
        or status in (401, 403, 408, 429)
        or status >= 500
        or code in _NOT_NOW
    )
    # the SDK's message repeats request ids and times; the first line has the content
    first = (str(error.message) or type(error).__name__).splitlines()[0]
    text = f"{doing}: {code or status or type(error).__name__}: {first}"
    return StoreUnavailableError(text) if passing else StoreError(text)


@contextmanager
def translated(doing: str) -> Generator[None]:
    try:
        yield
    except AzureError as error:
        raise translate(error, doing) from error
