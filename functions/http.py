"""HTTP bindings: every operation of the interface and every page; what answers is loaded by the first call."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, cast

import azure.functions as func

from functions.limits import ANSWER_SECONDS
from gpulaunch.deadlines import time_limit
from gpulaunch.operations import OPERATIONS, Operation
from shared.web.routes import PAGES, Page

if TYPE_CHECKING:
    from shared.api.http import Request, Response

bp = func.Blueprint()
_NONE = cast("func.Context", None)
"""No host called; the worker refuses a union in the parameter's type."""


def _operation(operation: Operation) -> Callable[..., func.HttpResponse]:
    def handler(req: func.HttpRequest, context: func.Context = _NONE) -> func.HttpResponse:
        from shared.api.dispatch import answer
        from shared.app import runtime

        with time_limit(ANSWER_SECONDS):
            return _sent(answer(operation, _received(req, context), runtime))

    return handler


def _page(page: Page) -> Callable[..., func.HttpResponse]:
    def handler(req: func.HttpRequest) -> func.HttpResponse:
        from shared.app import runtime
        from shared.web.dispatch import answer

        with time_limit(ANSWER_SECONDS):
            return _sent(answer(page, _received(req, _NONE), runtime))

    return handler


def _received(req: func.HttpRequest, context: func.Context) -> "Request":
    from shared.api.http import Request
    from shared.redaction import encodable

    headers = cast("Mapping[str, str]", req.headers)

    def clean(values: "Mapping[str, str]") -> dict[str, str]:
        return {encodable(name): encodable(value) for name, value in values.items()}

    # The worker hands the host's trace to no thread of a synchronous function; it stands here.
    trace = None if context is _NONE else context.trace_context.trace_parent
    return Request(
        # The host sends no body in answer to a HEAD.
        method="GET" if req.method == "HEAD" else req.method,
        url=encodable(req.url),
        headers={name.lower(): value for name, value in clean(headers).items()},
        query=clean(req.params),
        route=clean(req.route_params),
        body=req.get_body(),
        trace=trace or None,
    )


def _sent(response: "Response") -> func.HttpResponse:
    return func.HttpResponse(
        response.body,
        status_code=response.status,
        headers=response.headers,
        mimetype=response.media_type,
        charset=response.charset,
    )


def _bind(name: str, route: str, method: str, handler: Callable[..., func.HttpResponse]) -> None:
    handler.__name__ = name
    # Uptime monitors send HEAD, and the host answers it with 404 wherever a route does not list it.
    methods = ["GET", "HEAD"] if method == "GET" else [method]
    routed = bp.route(route=route, methods=methods, auth_level=func.AuthLevel.ANONYMOUS)(handler)
    bp.function_name(name)(routed)


for _one in OPERATIONS:
    _bind(_one.name, _one.route, _one.method, _operation(_one))
for _shown in PAGES:
    _bind(_shown.name, _shown.route, _shown.method, _page(_shown))
