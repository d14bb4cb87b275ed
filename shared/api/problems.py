"""Problems of the HTTP interface (RFC 9457): each has a status, a stable code and a sentence that says what to do."""

import logging
from collections.abc import Mapping, Sequence

from gpulaunch.errors import GpulaunchError
from gpulaunch.models.problems import FieldError, LimitReached, Problem
from shared.domain.errors import (
    AdmissionRefusedError,
    AmbiguousNameError,
    AttemptOverError,
    BackendUnavailableError,
    EndpointChangedError,
    EndpointDeletingError,
    EndpointExistsError,
    EndpointNotFoundError,
    InstanceChangedError,
    InstanceNotFoundError,
    InvalidFieldsError,
    KeyExistsError,
    KeyReusedError,
    NodeTokenError,
    NotReadyError,
    PlanChangedError,
    QuotaExceededError,
    RecordFullError,
    Refusal,
    TooManyFailuresError,
    UnrecordedNodeError,
)
from shared.domain.provider import LaunchRefusedError, ProviderUnavailableError
from shared.errors import ForeignTokenError, SettingsError, StaleRecordError, StoreUnavailableError, UnreadableRowError
from shared.storage.base import UnreadableRecordError

log = logging.getLogger("gpulaunch.http")

_CODES: Mapping[str, tuple[int, str]] = {
    "malformed_request": (400, "The request can't be read"),
    "unauthorized": (401, "A token is needed"),
    "budget_exceeded": (402, "The budget has no room for this launch"),
    "forbidden": (403, "The token does not allow this"),
    "limit_reached": (403, "A limit has no room for this launch"),
    "not_allowed": (403, "This deployment does not allow this launch"),
    "not_found": (404, "Not found"),
    "ambiguous_name": (409, "Conflict"),
    "busy": (409, "Conflict"),
    "endpoint_deleting": (409, "Conflict"),
    "endpoint_exists": (409, "Conflict"),
    "key_exists": (409, "Conflict"),
    "idempotency_key_reused": (409, "Conflict"),
    "not_ready": (409, "Conflict"),
    "gone": (410, "Gone"),
    "endpoint_changed": (412, "The endpoint has changed"),
    "instance_changed": (412, "The instance has changed"),
    "no_condition": (412, "This call takes no condition"),
    "plan_changed": (412, "The plan has changed"),
    "body_too_large": (413, "Body too large"),
    "record_full": (413, "The record is full"),
    "unsupported_type": (415, "The body has to be JSON"),
    "invalid_request": (422, "The request has invalid fields"),
    "quota_exceeded": (422, "The cloud's quota does not allow this launch"),
    "too_many_failures": (429, "Too many failed attempts"),
    "too_many_launches": (429, "Too many launches in a minute"),
    "internal_error": (500, "Internal error"),
    "unreadable_record": (500, "The stored record cannot be read"),
    "misconfigured": (503, "Not available now"),
    "provider_not_enabled": (503, "Not available now"),
    "skypilot_unavailable": (503, "Not available now"),
    "unavailable": (503, "Not available now"),
}
"""Status and title by code."""
_REASON = (422, "Refused")
"""For a code that is the Reason of a refused launch."""
_PLAIN: Mapping[type[Exception], str] = {
    QuotaExceededError: "quota_exceeded",
    PlanChangedError: "plan_changed",
    InstanceChangedError: "instance_changed",
    KeyReusedError: "idempotency_key_reused",
    InstanceNotFoundError: "not_found",
    AmbiguousNameError: "ambiguous_name",
    EndpointNotFoundError: "not_found",
    EndpointChangedError: "endpoint_changed",
    EndpointExistsError: "endpoint_exists",
    EndpointDeletingError: "endpoint_deleting",
    KeyExistsError: "key_exists",
    NotReadyError: "not_ready",
    NodeTokenError: "unauthorized",
    UnrecordedNodeError: "unauthorized",
    AttemptOverError: "gone",
    RecordFullError: "record_full",
}
"""Codes of errors whose text is all that the caller needs."""


class ProblemError(GpulaunchError):
    """A request can't be served; carries the answer."""

    def __init__(
        self,
        code: str,
        detail: str,
        *,
        errors: Sequence[FieldError] = (),
        limit: LimitReached | None = None,
        retry_after: int = 0,
    ) -> None:
        super().__init__(detail)
        status, title = _CODES.get(code, _REASON)
        self.problem = Problem(title=title, status=status, detail=detail, code=code, errors=list(errors), limit=limit)
        self.retry_after = retry_after
        """Seconds for the Retry-After header; 0: none."""


def invalid_request(errors: Sequence[FieldError]) -> ProblemError:
    """422: fields are wrong; one entry each."""
    detail = "; ".join(f"{error.field}: {error.message}" for error in errors[:5])
    return ProblemError("invalid_request", detail, errors=errors)


def problem_of(error: Exception, where: str, request_id: str) -> ProblemError:
    """The problem that an error is to the caller; what callers must not see is logged under the request's id.

    `where` is the method and the address, for the log.
    """
    match error:
        case ProblemError():
            return error
        case InvalidFieldsError():
            return invalid_request(error.errors)
        case AdmissionRefusedError():
            return _of_admission(error.refusal)
        case BackendUnavailableError() | TooManyFailuresError():
            return ProblemError(error.code, str(error), retry_after=error.retry_after)
        case StaleRecordError():
            return ProblemError("busy", "The record kept changing; ask again in a second.")
        case ForeignTokenError():
            message = "This is not a `next_token` of this interface; leave it out to begin with the first page."
            return invalid_request([FieldError(field="continuation_token", message=message)])
        case LaunchRefusedError():
            return ProblemError(error.failure.reason.value, error.failure.message)
        case UnreadableRowError():
            log.error("%s: %s; request %s", where, error, request_id, extra={"request_id": request_id})
            kept = ". Its node is kept; DELETE terminates it." if isinstance(error, UnreadableRecordError) else ""
            return ProblemError("unreadable_record", f"{error}{kept}")
        case SettingsError():
            # Names of settings and what is wrong with them, never a value: operators see it wherever they look first.
            log.error("%s: the app is not set up: %s; request %s", where, error, request_id)
            return ProblemError("misconfigured", f"The app is not set up: {error}", retry_after=60)
        case StoreUnavailableError() | ProviderUnavailableError():
            extra = {"request_id": request_id}
            log.warning("%s answered 503: %s; request %s", where, error, request_id, extra=extra)
            detail = "Storage or the provider does not answer; try again."
            return ProblemError("unavailable", detail, retry_after=5)
        case _ if type(error) in _PLAIN:
            return ProblemError(_PLAIN[type(error)], str(error))
        case _:
            log.error("%s failed; request %s", where, request_id, exc_info=error)
            detail = f"This is a fault of the control plane; its log has more under request {request_id}."
            return ProblemError("internal_error", detail)


def _of_admission(refusal: Refusal) -> ProblemError:
    """402, 403 or 429, with the limit's name, its value and what is used of it."""
    value = list(refusal.value) if isinstance(refusal.value, tuple) else refusal.value
    limit = LimitReached(name=refusal.limit, value=value, used=refusal.used, asked=refusal.asked)
    return ProblemError(refusal.code, refusal.detail, limit=limit, retry_after=refusal.retry_after)
