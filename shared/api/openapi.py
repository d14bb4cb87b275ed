"""The OpenAPI 3.1 document, generated from the operations and models."""

from collections.abc import Iterator, Mapping
from functools import lru_cache
from types import ModuleType
from typing import Any

from pydantic import TypeAdapter

from gpulaunch.models import endpoints, garbage, offers, plans, problems, queries, requests, responses
from gpulaunch.models.instances import ID_END, INSTANCE_ID
from gpulaunch.models.problems import PROBLEM_TYPE
from gpulaunch.models.requests import NAME
from gpulaunch.operations import LAUNCH, OPERATIONS, Operation, Scope
from gpulaunch.version import VERSION
from shared.api.descriptions import add_descriptions
from shared.domain import node
from shared.webhooks import alert

_HEADER = {"type": "apiKey", "in": "header", "name": "X-Admin-Token"}
_BEARER = {"type": "http", "scheme": "bearer"}
_ADMIN = {"description": "A token of GPULAUNCH_ADMIN_TOKENS."}
_READ = {"description": "A token of GPULAUNCH_READ_TOKENS or GPULAUNCH_ADMIN_TOKENS."}
_SCHEMES = {
    Scope.ADMIN: {"adminToken": _HEADER | _ADMIN, "adminBearer": _BEARER | _ADMIN},
    Scope.READ: {"readToken": _HEADER | _READ, "readBearer": _BEARER | _READ},
    Scope.NODE: {"nodeToken": _BEARER | {"description": "A node's token, valid for its attempt only."}},
}
"""The ways to prove who calls, by the operation's scope; any of them is enough."""
_TAGS = {
    "Control plane": "For people and programs, with an admin token or a read-only token.",
    "Nodes": "For the agent on a node, with the node's own token.",
    "Webhooks": "Sent by gpulaunch.",
}
_TITLES = {
    200: "OK",
    201: "Created",
    202: "Accepted",
    304: "Not modified",
    400: "Malformed request",
    401: "Missing or unknown token",
    402: "Over budget",
    403: "Forbidden by the token's role or a limit",
    404: "Not found",
    409: "Conflict",
    410: "The attempt has ended",
    412: "The plan has changed",
    413: "Body too large",
    415: "The body is not JSON",
    422: "Invalid fields",
    429: "Too many failed attempts, or too many launches per minute",
    500: "Internal error",
    503: "Temporarily unavailable",
}
_MODULES = (requests, responses, plans, endpoints, garbage, problems, offers, node, alert)

Schemas = Mapping[str, dict[str, Any]]
"""A reference, or a union of references, by the name that the operations use."""


@lru_cache(maxsize=1)
def document() -> dict[str, Any]:
    bodies = {operation.body for operation in OPERATIONS}
    names = {name: None for one in OPERATIONS for name in (one.body, *one.answers.values(), "Problem", "Alert") if name}
    found, definitions = TypeAdapter.json_schemas(
        [
            (name, "validation" if name in bodies else "serialization", TypeAdapter(_named(name, _MODULES)))
            for name in names
        ],
        ref_template="#/components/schemas/{model}",
    )
    add_descriptions(definitions["$defs"], _MODULES)
    schemas = {str(name): schema for (name, _), schema in found.items()}
    paths: dict[str, dict[str, Any]] = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation, schemas)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "gpulaunch",
            "version": VERSION,
            "summary": "Serverless control plane for GPU nodes that serve models with vLLM",
        },
        "tags": [{"name": name, "description": text} for name, text in _TAGS.items()],
        "paths": paths,
        "webhooks": {"alert": {"post": _alert(schemas)}},
        "components": {
            "schemas": definitions["$defs"],
            "securitySchemes": {name: scheme for schemes in _SCHEMES.values() for name, scheme in schemes.items()},
        },
    }


def _named(name: str, modules: tuple[ModuleType, ...]) -> Any:
    """The model, or the union of models, of that name."""
    return next(getattr(module, name) for module in modules if hasattr(module, name))


def _alert(schemas: Schemas) -> dict[str, Any]:
    signed = ("webhook-id", "webhook-timestamp", "webhook-signature")
    return {
        "operationId": "alert",
        "tags": ["Webhooks"],
        "summary": "An event selected by GPULAUNCH_WEBHOOK_EVENTS, signed according to Standard Webhooks",
        "parameters": [
            {"name": name, "in": "header", "required": True, "schema": {"type": "string"}} for name in signed
        ],
        "requestBody": {"required": True, "content": {"application/json": {"schema": schemas["Alert"]}}},
        "responses": {"2XX": {"description": "Accepted"}},
    }


def _operation(operation: Operation, schemas: Schemas) -> dict[str, Any]:
    answers = {status: _answer(operation, status, schemas) for status in operation.answers}
    problem = {PROBLEM_TYPE: {"schema": schemas["Problem"]}}
    answers |= {status: {"description": _TITLES[status], "content": problem} for status in operation.refusals}
    made: dict[str, Any] = {
        "operationId": operation.name,
        "tags": ["Nodes" if operation.scope is Scope.NODE else "Control plane"],
        "summary": operation.summary,
        "responses": {str(status): answers[status] for status in sorted(answers)},
        "security": [{name: []} for name in _SCHEMES.get(operation.scope, ())],
    }
    if parameters := list(_parameters(operation)):
        made["parameters"] = parameters
    if operation.body is not None:
        content = {"application/json": {"schema": schemas[operation.body]}}
        made["requestBody"] = {"required": True, "content": content}
    return made


def _parameters(operation: Operation) -> Iterator[dict[str, Any]]:
    if "{instanceId}" in operation.path:
        called = INSTANCE_ID if operation.scope is Scope.NODE else f"{INSTANCE_ID}|{NAME}|{ID_END}"
        yield {
            "name": "instanceId",
            "in": "path",
            "required": True,
            "description": "The id; of a live instance also its name, or the last five or more characters of its id.",
            "schema": {"type": "string", "pattern": called},
        }
    if "{endpointName}" in operation.path:
        schema = {"type": "string", "pattern": NAME}
        yield {"name": "endpointName", "in": "path", "required": True, "schema": schema}
    if "{keyId}" in operation.path:
        yield {"name": "keyId", "in": "path", "required": True, "schema": {"type": "string"}}
    if operation.query is not None:
        query: type[queries.Query] = _named(operation.query, (queries,))
        for name, schema in query.schemas().items():
            yield _optional(name, "query", schema.pop("description"), schema)
    if 304 in operation.answers:
        text = "ETag of an earlier answer; if it still matches, the answer is 304."
        yield _optional("If-None-Match", "header", text, {"type": "string"})
    if 412 in operation.problems and operation is not LAUNCH:
        text = "A `revision` of the endpoint: the change is refused (412) if others have changed the endpoint since."
        yield _optional("If-Match", "header", text, {"type": "string"})
    if operation is LAUNCH:
        text = "Makes the launch safe to retry: the same key and body return the same answer; with another body, 409."
        yield _optional("Idempotency-Key", "header", text, {"type": "string", "minLength": 1, "maxLength": 255})
        text = "The `plan` of POST /api/plans: the launch is refused (412) if it would differ from what was shown."
        yield _optional("If-Match", "header", text, {"type": "string"})


def _optional(name: str, where: str, description: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "in": where, "required": False, "description": description, "schema": schema}


def _answer(operation: Operation, status: int, schemas: Schemas) -> dict[str, Any]:
    name, text = operation.answers[status], {"schema": {"type": "string"}}
    answer: dict[str, Any] = {"description": _TITLES[status]}
    if name is not None or status == 200:
        answer["content"] = {"application/json": {"schema": schemas[name] if name else {"type": "object"}}}
    if status == 200 and operation.text is not None:
        answer["content"][operation.text] = text
    if status in (201, 202):
        answer["headers"] = {"Location": text}
    if 304 in operation.answers:
        answer["headers"] = {"ETag": text}
    return answer
