"""JSON schemas as generators of clients take them: one shape for each value, with null as one of its types.

Of unions (`anyOf`) many generators make empty classes, of a `default` in a request a mandatory field, and of an integer
without a format one of 32 bits.
"""

import json
from collections.abc import Collection, Iterator, Mapping
from typing import Any, Final, cast

Schema = dict[str, Any]

_PREFIX: Final = "#/components/schemas/"
_NULLABLE: Final = "x-nullable-reference"
"""Marks a reference that may be null until it is known how the schema is referred to elsewhere."""
_INT32: Final = 2**31 - 1


def name_of(reference: str) -> str:
    return reference.removeprefix(_PREFIX)


def references(schema: Any) -> Iterator[Schema]:
    """All references in a schema, at any depth."""
    if isinstance(schema, dict) and "$ref" in schema:
        yield cast("Schema", schema)
    elif isinstance(schema, dict):
        yield from references(list(cast("Schema", schema).values()))
    elif isinstance(schema, list):
        for inner in cast("list[Any]", schema):
            yield from references(inner)


def reachable(schemas: Mapping[str, Schema], roots: Collection[str]) -> set[str]:
    """The names of schemas that these lead to, themselves included."""
    found, new = set[str](), set(roots)
    while new:
        found |= new
        new = {name_of(one["$ref"]) for name in new for one in references(schemas[name])} - found
    return found


class Shaper:
    """Rewrites schemas that refer to each other by name."""

    def __init__(
        self,
        schemas: Mapping[str, Schema],
        *,
        growing: Mapping[str, Collection[str]] | None = None,
        sparse: Collection[str] = (),
    ) -> None:
        """`growing` has the values of enumerations to which later versions add.

        `sparse` schemas have a field only if it has a value.
        """
        self._raw = schemas
        self._growing = growing or {}
        self._sparse = sparse

    def shaped(
        self, asked: Collection[str], answered: Collection[str], unions: Mapping[str, Collection[str]]
    ) -> dict[str, Schema]:
        """All objects among the schemas, by name, and each union as one object.

        `asked` are the bodies of requests, `answered` those of answers. What no request contains has all of its fields.
        """
        given = reachable(self._raw, asked)
        for name in given:
            _describe_defaults(self._raw[name])
        made = {name: self.flat(schema) for name, schema in self._raw.items() if _is_object(schema, self._raw)}
        for name, schema in made.items():
            properties: dict[str, Schema] = schema.get("properties", {})
            if name in self._sparse:
                schema["required"] = [field for field, one in properties.items() if not _may_be_null(one)]
                schema["properties"] = {field: _without_null(one) for field, one in properties.items()}
            elif name not in given and properties:
                schema["required"] = list(properties)
        made |= {name: self._merged(kinds) for name, kinds in unions.items()}
        _settle_nullable(made, {*asked, *answered})
        return made

    def flat(self, schema: Schema) -> Schema:
        """One schema without unions, titles and defaults, and so all that is in it."""
        made = {key: value for key, value in schema.items() if key not in ("title", "default")}
        if "properties" in made:
            made["properties"] = {name: self.flat(one) for name, one in made["properties"].items()}
            if made.get("additionalProperties") is True:
                del made["additionalProperties"]
        for inner in ("items", "additionalProperties"):
            if isinstance(made.get(inner), dict):
                made[inner] = self.flat(made[inner])
        if "patternProperties" in made:
            ((pattern, values),) = made.pop("patternProperties").items()
            made |= {"propertyNames": {"pattern": pattern}, "additionalProperties": self.flat(values)}
        if "$ref" in made:
            made = self._referred(made)
        if "anyOf" in made:
            made = self._one_of(made)
        if "integer" in _types(made):
            wide = made.get("maximum", 0) > _INT32
            made.setdefault("format", "int64" if wide else "int32")
        return made

    def _referred(self, schema: Schema) -> Schema:
        """A text or a number stands where it is referred to; only objects keep their names."""
        name = name_of(schema["$ref"])
        if _is_object(self._raw[name], self._raw):
            return schema
        values = self._growing.get(name)
        if values is None:
            inlined = self.flat(self._raw[name])
        else:
            known = f"One of {', '.join(f'`{value}`' for value in values)}; later versions may add others."
            inlined = {"type": "string", "x-extensible-enum": list(values), "description": known}
            if "description" in schema:
                inlined["description"] = f"{schema['description']} {known}"
        return {**{key: value for key, value in schema.items() if key != "$ref"}, **inlined}

    def _one_of(self, schema: Schema) -> Schema:
        outer = {key: value for key, value in schema.items() if key != "anyOf"}
        kinds = [self.flat(one) for one in schema["anyOf"]]
        others = [one for one in kinds if one != {"type": "null"}]
        null = len(others) < len(kinds)
        if len(others) > 1 and all("$ref" in one for one in others):
            return self._merged([name_of(one["$ref"]) for one in others]) | outer
        if len(others) == 1 and "$ref" in others[0]:
            return {**others[0], **outer, **({_NULLABLE: True} if null else {})}
        made: Schema = {}
        for one in others:
            made |= one
        types = list(dict.fromkeys(kind for one in others for kind in _types(one)))
        described = [text for text in (outer.get("description"), made.get("description")) if text]
        made |= outer
        made["type"] = [*types, "null"] if null else types
        if "enum" in made and null:
            made["enum"] = [*made["enum"], None]
        if described:
            made["description"] = " ".join(dict.fromkeys(described))
        return made

    def _merged(self, names: Collection[str]) -> Schema:
        """One object that describes each of these: all their fields, mandatory those that all have."""
        kinds = [self.flat(self._raw[name]) for name in names]
        properties: dict[str, Schema] = {}
        for kind in kinds:
            for field, schema in kind["properties"].items():
                before = properties.get(field)
                properties[field] = schema if before is None else _either(before, schema)
        common = [field for field in properties if all(field in kind["properties"] for kind in kinds)]
        text = f"Has the fields of one of {', '.join(names)}."
        return {"type": "object", "description": text, "properties": properties, "required": common}


def _describe_defaults(schema: Schema) -> None:
    for field in schema.get("properties", {}).values():
        if field.get("default") not in (None, "", [], {}):
            text = f"{field.get('description', '')} By default `{json.dumps(field['default'])}`."
            field["description"] = text.strip()


def _is_object(schema: Schema, schemas: Mapping[str, Schema]) -> bool:
    if "$ref" in schema:
        return _is_object(schemas[name_of(schema["$ref"])], schemas)
    return schema.get("type") == "object"


def _types(schema: Schema) -> list[str]:
    kind = schema.get("type", [])
    return [kind] if isinstance(kind, str) else list(kind)


def _either(one: Schema, other: Schema) -> Schema:
    """A field that is of one kind in one object and of another in another: what holds for both."""
    types = list(dict.fromkeys([*_types(one), *_types(other)]))
    both = {key: value for key, value in one.items() if key == "description" or other.get(key) == value}
    return both | {"type": types[0] if len(types) == 1 else types} if types else both


def _may_be_null(schema: Schema) -> bool:
    return _NULLABLE in schema or "null" in _types(schema)


def _without_null(schema: Schema) -> Schema:
    made = {key: value for key, value in schema.items() if key != _NULLABLE}
    if "null" in _types(schema):
        left = [kind for kind in _types(schema) if kind != "null"]
        made["type"] = left[0] if len(left) == 1 else left
    return made


def _settle_nullable(schemas: dict[str, Schema], whole: Collection[str]) -> None:
    """Let objects be null where they may be: the schema itself if it may be everywhere, else a copy in that place."""
    found = [one for schema in schemas.values() for one in references(schema)]
    plain = {name_of(one["$ref"]) for one in found if _NULLABLE not in one} | set(whole)
    for one in found:
        if one.pop(_NULLABLE, False):
            target = schemas[name_of(one["$ref"])]
            if name_of(one["$ref"]) in plain:
                del one["$ref"]
                one |= {**target, **one, "type": ["object", "null"]}
            else:
                # Some generators name the object by its title where it is one of two types.
                target |= {"title": name_of(one["$ref"]), "type": ["object", "null"]}
