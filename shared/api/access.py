"""Who may call what."""

from gpulaunch.operations import Access
from shared.api.http import Request
from shared.api.problems import forbidden, unauthorized
from shared.auth import Role, role_of
from shared.settings import Settings


def check_access(access: Access, request: Request, settings: Settings) -> None:
    """Refuse callers without the right. Nodes prove themselves in their own handlers.

    Raises:
        ProblemError: 401 without a known token, 403 for a token that may not do this.
    """
    if access in ("open", "node"):
        return
    if not settings.admin_tokens and not settings.read_tokens:
        if settings.development:
            return
        raise unauthorized("No token is configured, so every call is refused; set GPULAUNCH_ADMIN_TOKENS.")
    token = request.header("X-Admin-Token")
    if not token:
        raise unauthorized("Send a token in the header X-Admin-Token.")
    role = role_of(token, settings.admin_tokens, settings.read_tokens)
    if role is None:
        raise unauthorized("The token in X-Admin-Token is not known.")
    if access == "admin" and role is not Role.ADMIN:
        raise forbidden("This token may only read; use one of GPULAUNCH_ADMIN_TOKENS.")
