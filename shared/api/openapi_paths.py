"""Operations in the OpenAPI document: parameters, bodies, and each status with the headers that are really sent."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from gpulaunch.models import queries
from gpulaunch.models.instances import ID_END, INSTANCE_ID
from gpulaunch.models.problems import PROBLEM_TYPE
from gpulaunch.models.requests import NAME
from gpulaunch.operations import (
    COSTS,
    LAUNCH,
    OPERATIONS,
    PLAN,
    ROLL_OUT_ENDPOINT,
    SHOW_DELETION,
    SHOW_OPERATION,
    TERMINATE,
    Operation,
    Scope,
)
from shared.api.examples import EXAMPLES
from shared.api.schemas import Schema, Shaper

_HEADER: Final = {"type": "apiKey", "in": "header", "name": "X-Admin-Token"}
_BEARER: Final = {"type": "http", "scheme": "bearer"}
_ADMIN: Final = {"description": "A token of GPULAUNCH_ADMIN_TOKENS."}
_READ: Final = {"description": "A token of GPULAUNCH_READ_TOKENS or GPULAUNCH_ADMIN_TOKENS."}
SCHEMES: Final[Mapping[Scope, Mapping[str, Any]]] = {
    Scope.ADMIN: {"adminBearer": _BEARER | _ADMIN, "adminToken": _HEADER | _ADMIN},
    Scope.READ: {"readBearer": _BEARER | _READ, "readToken": _HEADER | _READ},
    Scope.NODE: {"nodeToken": _BEARER | {"description": "A node's token, valid for its attempt only."}},
}
"""The ways to prove who calls, by the operation's scope; any of them is enough."""
_TITLES: Final = {
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
    412: "Not as it was when it was read or planned",
    413: "Body too large",
    415: "The body is not JSON",
    422: "Invalid fields",
    429: "Too many failed attempts, or too many launches per minute",
    500: "Internal error",
    503: "Temporarily unavailable",
}
_TEXT: Final = {"type": "string"}
_URI: Final = {"type": "string", "format": "uri"}


def _sent(text: str, schema: Mapping[str, Any], required: bool = False) -> Schema:
    return {"description": text, "schema": dict(schema), **({"required": True} if required else {})}


HEADERS: Final[Mapping[str, Schema]] = {
    "X-Request-Id": _sent("Identifies the request in the logs.", _TEXT, required=True),
    "WWW-Authenticate": _sent("The scheme of tokens.", _TEXT, required=True),
    "Location": _sent("Address of what was made or is changed, absolute.", _URI, required=True),
    "Operation-Location": _sent("Address to poll until the operation has ended, absolute.", _URI, required=True),
    "Retry-After": _sent("Seconds to wait before the next try or poll.", {"type": "integer", "format": "int32"}),
    "ETag": _sent("Names this state of the answer.", _TEXT, required=True),
    "Repeatability-Result": _sent("`accepted` or `rejected`, for a request with Repeatability-Request-ID.", _TEXT),
    "Content-Disposition": _sent("A file name for CSV.", _TEXT),
}


class PathItems:
    """Describes operations by the schemas that they name."""

    def __init__(self, schemas: Mapping[str, Schema]) -> None:
        """`schemas` are references, by the name that operations use."""
        self._schemas = schemas
        self.refused = {
            f"Refused{status}": self._described(status, ["X-Request-Id", *_refusal_headers(status)], self._problem())
            for status in sorted({status for one in OPERATIONS for status in one.refusals})
        }
        """What operations have in common: problems, by name."""

    def of(self, operation: Operation) -> Schema:
        statuses = sorted({*operation.answers, *operation.refusals})
        made: Schema = {
            "operationId": operation.operation_id,
            "tags": ["Nodes" if operation.scope is Scope.NODE else "Control plane"],
            "summary": operation.summary,
            "responses": {str(status): self._response(operation, status) for status in statuses},
            "security": [{name: []} for name in SCHEMES.get(operation.scope, ())],
        }
        if parameters := list(_parameters(operation)):
            made["parameters"] = parameters
        if operation.body is not None:
            made["requestBody"] = {"required": True, "content": {"application/json": self.media(operation.body)}}
        return made

    def media(self, name: str) -> Schema:
        return {"schema": self._schemas[name], **({"example": EXAMPLES[name]} if name in EXAMPLES else {})}

    def _problem(self) -> Schema:
        return {PROBLEM_TYPE: self.media("Problem")}

    def _response(self, operation: Operation, status: int) -> Schema:
        extra = list(_headers(operation, status))
        if status not in operation.answers and not extra:
            return {"$ref": f"#/components/responses/Refused{status}"}
        content: Schema = {}
        if name := operation.answers.get(status):
            content["application/json"] = self.media(name)
        elif status == 200:
            content["application/json"] = {"schema": {"type": "object", "additionalProperties": True}}
        if status == 200 and operation.text is not None:
            content[operation.text] = {"schema": _TEXT}
        if status in operation.refusals:
            content |= self._problem()
            extra = [*_refusal_headers(status), *extra]
        return self._described(status, ["X-Request-Id", *extra], content)

    def _described(self, status: int, headers: Iterable[str], content: Schema) -> Schema:
        named = {name: {"$ref": f"#/components/headers/{name}"} for name in headers}
        return {"description": _TITLES[status], "headers": named, **({"content": content} if content else {})}


def _refusal_headers(status: int) -> Iterator[str]:
    if status == 401:
        yield "WWW-Authenticate"
    if status in (429, 503):
        yield "Retry-After"


def _headers(operation: Operation, status: int) -> Iterator[str]:
    """What this operation sends with the status, beside what all do."""
    if status in (201, 202):
        yield "Location"
    if status == 202:
        yield from ("Operation-Location", "Retry-After")
    if operation in (SHOW_OPERATION, SHOW_DELETION) and status == 200:
        yield "Retry-After"
    if (304 in operation.answers and status in (200, 304)) or (operation is PLAN and status == 200):
        yield "ETag"
    if operation is LAUNCH and status in (202, 409):
        yield "Repeatability-Result"
    if operation is COSTS and status == 200:
        yield "Content-Disposition"


def _parameters(operation: Operation) -> Iterator[Schema]:
    if "{instanceId}" in operation.path:
        called = INSTANCE_ID if operation.scope is Scope.NODE else f"{INSTANCE_ID}|{NAME}|{ID_END}"
        text = "The id; of a live instance also its name, or the last five or more characters of its id."
        yield _in_path("instanceId", text, {"type": "string", "pattern": called})
    if "{operation}" in operation.path:
        text = "What is under way, as Operation-Location names it."
        yield _in_path("operation", text, {"type": "string", "enum": ["launch", "terminate"]})
    if "{endpointName}" in operation.path:
        yield _in_path("endpointName", "The endpoint's name.", {"type": "string", "pattern": NAME})
    if "{keyId}" in operation.path:
        yield _in_path("keyId", "The key's `key_id`.", _TEXT)
    if operation.query is not None:
        yield from _query_parameters(getattr(queries, operation.query))
    if 304 in operation.answers:
        text = "ETag of an earlier answer; if it still matches, the answer is 304."
        yield _optional("If-None-Match", "header", text, _TEXT)
    if operation.takes_if_match:
        yield _optional("If-Match", "header", _IF_MATCH.get(operation, _REVISION), _TEXT)
    if operation is LAUNCH:
        text = "Makes the launch safe to retry: the same key and body return the same answer; with another body, 409."
        key = {"type": "string", "minLength": 1, "maxLength": 255}
        yield _optional("Idempotency-Key", "header", text, key)
        yield _optional("Repeatability-Request-ID", "header", "The same, as Azure's SDKs name it.", key)


_REVISION: Final = "A `revision` of the endpoint: the change is refused (412) if others have changed it since."
_IF_MATCH: Final[Mapping[Operation, str]] = {
    LAUNCH: "The `plan` of POST /api/plans: the launch is refused (412) if it would differ from what was shown.",
    TERMINATE: "ETag of the instance: the termination is refused (412) if the instance has changed since.",
    ROLL_OUT_ENDPOINT: f"{_REVISION} It makes the call safe to repeat.",
}


def _query_parameters(query: type[queries.Query]) -> Iterator[Schema]:
    """A parameter is left out, never null, so null stands in none of them."""
    described = query.model_json_schema(ref_template="#/components/schemas/{model}")
    shaper = Shaper(described.get("$defs", {}))
    for name, schema in described["properties"].items():
        kinds = [one for one in schema.pop("anyOf", []) if one != {"type": "null"}]
        made = shaper.flat({key: value for key, value in schema.items() if key != "default"} | (kinds or [{}])[0])
        if schema.get("default") is not None:
            made["default"] = schema["default"]
        yield _optional(name, "query", made.pop("description"), made)


def _in_path(name: str, text: str, schema: Mapping[str, Any]) -> Schema:
    return {"name": name, "in": "path", "required": True, "description": text, "schema": dict(schema)}


def _optional(name: str, where: str, text: str, schema: Mapping[str, Any]) -> Schema:
    return {"name": name, "in": where, "required": False, "description": text, "schema": dict(schema)}
