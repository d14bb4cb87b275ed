"""The mutants: every module of the deciding rooms, changed in one place each."""

import ast
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import ndiff
from importlib import import_module
from pathlib import Path
from typing import Any

from tests.mutants.operators import Node, is_log, nodes, operators

ROOT = Path(__file__).parents[2]
PURE = ("shared/lifecycle", "shared/planning", "shared/billing", "shared/domain")
SHELL = ("shared/control", "shared/storage")
_TUNING = ("NumberReplacer", "ReplaceBinaryOperator_BitOr_BitAnd")
"""Not tried outside of functions. A tuning value (five minutes, 500 rows) has its reason beside it, and a test that
repeats it would prove nothing; an `|` joins types there."""
_DECLARING = (*_TUNING, "ReplaceTrueWithFalse", "ReplaceFalseWithTrue", "DropKeyword")
"""Not tried in the body of a class: `frozen=True` and `init=False` are for readers and the type checker."""

_WITHOUT_ACTS = ("shared/lifecycle", "shared/planning", "shared/domain")
"""Pure: what a decision is put together from has no order in time."""
_BINARY = ("arith_expr", "term", "expr", "and_expr", "xor_expr", "shift_expr", "power")


@dataclass(frozen=True)
class Place:
    """Where an operator can change a module."""

    module: str
    """The module's path from the root."""
    operator: str
    occurrence: int


@dataclass(frozen=True, kw_only=True)
class Mutant:
    place: Place
    function: str
    """Qualified name; empty outside of classes and functions."""
    before: str
    """The changed lines without their indentation."""
    after: str
    lines: tuple[int, int]
    """First and last line of the changed statement."""
    body: tuple[int, int] | None
    """First and last line of the outermost function, if its body is changed; else the change is seen on import."""
    names: tuple[str, ...]
    """What the changed statement defines, outside of functions."""

    @property
    def module(self) -> str:
        return self.place.module

    @property
    def room(self) -> str:
        return "/".join(self.module.split("/")[:2])

    @property
    def identity(self) -> tuple[str, str, str, str]:
        """What stays the same when lines move."""
        return self.module, self.function, self.before, self.after

    def __str__(self) -> str:
        return f"{self.module}:{self.lines[0]} {self.function}\n  - {self.before}\n  + {self.after}"


def modules(rooms: Iterable[str]) -> list[str]:
    return [str(path.relative_to(ROOT)) for room in rooms for path in sorted((ROOT / room).rglob("*.py"))]


class Mutations:
    def __init__(self, rooms: Iterable[str]) -> None:
        self._operators = operators(_optional_parameters())
        self._sources = {module: (ROOT / module).read_text("utf-8") for module in modules(rooms)}
        self._trees: dict[str, Node] = {
            module: import_module("cosmic_ray.ast").get_ast(source) for module, source in self._sources.items()
        }
        self._changed: dict[Place, str] = {}

    def places(self) -> list[Place]:
        """Every place that is no noise, in an order that depends on the sources alone."""
        return [
            Place(module, name, occurrence)
            for module in self._sources
            for name in self._operators
            for occurrence, (node, start, _) in enumerate(self._positions(module, name))
            if not (name == "SwapStatements" and module.startswith(_WITHOUT_ACTS))
            and not _is_noise(name, self._leaf(module, start), node)
        ]

    def sources(self, place: Place) -> tuple[str, str]:
        """The module's source without the change and with it."""
        operator, source = self._operators[place.operator], self._sources[place.module]
        if place not in self._changed:
            code: Any = import_module("cosmic_ray.mutating").mutate_code(source, operator, place.occurrence)
            assert isinstance(code, str), place
            self._changed[place] = code
        return source, self._changed[place]

    def mutant(self, place: Place) -> Mutant | None:
        """The mutant of a place; None: the change can't be compiled, or changes nothing."""
        before, after = self.sources(place)
        try:
            compile(after, place.module, "exec")
        except SyntaxError:
            return None
        was, became = _difference(before, after)
        if was == became:
            return None
        _, start, end = self._positions(place.module, place.operator)[place.occurrence]
        leaf = self._leaf(place.module, start)
        functions, scopes = _enclosing(leaf)
        body, statement = _body(functions, leaf), _statement(leaf)
        return Mutant(
            place=place,
            function=".".join(scopes),
            before=was,
            after=became,
            lines=(min(start[0], statement[0]), max(end[0], statement[1])),
            body=body,
            names=() if body else _names(leaf, scopes),
        )

    def _positions(self, module: str, operator: str) -> list[tuple[Node, tuple[int, int], tuple[int, int]]]:
        positions = self._operators[operator].mutation_positions
        return [(node, *place) for node in nodes(self._trees[module]) for place in positions(node)]

    def _leaf(self, module: str, start: tuple[int, int]) -> Node:
        return self._trees[module].get_leaf_for_position(start, include_prefixes=True)


def _enclosing(leaf: Node) -> tuple[list[Node], list[str]]:
    """The functions around a leaf, outermost first, and the names of all functions and classes."""
    functions: list[Node] = []
    scopes: list[str] = []
    node = leaf.parent
    while node is not None:
        if node.type == "funcdef":
            functions.insert(0, node)
        if node.type in ("funcdef", "classdef"):
            scopes.insert(0, str(node.name.value))
        node = node.parent
    return functions, scopes


def _body(functions: list[Node], leaf: Node) -> tuple[int, int] | None:
    if not functions or leaf.start_pos < functions[0].children[-1].start_pos:
        return None
    return functions[0].start_pos[0], functions[0].end_pos[0]


def _is_noise(operator: str, leaf: Node, node: Node) -> bool:
    """Whether a change would be in an annotation, in how a class is declared, or in a logged or formatted text."""
    if operator.startswith("ReplaceBinaryOperator") and leaf.parent.type not in _BINARY:
        return True  # the stars of parameters and arguments
    inner, outer = leaf, leaf.parent
    while outer is not None:
        if _is_annotation(inner, outer) or outer.type in ("fstring", "decorator") or is_log(outer):
            return True
        if (outer.type == "classdef" and operator in _DECLARING) or (
            outer.type == "file_input" and operator in _TUNING
        ):
            return True
        if outer.type == "funcdef" and inner is outer.children[-1]:
            return False
        inner, outer = outer, outer.parent
    return is_log(node)


def _is_annotation(inner: Node, outer: Node) -> bool:
    match outer.type:
        case "annassign":
            return inner is outer.children[1]
        case "tfpdef":
            return inner is not outer.children[0]
        case "funcdef":
            return inner is outer.children[-3] and inner is not outer.children[1]
        case _:
            return False


def _statement(leaf: Node) -> tuple[int, int]:
    """Lines of the simple statement around a leaf; of a compound one, the leaf's own line."""
    node = leaf
    while node is not None:
        if node.type == "simple_stmt":
            return node.start_pos[0], node.children[0].end_pos[0]
        if node.type == "suite":
            break
        node = node.parent
    return leaf.start_pos[0], leaf.end_pos[0]


def _names(leaf: Node, scopes: list[str]) -> tuple[str, ...]:
    node = leaf
    while node is not None and node.type != "expr_stmt":
        node = node.parent
    bound = [] if node is None else [str(name.value) for name in node.get_defined_names()]
    return (*bound, *scopes)


def _difference(before: str, after: str) -> tuple[str, str]:
    """The changed lines before and after, without indentation."""
    left, right = before.splitlines(), after.splitlines()
    first = next((at for at, (one, other) in enumerate(zip(left, right, strict=False)) if one != other), 0)
    left, right = left[first:], right[first:]
    while left and right and left[-1] == right[-1]:
        left.pop()
        right.pop()
    changes = list(ndiff(left, right)) if len(left) + len(right) < 40 else []
    was = [line[2:] for line in changes if line[0] == "-"] or left
    became = [line[2:] for line in changes if line[0] == "+"] or right
    if not was or not became or set(was) == set(became):  # moved lines
        was, became = left, right
    return _flat(was), _flat(became)


def _flat(lines: Iterable[str]) -> str:
    return " ".join(" ".join(line.split()) for line in lines)


def _optional_parameters() -> dict[str, frozenset[str]]:
    """Parameters and fields with a default, of all functions and classes of the program, by their name."""
    found: dict[str, set[str]] = defaultdict(set)
    bases: dict[str, list[str]] = {}
    for module in modules(("shared", "gpulaunch")):
        for node in ast.walk(ast.parse((ROOT / module).read_text("utf-8"))):
            if isinstance(node, ast.ClassDef):
                bases[node.name] = [base.id for base in node.bases if isinstance(base, ast.Name)]
                fields = [one for one in node.body if isinstance(one, ast.AnnAssign) and one.value is not None]
                found[node.name] |= {one.target.id for one in fields if isinstance(one.target, ast.Name)}
            elif isinstance(node, ast.FunctionDef):
                plain, named = node.args.args[::-1], zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True)
                found[node.name] |= {argument.arg for argument in plain[: len(node.args.defaults)]}
                found[node.name] |= {argument.arg for argument, default in named if default is not None}
    for name, parents in bases.items():
        for parent in parents:
            found[name] |= found.get(parent, set())
    return {name: frozenset(parameters) for name, parameters in found.items()}
