"""How SkyPilot's API server is spoken to: one HTTP client, and its errors translated where they enter.

SkyFailedError              a request was refused or failed; never leaves `shared.backends.skypilot`
ProviderUnavailableError    no answer in time, or one that cannot be read
└── SkyRefusalError         the server refuses us: wrong token, wrong version
"""

import contextlib
import json
import re
import threading
import time
from collections.abc import Callable, Generator, Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Literal, TypeVar, cast

import httpx
from pydantic import SecretStr, TypeAdapter, ValidationError

from gpulaunch.deadlines import NoTimeLeftError, time_left, within
from shared.domain.provider import ProviderUnavailableError

API_VERSION = 62
"""The version of SkyPilot's HTTP interface that this client was written against (SkyPilot 0.14.1)."""

_OK, _BAD_REQUEST, _NOT_FOUND, _UNPROCESSABLE = 200, 400, 404, 422
_GATEWAY = (502, 503, 504)
"""What a gateway answers while the server behind it starts."""
_CONNECT_SECONDS = 3.0
"""A server that is up accepts at once, even across an ocean."""
ANSWER_SECONDS = 10.0
"""Plain answers take milliseconds; the rest is for a server that is busy launching on few cores."""
_WORKERS = 64
"""Calls at once; one whose answer drips keeps its thread until the server ends it, long after its caller has left."""
_NOISE = re.compile(
    r"\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b[@-Z\\-_]|<sky-payload[^>]*>.*?</sky-payload>|[\x00-\x08\x0b-\x1f\x7f]"
)

T = TypeVar("T")


class SkyRefusalError(ProviderUnavailableError):
    """The server refuses to talk to us (401, 403, or another version): a matter of set-up, not of chance."""


class SkyFailedError(Exception):
    """A request was refused or failed; carries what SkyPilot raised."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(f"{kind}: {message}")
        self.kind = kind
        self.message = message


def plain(text: str) -> str:
    """Remove colours, spinners and control characters from a text."""
    return _NOISE.sub("", text)


def is_local(endpoint: str) -> bool:
    return httpx.URL(endpoint).host in ("127.0.0.1", "localhost", "::1")


def _sky_version() -> str:
    try:
        return version("skypilot")
    except PackageNotFoundError:
        return "0.14.1"


class SkyHttp:
    """HTTP to one API server. Safe for several threads; opens no connection before the first call.

    Every method may raise ProviderUnavailableError and SkyRefusalError.
    """

    def __init__(self, endpoint: str, token: SecretStr | None) -> None:
        self.endpoint = endpoint
        self._places = threading.BoundedSemaphore(_WORKERS)
        headers = {"X-SkyPilot-API-Version": str(API_VERSION), "X-SkyPilot-Version": _sky_version()}
        if token is not None:
            headers["Authorization"] = f"Bearer {token.get_secret_value()}"
        self._http = httpx.Client(
            base_url=endpoint,
            headers=headers,
            timeout=httpx.Timeout(ANSWER_SECONDS, connect=_CONNECT_SECONDS),
            trust_env=not is_local(endpoint),  # a proxy to the internet does not lead to this machine
        )

    def close(self) -> None:
        self._http.close()

    def health(self) -> Literal["healthy", "waking", "away"]:
        """`waking`: something accepted the call for a server that does not answer, as a gateway does at its start.

        Raises:
            SkyRefusalError: The only error of this method.
        """
        try:
            response = self._within(_CONNECT_SECONDS, lambda limit: self._http.get("/api/health", timeout=limit))
        except httpx.ReadTimeout:
            return "waking"
        except httpx.HTTPError:
            return "away"
        if response.status_code in _GATEWAY:
            return "waking"
        self._check_refusal(response)
        if response.status_code != _OK:
            return "away"
        status = (_object(response) or {}).get("status")
        if status == "needs_auth":
            raise SkyRefusalError("The SkyPilot server requires a token: set SKYPILOT_SERVICE_ACCOUNT_TOKEN")
        # `waking`: infra/skypilot/alone.py answers for a server that waits until its predecessor has ended.
        return "healthy" if status == "healthy" else "waking" if status == "waking" else "away"

    def send(
        self,
        method: str,
        path: str,
        *,
        params: list[tuple[str, str]] | None = None,
        body: Mapping[str, object] | None = None,
        seconds: float | None = None,
    ) -> httpx.Response:
        """Send one call and return its answer, which is a 200, within `seconds` (by default ANSWER_SECONDS) in all.

        Raises:
            SkyFailedError: The server did not accept the request, or the request that was asked for has failed.
        """
        with self._errors():
            response = self._within(
                ANSWER_SECONDS if seconds is None else seconds,
                lambda limit: self._http.request(method, path, params=tuple(params or ()), json=body, timeout=limit),
            )
        self._check_refusal(response)
        if response.status_code == _OK:
            return response
        found = _object(response)
        detail = response.text if found is None else found.get("detail")
        if response.status_code in (_BAD_REQUEST, 500) and isinstance(detail, dict):
            raise _failed(cast("dict[str, object]", detail))
        if response.status_code == _UNPROCESSABLE:
            raise SkyFailedError("ValidationError", f"the server does not accept the request: {str(detail)[:200]}")
        if response.status_code == _NOT_FOUND:
            raise SkyFailedError("NotFound", str(detail))
        what = plain(detail)[:200] if isinstance(detail, str) else ""
        raise ProviderUnavailableError(f"The SkyPilot server answered {response.status_code} {what}".rstrip())

    def download(self, path: str, params: Mapping[str, str], most: int) -> bytes:
        """Return the first bytes of an answer, `most` and a piece at the longest; none when it is not a 200."""

        def read(limit: httpx.Timeout) -> bytes:
            text = bytearray()
            with self._http.stream("GET", path, params=params, timeout=limit) as response:
                if response.status_code == _OK:
                    for piece in response.iter_bytes():
                        text += piece
                        if len(text) > most:
                            break
            return bytes(text)

        with self._errors():
            return self._within(ANSWER_SECONDS, read)

    def _within(self, seconds: float, call: Callable[[httpx.Timeout], T]) -> T:
        """Make a call that ends after `seconds` whatever the server does; it keeps its place until it is really over.

        Raises:
            httpx.TimeoutException: It takes longer, or than what is left of `time_limit`.
        """
        left = min(seconds, time_left())
        end = time.monotonic() + left
        if left <= 0 or not self._places.acquire(timeout=left):
            raise httpx.PoolTimeout("no time is left for the call")
        left = max(0.0, end - time.monotonic())
        limit = httpx.Timeout(max(left, 0.001), connect=max(min(left, _CONNECT_SECONDS), 0.001))

        def work() -> T:
            try:
                return call(limit)
            finally:
                self._places.release()

        try:
            return within(left, work)
        except NoTimeLeftError as error:
            self._places.release()
            raise httpx.PoolTimeout("no time is left for the call") from error
        except TimeoutError as error:
            raise httpx.ReadTimeout("the answer took too long") from error

    @contextlib.contextmanager
    def _errors(self) -> Generator[None]:
        try:
            yield
        except httpx.TimeoutException as error:
            raise ProviderUnavailableError(f"The SkyPilot server at {self.endpoint} did not answer in time") from error
        except httpx.HTTPError as error:
            raise ProviderUnavailableError(
                f"Cannot reach the SkyPilot server at {self.endpoint}: {type(error).__name__}"
            ) from error

    def _check_refusal(self, response: httpx.Response) -> None:
        if response.status_code in (401, 403):
            raise SkyRefusalError(
                f"The SkyPilot server refuses us ({response.status_code}): check SKYPILOT_SERVICE_ACCOUNT_TOKEN and "
                "the rights of its account"
            )
        if response.status_code == _BAD_REQUEST and (_object(response) or {}).get("error") == "version_mismatch":
            raise SkyRefusalError(
                f"The SkyPilot server's version does not work with {_sky_version()}: upgrade the older of the two"
            )


def request_id_of(response: httpx.Response) -> str:
    """The id of the request that a call started. Raises ProviderUnavailableError."""
    request_id = response.headers.get("X-Skypilot-Request-ID")
    if not request_id:
        raise ProviderUnavailableError("The SkyPilot server accepted a request and gave no id for it")
    return request_id


def object_of(response: httpx.Response) -> dict[str, object]:
    """The JSON object in an answer. Raises ProviderUnavailableError."""
    found = _object(response)
    if found is None:
        raise ProviderUnavailableError("The SkyPilot server gave an answer that cannot be read")
    return found


def parse(adapter: TypeAdapter[T], value: object) -> T:
    """Read what a request returned. Raises ProviderUnavailableError."""
    try:
        return adapter.validate_python(value)
    except ValidationError as error:
        raise ProviderUnavailableError("The SkyPilot server gave a result that cannot be read") from error


def _object(response: httpx.Response) -> dict[str, object] | None:
    try:
        body = response.json()
    except ValueError:
        return None
    return cast("dict[str, object]", body) if isinstance(body, dict) else None


def _failed(detail: dict[str, object]) -> SkyFailedError:
    """What was raised, from `{type, message}` or a whole request with an `error`; pickled parts are never opened."""
    error: object = detail
    if "error" in detail:
        try:
            error = json.loads(str(detail["error"]))
        except ValueError:
            error = None
    if not isinstance(error, dict):
        return SkyFailedError("Unknown", plain(str(detail.get("status_msg") or "SkyPilot gave no reason")))
    known = cast("dict[str, object]", error)
    return SkyFailedError(str(known.get("type", "Unknown")), plain(str(known.get("message", ""))))
