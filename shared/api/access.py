"""Who may call what."""

from gpulaunch.operations import Scope
from shared.api.http import Request
from shared.api.problems import ProblemError
from shared.auth import scope_of
from shared.settings import Settings


def check_access(scope: Scope, request: Request, settings: Settings) -> None:
    """Refuse callers without the right. Nodes prove themselves in their own handlers.

    Raises:
        ProblemError: 401 without a known token, 403 for a token that may not do this.
    """
    if scope in (Scope.OPEN, Scope.NODE):
        return
    if not settings.admin_tokens and not settings.read_tokens:
        if settings.development:
            return
        message = "No token is configured, so every call is refused; set GPULAUNCH_ADMIN_TOKENS."
        raise ProblemError("unauthorized", message)
    token = request.header("X-Admin-Token")
    if not token:
        raise ProblemError("unauthorized", "Send a token in the header X-Admin-Token.")
    granted = scope_of(token, settings.admin_tokens, settings.read_tokens)
    if granted is None:
        raise ProblemError("unauthorized", "The token in X-Admin-Token is not known.")
    if scope is Scope.ADMIN and granted is not Scope.ADMIN:
        raise ProblemError("forbidden", "This token may only read; use one of GPULAUNCH_ADMIN_TOKENS.")
