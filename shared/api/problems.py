"""Problems of the HTTP interface (RFC 9457): each has a status, a stable code and a sentence that says what to do."""

from collections.abc import Sequence

from gpulaunch.errors import GpulaunchError
from gpulaunch.models.problems import FieldError, LimitReached, Problem


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
