"""What can go wrong for a client.

ClientError
├── AddressError             the address or token given can't be one
├── NoAnswerError            nobody answered: no connection, or no answer in time
├── UnreadableAnswerError    somebody answered, but not this program
├── ApiError                 the program said no; by status:
│   ├── InvalidRequestError  400, 413, 422; `errors` has one entry for each wrong field
│   ├── AccessError          401 no or an unknown token; 403 a token that may only read
│   ├── LimitError           402, and 403 where a limit, not the token, is in the way; `problem.limit` names it
│   ├── NotFoundError        404, 410
│   ├── ConflictError        409
│   ├── UnavailableError     429, 502, 503, 504
│   └── ServerError          any other
├── EndedError               an instance that was waited for ends or ended instead
└── WaitTimeoutError           an instance that was waited for is not there yet
"""

import httpx
from pydantic import ValidationError

from gpulaunch.errors import GpulaunchError
from gpulaunch.models.problems import PROBLEM_TYPE, FieldError, Problem
from gpulaunch.models.responses import InstanceView


class ClientError(GpulaunchError):
    """Base of every error that the client raises on purpose."""


class AddressError(ClientError):
    """An address or token that can't be one."""


class NoAnswerError(ClientError):
    """No connection, or no answer in time; what was asked for may or may not have happened."""


class UnreadableAnswerError(ClientError):
    """The answer is none of this program's: something else listens there, or stands between."""


class ApiError(ClientError):
    """The program said no."""

    def __init__(self, problem: Problem, retry_after: float | None) -> None:
        super().__init__(problem.detail)
        self.problem = problem
        self.retry_after = retry_after
        """Seconds after which the program asks to be asked again; None: it does not say."""

    @property
    def status(self) -> int:
        """The HTTP status."""
        return self.problem.status

    @property
    def code(self) -> str:
        """Stable and made for programs."""
        return self.problem.code

    @property
    def errors(self) -> list[FieldError]:
        """One entry for each wrong field, with the nearest valid values."""
        return self.problem.errors


class InvalidRequestError(ApiError):
    """400, 413, 422: the request is wrong."""


class AccessError(ApiError):
    """401, 403: the token is missing, unknown or may only read."""


class LimitError(ApiError):
    """402, 403: a budget or a limit of the deployment has no room for this launch."""


class NotFoundError(ApiError):
    """404, 410: there is no such thing, or no longer."""


class ConflictError(ApiError):
    """409: the request does not go with what is there."""


class UnavailableError(ApiError):
    """429, 502, 503, 504: not now."""


class ServerError(ApiError):
    """A fault of the program."""


class EndedError(ClientError):
    """An instance that was waited for ends or ended instead; `instance` says why, attempt by attempt."""

    def __init__(self, instance: InstanceView) -> None:
        why = f": {instance.ending.message} ({instance.ending.reason.value})" if instance.ending else ""
        super().__init__(f"{instance.instance_id} is {instance.phase.value}{why}")
        self.instance = instance


class WaitTimeoutError(ClientError):
    """An instance that was waited for is not there yet; it goes on without the waiting."""

    def __init__(self, instance: InstanceView, seconds: float) -> None:
        super().__init__(f"{instance.instance_id} is still {instance.phase.value} after {seconds:g} s")
        self.instance = instance


_KINDS: dict[int, type[ApiError]] = {
    400: InvalidRequestError,
    401: AccessError,
    402: LimitError,
    403: AccessError,
    404: NotFoundError,
    409: ConflictError,
    410: NotFoundError,
    413: InvalidRequestError,
    422: InvalidRequestError,
    429: UnavailableError,
    502: UnavailableError,
    503: UnavailableError,
    504: UnavailableError,
}


def error_of(response: httpx.Response) -> ClientError:
    """The error that an answer stands for. A gateway's 429, 502, 503 and 504 have no problem inside; one is made."""
    after = response.headers.get("Retry-After", "")
    retry_after = float(after) if after.isascii() and after.isdigit() else None
    kind = _KINDS.get(response.status_code, ServerError)
    if response.headers.get("Content-Type", "").startswith(PROBLEM_TYPE):
        try:
            problem = Problem.model_validate_json(response.content)
            if kind is AccessError and problem.limit is not None:
                kind = LimitError
            return kind(problem, retry_after)
        except ValidationError:
            pass
    if kind is UnavailableError:
        title = f"HTTP {response.status_code}"
        detail = f"{response.url.host} answered {response.status_code} {response.reason_phrase}."
        return kind(Problem(title=title, status=response.status_code, detail=detail, code="gateway"), retry_after)
    moved = f", which points to {response.headers['Location']}" if response.is_redirect else ""
    return UnreadableAnswerError(
        f"{response.url} answered {response.status_code}{moved}, but not as gpulaunch does; is the address right?"
    )
