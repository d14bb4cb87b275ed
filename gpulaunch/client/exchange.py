"""Addresses and tokens, how answers are read, and when a request is sent again. Without I/O."""

import string
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import httpx
from pydantic import BaseModel, ValidationError
from tenacity import RetryCallState
from tenacity.retry import retry_if_exception

from gpulaunch.client.errors import (
    AddressError,
    ApiError,
    ConnectionSetupError,
    NoAnswerError,
    UnavailableError,
    UnreadableAnswerError,
)
from gpulaunch.models.pages import is_page
from gpulaunch.models.requests import LaunchRequest
from gpulaunch.version import VERSION

M = TypeVar("M", bound=BaseModel)

TIMEOUT = httpx.Timeout(60.0, connect=5.0)
"""Seconds. A launch may start SkyPilot's local server and wait for its check, 12 s or more; connecting is quick."""
TRIES = 4
"""With pauses of 0.5, 1 and 2 s: a restarted local app is back by then, and a wrong address is soon reported."""
PATIENCE = 30.0
"""Seconds of pauses, in total, that one call may spend on Retry-After; beyond that the caller decides."""
_PERMANENT = frozenset({"misconfigured", "provider_not_enabled"})
"""Codes of a 503 that only an operator can resolve."""


def checked(url: str, token: str | None) -> tuple[str, dict[str, str]]:
    """The base address, and the headers of every request.

    Raises:
        AddressError: the address or the token is invalid; the message never shows the token.
    """
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise AddressError(f"Invalid address {url!r}: {error}.") from error
    if parsed.scheme not in ("http", "https") or not parsed.host or parsed.userinfo or parsed.query:
        raise AddressError(f"Invalid address {url!r}. Example: https://my-app.azurewebsites.net")
    if is_page(parsed.path):
        raise AddressError(f"{url!r} is a page of the app. Leave out {parsed.path}.")
    headers = {"User-Agent": f"gpulaunch-client/{VERSION}", "Accept": "application/json"}
    if token is not None:
        if not token or set(token) - set(string.ascii_letters + string.digits + string.punctuation):
            raise AddressError("The token is empty or has invalid characters. Was it copied with a line break?")
        headers["X-Admin-Token"] = token
    return url.rstrip("/"), headers


def launch_body(request: LaunchRequest | Mapping[str, Any] | None, fields: Mapping[str, Any]) -> Mapping[str, Any]:
    """What is not set is left to the app: its defaults may be newer than these."""
    if isinstance(request, LaunchRequest):
        return request.model_dump(mode="json", exclude_unset=True)
    return fields if request is None else request


def parsed(response: httpx.Response, *kinds: type[M]) -> M:
    """The answer in a response: the first of the kinds that it is.

    Raises:
        UnreadableAnswerError: it has the fields of none.
    """
    wrong = 0
    for kind in kinds:
        try:
            return kind.model_validate_json(response.content)
        except ValidationError as error:
            wrong = wrong or error.error_count()
    where = f"{response.request.method} {response.url.path}"
    raise UnreadableAnswerError(
        f"The answer to {where} cannot be read ({wrong} invalid fields). "
        "Do the client and the app have the same version?"
    )


def policy(on_retry: Callable[[Exception, float], None] | None) -> dict[str, Any]:
    """When a request is sent again, as tenacity takes it. `on_retry` gets the reason and the seconds until then."""

    def report(state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        if on_retry is not None and isinstance(error, Exception):
            on_retry(error, state.upcoming_sleep)

    return {
        "retry": retry_if_exception(transient),
        "wait": _pause,
        "stop": _enough,
        "before_sleep": report,
        "reraise": True,
    }


def transient(error: BaseException) -> bool:
    """Whether the same request may succeed in a moment."""
    if isinstance(error, UnavailableError):
        return error.code not in _PERMANENT
    if isinstance(error, ConnectionSetupError):
        return False
    return isinstance(error, NoAnswerError) or (isinstance(error, ApiError) and error.code == "busy")


def _pause(state: RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome else None
    if isinstance(error, ApiError) and error.retry_after is not None:
        return error.retry_after
    return 0.5 * 2.0 ** (state.attempt_number - 1)


def _enough(state: RetryCallState) -> bool:
    return state.attempt_number >= TRIES or state.idle_for + _pause(state) > PATIENCE


def new_lines(before: Sequence[str], now: Sequence[str]) -> list[str]:
    """Lines added to a tail that keeps only the last ones: what follows the longest overlap."""
    for size in range(min(len(before), len(now)), 0, -1):
        if list(before[-size:]) == list(now[:size]):
            return list(now[size:])
    return list(now)
