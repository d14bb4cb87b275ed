"""The documentation of the JSON interface as a page, made of the OpenAPI document."""

from collections.abc import Mapping
from functools import cache
from typing import Any

from shared.api.openapi import document

_ACCESS = {
    "adminToken": "admin token",
    "readToken": "read or admin token",
    "nodeToken": "the node's own token",
}
_LIMITS = {
    "minimum": "at least {}",
    "exclusiveMinimum": "more than {}",
    "maximum": "at most {}",
    "minLength": "{} characters or more",
    "maxLength": "{} characters at most",
    "minItems": "{} entries or more",
    "maxItems": "{} entries at most",
    "pattern": "matches {}",
}


@cache
def context() -> Mapping[str, Any]:
    """What the page shows; the document does not change while the app runs."""
    spec = document()
    calls = [
        _call(method, path, described)
        for path, methods in spec["paths"].items()
        for method, described in methods.items()
    ]
    return {
        "info": spec["info"],
        "calls": [call for call in calls if not call["path"].startswith("/api/nodes/")],
        "node_calls": [call for call in calls if call["path"].startswith("/api/nodes/")],
        "schemas": [_schema(name, schema) for name, schema in sorted(spec["components"]["schemas"].items())],
    }


def _call(method: str, path: str, described: Mapping[str, Any]) -> dict[str, Any]:
    security = [name for entry in described["security"] for name in entry]
    body = described.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema")
    return {
        "id": described["operationId"],
        "method": method.upper(),
        "path": path,
        "summary": described["summary"],
        "access": _ACCESS[security[0]] if security else "open to all",
        "parameters": [
            {**one, "type": type_of(one["schema"]), "limits": limits_of(one["schema"])}
            for one in described.get("parameters", [])
        ],
        "body": type_of(body) if body else None,
        "answers": [
            {"status": status, "text": answer["description"], "type": _answer_type(answer)}
            for status, answer in described["responses"].items()
        ],
    }


def _answer_type(answer: Mapping[str, Any]) -> str | None:
    return next((type_of(content["schema"]) for content in answer.get("content", {}).values()), None)


def _schema(name: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    required = set(schema.get("required", ()))
    return {
        "name": name,
        "description": schema.get("description", ""),
        "values": schema.get("enum", []),
        "fields": [
            {
                "name": key,
                "type": type_of(field),
                "required": key in required,
                "description": field.get("description", ""),
                "limits": limits_of(field),
            }
            for key, field in schema.get("properties", {}).items()
        ],
    }


def type_of(schema: Mapping[str, Any]) -> str:
    """A schema's type in words; a model by its name."""
    if "$ref" in schema:
        return str(schema["$ref"]).rsplit("/", 1)[-1]
    for union in ("anyOf", "oneOf"):
        if union in schema:
            return " or ".join(dict.fromkeys(type_of(one) for one in schema[union]))
    if "enum" in schema:
        return " or ".join(f"“{value}”" for value in schema["enum"])
    if "const" in schema:
        return f"“{schema['const']}”"
    if schema.get("type") == "array":
        return f"list of {type_of(schema.get('items', {}))}"
    return str(schema.get("type", "anything"))


def limits_of(schema: Mapping[str, Any]) -> list[str]:
    """What else a value has to be."""
    found = [text.format(schema[key]) for key, text in _LIMITS.items() if key in schema]
    for one in schema.get("anyOf", ()):
        found += limits_of(one)
    if "default" in schema and schema["default"] is not None:
        found.append(f"default {schema['default']}")
    return list(dict.fromkeys(found))
