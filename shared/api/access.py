"""Who may call what, and a line of the log for each that changed something."""

import logging
import re
from urllib.parse import urlsplit

from gpulaunch.models.problems import FieldError
from gpulaunch.operations import ROLL_OUT_ENDPOINT, Operation, Scope
from shared.api.http import Request, Response
from shared.api.problems import ProblemError, invalid_request
from shared.app import App
from shared.auth import scope_of
from shared.settings import Settings

log = logging.getLogger("gpulaunch.access")

_LOCAL_HOST = re.compile(r"(localhost|127\.0\.0\.1|\[::1\])(:[0-9]{1,5})?", re.IGNORECASE)
_JSON = re.compile(r"application/([a-z0-9.+-]+\+)?json\s*(;.*)?", re.IGNORECASE)


def check_access(scope: Scope, request: Request, app: App) -> None:
    """Refuse callers without the right. Nodes prove themselves in their own handlers.

    Raises:
        ProblemError: 401 without a known token, 403 for a token that may not do this, 415 for a body that is not JSON.
        TooManyFailuresError: The caller's address has sent too many wrong tokens.
    """
    check_type(request, required=app.settings.open_to_all)
    if scope in (Scope.OPEN, Scope.NODE):
        return
    if app.settings.open_to_all:
        check_local(request)
        return
    if not app.settings.has_tokens:
        message = "No token is configured, so every call is refused; set GPULAUNCH_ADMIN_TOKENS."
        raise ProblemError("unauthorized", message)
    token = token_of(request)
    app.failures.check(request.source)
    granted = _granted(token, app.settings)
    if granted is None:
        app.failures.failed(request.source, "a wrong token", request.id)
        raise ProblemError("unauthorized", "The token is not known.")
    if scope is Scope.ADMIN and granted is not Scope.ADMIN:
        raise ProblemError("forbidden", "This token may only read; use one of GPULAUNCH_ADMIN_TOKENS.")


def _granted(token: str, settings: Settings) -> Scope | None:
    own = settings.deploy_tokens
    # Where launches are simulated, a deployment tries one.
    launching = own if settings.orchestrator == "simulation" else ()
    return scope_of(token, (*settings.admin_tokens, *launching), (*settings.read_tokens, *own))


def token_of(request: Request) -> str:
    """The caller's token.

    Raises:
        ProblemError: 401 without one, and for two that differ: one of them may be a mistake, or smuggled in.
    """
    scheme, _, bearer = request.header("Authorization").partition(" ")
    given = {request.header("X-Admin-Token"), bearer.strip() if scheme.lower() == "bearer" else ""} - {""}
    if len(given) > 1:
        raise ProblemError("unauthorized", "X-Admin-Token and Authorization hold different tokens; send one of them.")
    if not given:
        raise ProblemError("unauthorized", "Send a token as `Authorization: Bearer …` or in the header X-Admin-Token.")
    return given.pop()


def check_local(request: Request) -> None:
    """Refuse what another site makes a developer's browser send to an app that asks for no token.

    A page of another site is known by `Sec-Fetch-Site` and `Origin`, and one whose name was pointed to this machine
    (DNS rebinding) by its Host.

    Raises:
        ProblemError: 403.
    """
    host, origin = request.header("Host"), request.header("Origin")
    foreign = (
        request.header("Sec-Fetch-Site").lower() not in ("", "same-origin", "none")
        or (host and not _LOCAL_HOST.fullmatch(host))
        or (origin and not _LOCAL_HOST.fullmatch(origin.partition("://")[2]))
        or (host and origin and origin.partition("://")[2].lower() != host.lower())
    )
    if foreign:
        message = "Without a token the app answers only this machine's own pages and programs; set one."
        raise ProblemError("forbidden", f"{message} The setting is GPULAUNCH_ADMIN_TOKENS.")


def check_type(request: Request, *, required: bool) -> None:
    """Refuse bodies that are not JSON: a form or plain text is what a page can send to any site without asking it.

    Raises:
        ProblemError: 415.
    """
    kind = request.header("Content-Type")
    if request.body and not _JSON.fullmatch(kind) and (kind or required):
        raise ProblemError("unsupported_type", "Send the body as `Content-Type: application/json`.")


def check_conditions(operation: Operation, request: Request) -> None:
    """Refuse what would make a caller believe that a call is conditional, or safe to repeat, where it is not.

    Raises:
        ProblemError: 412 for If-Match, 422 for a key.
    """
    if operation.method != "GET" and not operation.takes_if_match and request.header("If-Match") not in ("", "*"):
        raise ProblemError("no_condition", "This call takes no If-Match. Leave it out.")
    if operation is ROLL_OUT_ENDPOINT:
        for name in ("Idempotency-Key", "Repeatability-Request-ID"):
            if request.header(name):
                message = "This call takes no key. Send the endpoint's `revision` as If-Match to repeat it safely."
                raise invalid_request([FieldError(field=name, message=message)])


def log_change(scope: Scope, request: Request, response: Response) -> None:
    """Log what an admin's call or form did, with the request's id; Location names what it made."""
    if scope is Scope.ADMIN and request.method != "GET":
        where = urlsplit(response.headers.get("Location", "")).path
        log.info(
            "%s from %s answered %d%s; request %s",
            request.what,
            request.source,
            response.status,
            f" {where}" if where else "",
            request.id,
            extra={"event": "changed", "source": request.source, "request_id": request.id},
        )


def log_shown_key(request: Request, instance_id: str) -> None:
    """Log that someone was shown an endpoint's key."""
    log.info(
        "the key of %s was shown to %s; request %s",
        instance_id,
        request.source,
        request.id,
        extra={"event": "key_shown", "source": request.source, "request_id": request.id, "instance_id": instance_id},
    )
