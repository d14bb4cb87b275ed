"""Problems of the HTTP interface (RFC 9457): each has a status, a stable code and a sentence that says what to do."""

import logging
from collections.abc import Sequence

from gpulaunch.errors import GpulaunchError
from gpulaunch.models.problems import FieldError, LimitReached, Problem
from shared.domain.errors import (
    AdmissionRefusedError,
    AttemptOverError,
    BackendUnavailableError,
    InstanceNotFoundError,
    InvalidFieldsError,
    KeyReusedError,
    NodeTokenError,
    NotReadyError,
    QuotaExceededError,
    Refusal,
    RefusalError,
)
from shared.domain.provider import LaunchRefusedError, ProviderUnavailableError
from shared.errors import ForeignTokenError, SettingsError, StaleRecordError, StoreUnavailableError
from shared.storage.base import UnreadableRecordError

log = logging.getLogger("gpulaunch.http")


class ProblemError(GpulaunchError):
    """A request can't be served; carries what the answer says."""

    def __init__(
        self,
        status: int,
        code: str,
        title: str,
        detail: str,
        *,
        errors: Sequence[FieldError] = (),
        limit: LimitReached | None = None,
        retry_after: int = 0,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.title = title
        self.detail = detail
        self.errors = list(errors)
        self.limit = limit
        self.retry_after = retry_after
        """Seconds for the Retry-After header; 0: none."""

    def problem(self, request_id: str | None) -> Problem:
        """The answer's body."""
        return Problem(
            title=self.title,
            status=self.status,
            detail=self.detail,
            code=self.code,
            errors=self.errors,
            limit=self.limit,
            request_id=request_id,
        )


def invalid_request(errors: Sequence[FieldError]) -> ProblemError:
    """422: fields are wrong; one entry each."""
    detail = "; ".join(f"{error.field}: {error.message}" for error in errors[:5])
    return ProblemError(422, "invalid_request", "The request has invalid fields", detail, errors=errors)


def malformed(detail: str) -> ProblemError:
    """400: the request can't be read at all."""
    return ProblemError(400, "malformed_request", "The request can't be read", detail)


def unauthorized(detail: str) -> ProblemError:
    """401: no token, or none that is known."""
    return ProblemError(401, "unauthorized", "A token is needed", detail)


def forbidden(detail: str) -> ProblemError:
    """403: the token does not allow this."""
    return ProblemError(403, "forbidden", "The token does not allow this", detail)


def not_found(what: str) -> ProblemError:
    """404: there is no such thing."""
    return ProblemError(404, "not_found", "Not found", f"There is no {what}.")


def conflict(code: str, detail: str) -> ProblemError:
    """409: the request does not go with what is there."""
    return ProblemError(409, code, "Conflict", detail)


def gone(detail: str) -> ProblemError:
    """410: it was there once."""
    return ProblemError(410, "gone", "Gone", detail)


def too_large(limit: int) -> ProblemError:
    """413: the body is larger than any honest one."""
    return ProblemError(413, "body_too_large", "Body too large", f"A body has at most {limit} bytes.")


def unavailable(code: str, detail: str, retry_after: int = 5) -> ProblemError:
    """503: something this needs does not answer, or is not set up."""
    return ProblemError(503, code, "Not available now", detail, retry_after=retry_after)


_REFUSALS = {
    "budget_exceeded": (402, "The budget has no room for this launch"),
    "limit_reached": (403, "A limit has no room for this launch"),
    "not_allowed": (403, "This deployment does not allow this launch"),
    "too_many_launches": (429, "Too many launches in a minute"),
}


def problem_of(error: Exception, where: str, request_id: str) -> ProblemError:
    """The problem that an error is to the caller; what callers must not see is logged under the request's id.

    `where` is the method and the address, for the log.
    """
    match error:
        case ProblemError():
            return error
        case RefusalError():
            return _of_refusal(error)
        case StaleRecordError():
            return conflict("busy", "The instance kept changing; ask again in a second.")
        case ForeignTokenError():
            message = "This is not a `next_token` of this interface; leave it out to begin with the first page."
            return invalid_request([FieldError(field="continuation_token", message=message)])
        case LaunchRefusedError():
            return ProblemError(422, error.failure.reason.value, "Refused", error.failure.message)
        case UnreadableRecordError():
            log.error("%s: %s", where, error, extra={"request_id": request_id})
            detail = f"{error}. Its node is kept; DELETE terminates it."
            return ProblemError(500, "unreadable_record", "The stored record cannot be read", detail)
        case SettingsError():
            # Names of settings and what is wrong with them, never a value: operators see it wherever they look first.
            log.error("the app is not set up: %s", error)
            return unavailable("misconfigured", f"The app is not set up: {error}", 60)
        case StoreUnavailableError() | ProviderUnavailableError():
            log.warning("%s answered 503: %s", where, error, extra={"request_id": request_id})
            return unavailable("unavailable", "Storage or the provider does not answer; try again.")
        case _:
            log.error("%s failed; request %s", where, request_id, exc_info=error)
            detail = f"This is a fault of the control plane; its log has more under request {request_id}."
            return ProblemError(500, "internal_error", "Internal error", detail)


def _of_refusal(error: RefusalError) -> ProblemError:
    match error:
        case InvalidFieldsError():
            return invalid_request(error.errors)
        case AdmissionRefusedError():
            return _of_admission(error.refusal)
        case QuotaExceededError():
            return ProblemError(422, "quota_exceeded", "The cloud's quota does not allow this launch", str(error))
        case BackendUnavailableError():
            return unavailable(error.code, str(error), error.retry_after)
        case KeyReusedError():
            return conflict("idempotency_key_reused", str(error))
        case InstanceNotFoundError():
            return not_found(f"instance {error.instance_id}")
        case NotReadyError():
            return conflict("not_ready", str(error))
        case NodeTokenError():
            return unauthorized(str(error))
        case AttemptOverError():
            return gone(str(error))
        case _:
            raise AssertionError(f"a refusal without a status: {type(error).__name__}")


def _of_admission(refusal: Refusal) -> ProblemError:
    """402, 403 or 429, with the limit's name, its value and what is used of it."""
    status, title = _REFUSALS[refusal.code]
    value = list(refusal.value) if isinstance(refusal.value, tuple) else refusal.value
    limit = LimitReached(name=refusal.limit, value=value, used=refusal.used, asked=refusal.asked)
    return ProblemError(status, refusal.code, title, refusal.detail, limit=limit, retry_after=refusal.retry_after)
