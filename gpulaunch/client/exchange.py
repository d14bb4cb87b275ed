"""One request and its answer: what both clients send, when they try again, and how long they wait for what."""

import string
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypedDict
from urllib.parse import quote

import httpx
from tenacity import RetryCallState
from tenacity.retry import retry_base, retry_if_exception

from gpulaunch.client.errors import AddressError, ApiError, NoAnswerError, UnavailableError, error_of
from gpulaunch.models.problems import PROBLEM_TYPE
from gpulaunch.operations import Operation
from gpulaunch.version import VERSION

TIMEOUT = httpx.Timeout(60.0, connect=5.0)
"""A launch may start SkyPilot's local server and wait for its check, 12 s or more; whoever listens accepts at once."""
TRIES = 4
"""With pauses of 0.5, 1 and 2 s: a restarted local host is back by then, and a wrong address is soon known."""
PATIENCE = 30.0
"""Seconds of pauses, all together, that one call may spend on Retry-After; beyond that the caller decides."""
_HOPELESS = frozenset({"misconfigured", "provider_not_enabled"})
"""Codes of a 503 that only an operator can end."""


@dataclass(frozen=True)
class Call:
    """One request. Sent again as it is, so a launch carries the same Idempotency-Key every time."""

    operation: Operation
    instance_id: str = ""
    query: Mapping[str, str] = field(default_factory=dict[str, str])
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    body: bytes | None = None

    @property
    def path(self) -> str:
        """The path with the instance's id in it."""
        return self.operation.path.replace("{instanceId}", quote(self.instance_id, safe=""))

    def request(self, http: httpx.Client | httpx.AsyncClient) -> httpx.Request:
        """The request, for either kind of client."""
        headers = dict(self.headers)
        if self.body is not None:
            headers["Content-Type"] = "application/json"
        return http.build_request(
            self.operation.method, self.path, params=dict(self.query) or None, headers=headers, content=self.body
        )

    def accept(self, response: httpx.Response) -> httpx.Response:
        """The answer, if the operation knows it. Raises ClientError for a problem and for what is no answer of ours."""
        problem = response.headers.get("Content-Type", "").startswith(PROBLEM_TYPE)
        if problem or response.status_code not in self.operation.answers:
            raise error_of(response)
        return response


def checked(url: str, token: str | None) -> tuple[str, dict[str, str]]:
    """The base address and the headers of every request. Raises AddressError, which never shows the token."""
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise AddressError(f"{url!r} is no address: {error}") from error
    if parsed.scheme not in ("http", "https") or not parsed.host or parsed.userinfo or parsed.query:
        raise AddressError(f"{url!r} is no address of an app; one looks like https://my-app.azurewebsites.net")
    headers = {"User-Agent": f"gpulaunch-client/{VERSION}", "Accept": "application/json"}
    if token is not None:
        if not token or set(token) - set(string.ascii_letters + string.digits + string.punctuation):
            raise AddressError("The token has characters that no token has; was it copied with a line break?")
        headers["X-Admin-Token"] = token
    return url.rstrip("/"), headers


def no_answer(error: httpx.RequestError) -> NoAnswerError:
    """What a failed exchange means to the caller."""
    where = f"{error.request.url.scheme}://{error.request.url.netloc.decode()}"
    if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
        return NoAnswerError(f"Nobody answers at {where}: {error or 'no connection in time'}")
    if isinstance(error, httpx.TimeoutException):
        return NoAnswerError(f"{where} did not answer in time")
    return NoAnswerError(f"{where} broke the connection off: {error or type(error).__name__}")


class Policy(TypedDict):
    """What tenacity's two kinds of retrying are made with."""

    retry: retry_base
    wait: Callable[[RetryCallState], float]
    stop: Callable[[RetryCallState], bool]
    before_sleep: Callable[[RetryCallState], None]
    reraise: bool


def policy(on_retry: Callable[[Exception, float], None] | None) -> Policy:
    """When a request is sent again. `on_retry` is told why, and after how many seconds."""

    def tell(state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        if on_retry is not None and isinstance(error, Exception):
            on_retry(error, state.upcoming_sleep)

    return {
        "retry": retry_if_exception(passes),
        "wait": _pause,
        "stop": _enough,
        "before_sleep": tell,
        "reraise": True,
    }


def passes(error: BaseException) -> bool:
    """Whether an error may be gone in a moment, so that the same request can be sent again."""
    if isinstance(error, UnavailableError):
        return error.code not in _HOPELESS
    return isinstance(error, NoAnswerError) or (isinstance(error, ApiError) and error.code == "busy")


def _pause(state: RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome else None
    if isinstance(error, ApiError) and error.retry_after is not None:
        return error.retry_after
    return 0.5 * 2.0 ** (state.attempt_number - 1)


def _enough(state: RetryCallState) -> bool:
    return state.attempt_number >= TRIES or state.idle_for + _pause(state) > PATIENCE
