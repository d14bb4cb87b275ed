"""Descriptions of fields for the OpenAPI document: the docstrings below them in the source.

Pydantic does the same with `use_attribute_docstrings`, but for every class at its creation: that delays the first
answer by a tenth of a second, and only the document needs the texts.
"""

import ast
import inspect
from collections.abc import Iterable, Iterator
from types import ModuleType
from typing import Any


def add_descriptions(schemas: dict[str, Any], modules: Iterable[ModuleType]) -> None:
    """Describe the fields of the schemas whose classes are in these modules, in place."""
    for module in modules:
        for node in ast.parse(inspect.getsource(module)).body:
            if isinstance(node, ast.ClassDef) and node.name in schemas:
                properties = schemas[node.name].get("properties", {})
                for name, text in _texts(node):
                    if name in properties and "description" not in properties[name]:
                        properties[name]["description"] = text


def _texts(node: ast.ClassDef) -> Iterator[tuple[str, str]]:
    for statement, following in zip(node.body, node.body[1:], strict=False):
        match statement, following:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                yield name, inspect.cleandoc(text)
            case _:
                pass
