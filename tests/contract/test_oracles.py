"""The simulation's oracles judge the program by facts and numbers of their own: they import nothing of it."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ORACLES = Path(__file__).parents[1] / "simulation" / "oracles"
ALLOWED = "tests.simulation.oracles"
PROGRAM = ("shared", "gpulaunch", "functions", "function_app", "tests")


def imported(text: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or "." * node.level
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name | ast.Attribute):
            called = node.func.id if isinstance(node.func, ast.Name) else node.func.attr
            if called in ("import_module", "__import__"):
                yield "imported by its name"


def foreign(text: str) -> list[str]:
    """What a module imports besides the standard library and other oracles."""
    return [
        name
        for name in imported(text)
        if not name.startswith(ALLOWED) and (name.partition(".")[0] in (*PROGRAM, "") or " " in name)
    ]


@pytest.mark.parametrize("path", sorted(ORACLES.glob("*.py")), ids=lambda path: path.stem)
def test_an_oracle_should_import_nothing_of_the_program(path: Path) -> None:
    assert foreign(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "text",
    [
        "from shared.lifecycle.rules import idle_at",
        "def look():\n    import shared.billing.budget",
        "from gpulaunch.models.instances import Phase",
        "from tests.simulation.checks import Checks",
        "from . import promises",
        "importlib.import_module('shared.domain.costs')",
    ],
)
def test_an_import_of_the_program_should_be_noticed(text: str) -> None:
    assert foreign(text) != []
