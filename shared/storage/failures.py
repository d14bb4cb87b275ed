"""What the storage SDKs raise, in our words."""

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
"""What transactions give the SDK as `retry_on_methods`: they too are sent again when their connection breaks, as a kept
one does that the service closes just then. The SDK takes no POST for repeatable: ours recognise what they wrote."""
_NOT_NOW = frozenset({"TableNotFound", "TableBeingDeleted", "QueueNotFound", "QueueBeingDeleted"})
"""Codes for a table or queue that is being made anew; what was asked is unknown, not absent."""


def code_of(error: AzureError) -> str:
    """The service's own error code, such as `EntityAlreadyExists`; empty when there is none."""
    code = getattr(error, "error_code", None)
    return "" if code is None else str(getattr(code, "value", code))


def status_of(error: AzureError) -> int | None:
    """The HTTP status of the answer, or None when there was no answer."""
    return error.status_code if isinstance(error, HttpResponseError) else None


def translate(error: AzureError, doing: str) -> StoreError:
    """Our error for one of the SDK's that the caller has no meaning for.

    No answer, a refusal for load or for lack of rights, and a missing table say nothing about what is stored and may
    pass: StoreUnavailableError. Any other refusal will be repeated for ever: StoreError.
    """
    status, code = status_of(error), code_of(error)
    passing = (
        isinstance(error, ServiceRequestError | ServiceResponseError | DecodeError | ClientAuthenticationError)
        or status is None
        or status in (401, 403, 408, 429)
        or status >= 500
        or code in _NOT_NOW
    )
    # the SDK's message repeats request ids and times over several lines; its first line says it
    first = (str(error.message) or type(error).__name__).splitlines()[0]
    text = f"{doing}: {code or status or type(error).__name__}: {first}"
    return StoreUnavailableError(text) if passing else StoreError(text)


@contextmanager
def translated(doing: str) -> Generator[None]:
    """Raise our error in place of any that the SDK raises inside."""
    try:
        yield
    except AzureError as error:
        raise translate(error, doing) from error
