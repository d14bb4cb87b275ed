"""The OpenAPI 3.1 document, generated from the operations and models."""

from functools import lru_cache
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from gpulaunch.models import offers, problems, requests, responses
from gpulaunch.models.instances import INSTANCE_ID
from gpulaunch.models.problems import PROBLEM_TYPE, Problem
from gpulaunch.operations import OPERATIONS, Operation
from gpulaunch.version import VERSION
from shared.api.descriptions import add_descriptions
from shared.domain import node
from shared.webhooks import alert

_SCHEMES = {"read": "readToken", "admin": "adminToken", "node": "nodeToken"}
_TAGS = {
    "Control plane": "For people and programs, with an admin token or a read-only token.",
    "Nodes": "For the agent on a node, with the node's own token.",
    "Webhooks": "Sent by gpulaunch.",
}
_TITLES = {
    200: "OK",
    202: "Accepted",
    304: "Not modified",
    400: "Malformed request",
    401: "Missing or unknown token",
    402: "Over budget",
    403: "Forbidden by the token's role or a limit",
    404: "Not found",
    409: "Conflict",
    410: "The attempt has ended",
    413: "Body too large",
    422: "Invalid fields",
    429: "Too many launches per minute",
    500: "Internal error",
    503: "Temporarily unavailable",
}


def _model(name: str) -> type[BaseModel]:
    for module in (requests, responses, node):
        found: object = getattr(module, name, None)
        if isinstance(found, type) and issubclass(found, BaseModel):
            return found
    raise LookupError(f"no model is called {name}")


def _models() -> list[type[BaseModel]]:
    names: dict[str, None] = {}
    for operation in OPERATIONS:
        for name in (operation.body, *operation.answers.values()):
            if name is not None:
                names[name] = None
    return [*(_model(name) for name in names), Problem, alert.Alert]


@lru_cache(maxsize=1)
def document() -> dict[str, Any]:
    """The whole document."""
    bodies = {operation.body for operation in OPERATIONS}
    _, schemas = models_json_schema(
        [(model, "validation" if model.__name__ in bodies else "serialization") for model in _models()],
        ref_template="#/components/schemas/{model}",
    )
    add_descriptions(schemas["$defs"], (offers, problems, requests, responses, node, alert))
    paths: dict[str, dict[str, Any]] = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation)
    token = {"type": "apiKey", "in": "header", "name": "X-Admin-Token"}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "gpulaunch",
            "version": VERSION,
            "summary": "Serverless control plane for GPU nodes that serve models with vLLM",
        },
        "tags": [{"name": name, "description": text} for name, text in _TAGS.items()],
        "paths": paths,
        "webhooks": {"alert": {"post": _alert()}},
        "components": {
            "schemas": schemas["$defs"],
            "securitySchemes": {
                "adminToken": {**token, "description": "A token of GPULAUNCH_ADMIN_TOKENS."},
                "readToken": {**token, "description": "A token of GPULAUNCH_READ_TOKENS or GPULAUNCH_ADMIN_TOKENS."},
                "nodeToken": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "A node's token, valid for its attempt only.",
                },
            },
        },
    }


def _alert() -> dict[str, Any]:
    signed = ("webhook-id", "webhook-timestamp", "webhook-signature")
    return {
        "operationId": "alert",
        "tags": ["Webhooks"],
        "summary": "An event selected by GPULAUNCH_WEBHOOK_EVENTS, signed according to Standard Webhooks",
        "parameters": [
            {"name": name, "in": "header", "required": True, "schema": {"type": "string"}} for name in signed
        ],
        "requestBody": {"required": True, "content": {"application/json": {"schema": _reference("Alert")}}},
        "responses": {"2XX": {"description": "Accepted"}},
    }


def _reference(name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{name}"}


def _operation(operation: Operation) -> dict[str, Any]:
    parameters: list[dict[str, Any]] = []
    if "{instanceId}" in operation.path:
        schema = {"type": "string", "pattern": INSTANCE_ID}
        parameters.append({"name": "instanceId", "in": "path", "required": True, "schema": schema})
    parameters += [
        {"name": p.name, "in": p.where, "required": False, "description": p.description, "schema": dict(p.schema)}
        for p in operation.parameters
    ]
    answers: dict[str, Any] = {}
    for status, name in operation.answers.items():
        answers[str(status)] = _answer(operation, status, name)
    guarded = () if operation.access == "open" else (401,) if operation.access in ("read", "node") else (401, 403)
    for status in sorted({*operation.problems, *guarded, 500, 503} - set(operation.answers)):
        content = {PROBLEM_TYPE: {"schema": _reference("Problem")}}
        answers[str(status)] = {"description": _TITLES[status], "content": content}
    made: dict[str, Any] = {
        "operationId": operation.name,
        "tags": ["Nodes" if operation.access == "node" else "Control plane"],
        "summary": operation.summary,
        "responses": answers,
        "security": [{_SCHEMES[operation.access]: []}] if operation.access in _SCHEMES else [],
    }
    if parameters:
        made["parameters"] = parameters
    if operation.body is not None:
        content = {"application/json": {"schema": _reference(operation.body)}}
        made["requestBody"] = {"required": True, "content": content}
    return made


def _answer(operation: Operation, status: int, name: str | None) -> dict[str, Any]:
    answer: dict[str, Any] = {"description": _TITLES[status]}
    if name is not None:
        answer["content"] = {"application/json": {"schema": _reference(name)}}
    elif status == 200:
        answer["content"] = {"application/json": {"schema": {"type": "object"}}}
    headers: dict[str, Any] = {}
    text = {"schema": {"type": "string"}}
    if status == 200 and operation.text is not None:
        answer["content"][operation.text] = text
    if status == 202:
        headers["Location"] = text
    if 304 in operation.answers and status in (200, 304):
        headers["ETag"] = text
    if headers:
        answer["headers"] = headers
    return answer
