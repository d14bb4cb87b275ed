"""What operators and tools ask: catalog, settings, health, the OpenAPI document."""

import json

import azure.functions as func

from functions.http import operation, reply
from gpulaunch import operations

bp = func.Blueprint()


@operation(bp, operations.CATALOG)
def show_catalog(req: func.HttpRequest) -> func.HttpResponse:
    """What can be launched on a provider."""
    from shared.app import runtime
    from shared.control.queries import catalog_answer

    return reply(catalog_answer(runtime(), dict(req.params)))


@operation(bp, operations.QUOTA)
def show_quota(req: func.HttpRequest) -> func.HttpResponse:
    """The quota on Azure."""
    from shared.app import runtime
    from shared.control.queries import quota_regions
    from shared.control.quota_check import quota_answer

    parts = runtime()
    return reply(quota_answer(parts, quota_regions(parts, dict(req.params))))


@operation(bp, operations.CONFIG)
def show_config(req: func.HttpRequest) -> func.HttpResponse:  # noqa: ARG001 - the host binds it by name
    """The settings that matter to users."""
    from shared.app import runtime
    from shared.control.queries import config_answer

    return reply(config_answer(runtime()))


@operation(bp, operations.HEALTH)
def show_health(req: func.HttpRequest) -> func.HttpResponse:  # noqa: ARG001
    """Whether the control plane works: 200, or 503 when storage does not answer."""
    from shared.app import runtime
    from shared.control.queries import health_answer

    answer = health_answer(runtime())
    return reply(answer, 200 if answer.status == "ok" else 503)


@operation(bp, operations.OPENAPI)
def show_openapi(req: func.HttpRequest) -> func.HttpResponse:  # noqa: ARG001
    """The OpenAPI document of all this."""
    from shared.api.openapi import document

    return func.HttpResponse(json.dumps(document()), mimetype="application/json")
