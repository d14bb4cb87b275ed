"""What operators and tools ask: catalog, settings, health, the OpenAPI document."""

import json

import azure.functions as func

from functions.http import operation, reply
from shared.api import operations

bp = func.Blueprint()


@operation(bp, operations.CATALOG)
def show_catalog(req: func.HttpRequest) -> func.HttpResponse:
    """What can be launched on a provider."""
    from shared.engine.listing import catalog_answer
    from shared.runtime import runtime

    return reply(catalog_answer(runtime(), dict(req.params)))


@operation(bp, operations.QUOTA)
def show_quota(req: func.HttpRequest) -> func.HttpResponse:
    """The quota on Azure."""
    from shared.engine.listing import quota_regions
    from shared.engine.quotas import quota_answer
    from shared.runtime import runtime

    parts = runtime()
    return reply(quota_answer(parts, quota_regions(parts, dict(req.params))))


@operation(bp, operations.CONFIG)
def show_config(req: func.HttpRequest) -> func.HttpResponse:  # noqa: ARG001 - the host binds it by name
    """The settings that matter to users."""
    from shared.engine.listing import config_answer
    from shared.runtime import runtime

    return reply(config_answer(runtime()))


@operation(bp, operations.HEALTH)
def show_health(req: func.HttpRequest) -> func.HttpResponse:  # noqa: ARG001
    """Whether the control plane works: 200, or 503 when storage does not answer."""
    from shared.engine.listing import health_answer
    from shared.runtime import runtime

    answer = health_answer(runtime())
    return reply(answer, 200 if answer.status == "ok" else 503)


@operation(bp, operations.OPENAPI)
def show_openapi(req: func.HttpRequest) -> func.HttpResponse:  # noqa: ARG001
    """The OpenAPI document of all this."""
    from shared.api.openapi import document

    return func.HttpResponse(json.dumps(document()), mimetype="application/json")
