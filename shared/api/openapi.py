"""The OpenAPI 3.1 document, generated from the operations and models."""

from functools import lru_cache
from types import ModuleType
from typing import Any, Final

from pydantic import TypeAdapter
from pydantic.json_schema import JsonSchemaMode

from gpulaunch.models import (
    decisions,
    endpoints,
    garbage,
    instances,
    model_view,
    offers,
    plans,
    problems,
    reports,
    requests,
    responses,
)
from gpulaunch.models.base import OpenEnum
from gpulaunch.operations import OPERATIONS
from gpulaunch.version import VERSION
from shared.api.descriptions import add_descriptions
from shared.api.openapi_paths import HEADERS, SCHEMES, PathItems
from shared.api.schemas import Schema, Shaper, name_of, reachable
from shared.domain import messages, node
from shared.webhooks import alert

_TAGS: Final = {
    "Control plane": "For people and programs, with an admin token or a read-only token.",
    "Nodes": "For the agent on a node, with the node's own token.",
    "Webhooks": "Sent by gpulaunch.",
}
_SIGNATURE: Final = {
    "type": "apiKey",
    "in": "header",
    "name": "webhook-signature",
    "description": "Made with GPULAUNCH_WEBHOOK_SECRET, according to Standard Webhooks.",
}
_MODULES: Final = (
    requests,
    responses,
    reports,
    plans,
    endpoints,
    decisions,
    garbage,
    problems,
    offers,
    model_view,
    messages,
    node,
    alert,
)
_GROWING: Final = {
    name: [member.value for member in kind]
    for name, kind in vars(instances).items()
    if isinstance(kind, type) and issubclass(kind, OpenEnum) and kind is not OpenEnum
}
_SPARSE: Final = ("Problem", "LimitReached")
"""Their fields without a value are left out; see `problem_response`."""


@lru_cache(maxsize=1)
def document() -> dict[str, Any]:
    used = {name for one in OPERATIONS for name in (one.body, *one.answers.values()) if name} | {"Problem", "Alert"}
    schemas = _schemas(sorted(used))
    items = PathItems({name: {"$ref": f"#/components/schemas/{name}"} for name in used})
    paths: dict[str, dict[str, Any]] = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method.lower()] = items.of(operation)
    schemes = {name: scheme for schemes in SCHEMES.values() for name, scheme in schemes.items()}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "gpulaunch",
            "version": VERSION,
            "summary": "Serverless control plane for GPU nodes that serve models with vLLM",
            "license": {"name": "Apache 2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/", "description": "Where this document comes from."}],
        "tags": [{"name": name, "description": text} for name, text in _TAGS.items()],
        "paths": paths,
        "webhooks": {"alert": {"post": _alert(items)}},
        "components": {
            "schemas": schemas,
            "headers": HEADERS,
            "responses": items.refused,
            "securitySchemes": schemes | {"webhookSignature": _SIGNATURE},
        },
    }


def _schemas(used: list[str]) -> dict[str, Schema]:
    """The schemas of these models, and of those that they lead to, by name."""
    bodies = {one.body for one in OPERATIONS if one.body}
    adapters: list[tuple[str, JsonSchemaMode, TypeAdapter[Any]]] = [
        (name, "validation" if name in bodies else "serialization", TypeAdapter(_named(name, _MODULES)))
        for name in used
    ]
    found, definitions = TypeAdapter.json_schemas(adapters, ref_template="#/components/schemas/{model}")
    raw: dict[str, Schema] = definitions["$defs"]
    add_descriptions(raw, _MODULES)
    unions = {
        str(name): [name_of(one["$ref"]) for one in schema["anyOf"]]
        for (name, _), schema in found.items()
        if "anyOf" in schema
    }
    shaped = Shaper(raw, growing=_GROWING, sparse=_SPARSE).shaped(bodies, used, unions)
    return {name: shaped[name] for name in sorted(reachable(shaped, used))}


def _named(name: str, modules: tuple[ModuleType, ...]) -> Any:
    """The model, or the union of models, of that name."""
    return next(getattr(module, name) for module in modules if hasattr(module, name))


def _alert(items: PathItems) -> dict[str, Any]:
    return {
        "operationId": "alert",
        "tags": ["Webhooks"],
        "summary": "An event selected by GPULAUNCH_WEBHOOK_EVENTS, signed according to Standard Webhooks",
        "parameters": [
            {"name": name, "in": "header", "required": True, "description": text, "schema": {"type": "string"}}
            for name, text in (
                ("webhook-id", "The same whenever the same alert is sent."),
                ("webhook-timestamp", "When it is sent, in seconds since 1970."),
            )
        ],
        "requestBody": {"required": True, "content": {"application/json": items.media("Alert")}},
        "responses": {"2XX": {"description": "Received"}, "4XX": {"description": "Refused; it is sent again"}},
        "security": [{"webhookSignature": []}],
    }
