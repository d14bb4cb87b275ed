"""The client's errors: ClientError is the base of all, ApiError of those that the app answered with."""

from typing import Literal

import httpx
from pydantic import ValidationError

from gpulaunch.errors import GpulaunchError
from gpulaunch.models.problems import PROBLEM_TYPE, Problem
from gpulaunch.models.responses import InstanceView


class ClientError(GpulaunchError):
    """Base of the client's errors."""

    code = "error"
    """A stable code, for programs; the app's own if it answered with one."""


class AddressError(ClientError):
    """The address or the token is invalid."""

    code = "address"


class NoAnswerError(ClientError):
    """No connection, or no answer in time; the request may or may not have taken effect."""

    code = "no_answer"


class ConnectionSetupError(NoAnswerError):
    """TLS or a proxy stands in the way; another try fails alike."""

    def __init__(self, code: Literal["tls", "proxy"], message: str) -> None:
        super().__init__(message)
        self.code = code


class UnreadableAnswerError(ClientError):
    """The answer is not gpulaunch's: another program listens there, or a proxy answered."""


class ApiError(ClientError):
    """The app refused the request."""

    def __init__(self, problem: Problem, retry_after: float | None) -> None:
        super().__init__(problem.detail)
        self.problem = problem
        self.status, self.code, self.errors = problem.status, problem.code, problem.errors
        self.retry_after = retry_after
        """Seconds after which the app asks for another try; None if it does not say."""


class InvalidRequestError(ApiError):
    """400, 413, 422: the request is invalid; `errors` has one entry per invalid field."""


class AccessError(ApiError):
    """401, 403: the token is missing, unknown or read-only."""


class LimitError(ApiError):
    """402, 403: a budget or a limit of the deployment does not allow this launch; `problem.limit` names it."""


class NotFoundError(ApiError):
    """404, 410: it does not exist, or no longer."""


class ConflictError(ApiError):
    """409, 412: the request conflicts with the current state, or with the plan that it names."""


class UnavailableError(ApiError):
    """429, 502, 503, 504, and a 500 that the app did not write: try again later."""


class ServerError(ApiError):
    """Any other status: a fault of the app."""


class EndedError(ClientError):
    """The awaited instance is terminating or has ended; `instance` says why, attempt by attempt."""

    code = "instance_ended"

    def __init__(self, instance: InstanceView) -> None:
        why = f": {instance.ending.message} ({instance.ending.reason.value})" if instance.ending else ""
        super().__init__(f"{instance.instance_id} is {instance.phase.value}{why}")
        self.instance = instance


class WaitTimeoutError(ClientError):
    """The time of a wait is over; the instance goes on."""

    code = "timeout"

    def __init__(self, instance: InstanceView, seconds: float) -> None:
        super().__init__(f"{instance.instance_id} is still {instance.phase.value} after {seconds:g} s")
        self.instance = instance


_KINDS: dict[int, type[ApiError]] = {
    status: kind
    for kind, statuses in (
        (InvalidRequestError, (400, 413, 422)),
        (AccessError, (401, 403)),
        (LimitError, (402,)),
        (NotFoundError, (404, 410)),
        (ConflictError, (409, 412)),
        (UnavailableError, (429, 502, 503, 504)),
    )
    for status in statuses
}


def is_problem(response: httpx.Response) -> bool:
    """Whether the app refused, whatever the status."""
    return response.headers.get("Content-Type", "").startswith(PROBLEM_TYPE)


def error_of(response: httpx.Response) -> ClientError:
    """The error that a response stands for. A proxy's 429, 502, 503 or 504 has no problem in it; one is made up.

    So it is for a bare 500: the Functions host answers so while a worker that has died is replaced.
    """
    after = response.headers.get("Retry-After", "")
    retry_after = float(after) if after.isascii() and after.isdigit() else None
    kind = _KINDS.get(response.status_code, ServerError)
    if response.status_code == 500 and not is_problem(response):
        kind = UnavailableError
    if is_problem(response):
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
        f"{response.url} answered {response.status_code}{moved}, but not as gpulaunch does. Is the address right?"
    )
