"""Descriptions of fields for the OpenAPI document: the docstrings below them in the source.

Pydantic does the same with `use_attribute_docstrings`, but for every class at its creation: that delays the first
answer by a tenth of a second, and only the document needs the texts.
"""

import ast
import inspect
from collections.abc import Iterable, Iterator, Mapping
from types import ModuleType
from typing import Any


def add_descriptions(schemas: Mapping[str, Any], modules: Iterable[ModuleType]) -> None:
    """Describe the fields of the schemas whose classes are in these modules, in place."""
    parsed = [node for module in modules for node in ast.parse(inspect.getsource(module)).body]
    classes = {node.name: node for node in parsed if isinstance(node, ast.ClassDef)}
    for name in classes.keys() & schemas.keys():
        properties = schemas[name].get("properties", {})
        for field, text in _texts(classes[name], classes):
            if field in properties:
                properties[field].setdefault("description", text)


def _texts(node: ast.ClassDef, classes: Mapping[str, ast.ClassDef]) -> Iterator[tuple[str, str]]:
    """The texts of a class and, after its own, of what it inherits from."""
    for statement, following in zip(node.body, node.body[1:], strict=False):
        match statement, following:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                yield name, " ".join(inspect.cleandoc(text).split())
            case _:
                pass
    for base in node.bases:
        if isinstance(base, ast.Name) and base.id in classes:
            yield from _texts(classes[base.id], classes)
