"""The changes that are tried: chosen operators of Cosmic Ray, and three of ours for what it has none.

Cosmic Ray is imported by name: it has no types, and only `make mutations` needs it.
"""

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any, Protocol

Node = Any
"""A node of parso's tree, which has no types either."""
Position = tuple[tuple[int, int], tuple[int, int]]

CHOSEN = (
    *(
        f"ReplaceComparisonOperator_{change}"
        for change in (
            *("Lt_LtE", "Lt_GtE", "LtE_Lt", "LtE_Gt", "Gt_GtE", "Gt_LtE", "GtE_Gt", "GtE_Lt"),
            *("Eq_NotEq", "NotEq_Eq", "Is_IsNot", "IsNot_Is"),
        )
    ),
    *(
        f"ReplaceBinaryOperator_{change}"
        for change in (
            *("Add_Sub", "Sub_Add", "Mul_Div", "Div_Mul", "FloorDiv_Mul", "Mod_Mul"),
            *("BitOr_BitAnd", "BitAnd_BitOr"),
        )
    ),
    *("ReplaceUnaryOperator_Delete_Not", "ReplaceUnaryOperator_USub_UAdd"),
    *("AddNot", "ReplaceTrueWithFalse", "ReplaceFalseWithTrue", "ReplaceAndWithOr", "ReplaceOrWithAnd"),
    *("ReplaceBreakWithContinue", "ReplaceContinueWithBreak"),
    *("ExceptionReplacer", "NumberReplacer", "ZeroIterationForLoop"),
)
"""Left out are operators whose changes nearly always crash (other decorators, other names) or say the same (`is` for
`==`)."""
_EFFECTS = ("raise_stmt", "del_stmt")
_LOGS = ("log", "logging", "warnings")


class Operator(Protocol):
    """What Cosmic Ray asks of an operator."""

    def mutation_positions(self, node: Node) -> Iterator[Position]: ...

    def mutate(self, node: Node, index: int) -> Node: ...


class Negation:
    """Cosmic Ray's AddNot, save where other operators turn the condition round already."""

    def __init__(self, add_not: Operator) -> None:
        self._add_not = add_not

    def mutation_positions(self, node: Node) -> Iterator[Position]:
        for position in self._add_not.mutation_positions(node):
            condition = node.children[2 if node.type == "test" else 1]
            compared = condition.type == "comparison" and "in" not in condition.children[1].get_code()
            if condition.type != "not_test" and not compared:
                yield position

    def mutate(self, node: Node, index: int) -> Node:
        return self._add_not.mutate(node, index)


class DropStatement:
    """Leave out a statement that is there for its effect: a call, a raise, a return in the middle, a new attribute."""

    def mutation_positions(self, node: Node) -> Iterator[Position]:
        if node.type == "simple_stmt" and _acts(node.children[0]):
            yield node.children[0].start_pos, node.children[0].end_pos

    def mutate(self, node: Node, index: int) -> Node:
        node.children[0] = _parsed(f"{_prefix(node)}pass")
        return node


class SwapStatements:
    """Let two neighbours act in the other order, where neither uses a name that the other one binds."""

    def mutation_positions(self, node: Node) -> Iterator[Position]:
        for first in self._pairs(node):
            pair = node.children[first], node.children[first + 1]
            yield pair[0].start_pos, pair[1].children[0].end_pos

    def mutate(self, node: Node, index: int) -> Node:
        first = list(self._pairs(node))[index]
        pair = node.children[first].children, node.children[first + 1].children
        pair[0][0], pair[1][0] = pair[1][0], pair[0][0]
        return node

    def _pairs(self, node: Node) -> Iterator[int]:
        if node.type != "suite":
            return
        for first, (one, other) in enumerate(zip(node.children, node.children[1:], strict=False)):
            if one.type == other.type == "simple_stmt":
                pair = one.children[0], other.children[0]
                if (
                    all(map(_calls, pair))
                    and any(map(_is_call, pair))
                    and not _bound(*pair)
                    and not _bound(*pair[::-1])
                ):
                    yield first


class DropKeyword:
    """Leave out a keyword argument that the called one can do without, so that its default counts."""

    def __init__(self, optional: Mapping[str, frozenset[str]]) -> None:
        self._optional = optional
        """Parameters with a default by the name of what is called."""

    def mutation_positions(self, node: Node) -> Iterator[Position]:
        for argument in self._arguments(node):
            yield argument.start_pos, argument.end_pos

    def mutate(self, node: Node, index: int) -> Node:
        argument = list(self._arguments(node))[index]
        siblings = argument.parent.children
        at = siblings.index(argument)
        if argument.parent is node:  # the only argument
            del siblings[at]
        else:
            comma = at + 1 if at + 1 < len(siblings) else at - 1
            for one in sorted((at, comma), reverse=True):
                del siblings[one]
        return node

    def _arguments(self, node: Node) -> Iterator[Node]:
        if node.type != "trailer" or node.children[0].value != "(" or len(node.children) != 3:
            return
        called = node.get_previous_sibling()
        name = called.children[-1].value if called.type == "trailer" else getattr(called, "value", "")
        inside = node.children[1]
        for argument in inside.children if inside.type == "arglist" else [inside]:
            if argument.type != "argument" or argument.children[1] != "=":
                continue
            if name == "replace" or argument.children[0].value in self._optional.get(name, ()):
                yield argument


def _acts(statement: Node) -> bool:
    if statement.type == "expr_stmt":
        target = statement.children[0]
        return (
            statement.children[1].type != "annassign"
            and (target.type != "name" or statement.children[1] != "=")
            and target.type != "testlist_star_expr"
        )
    if statement.type == "keyword":
        return statement.value in ("return", "raise")
    return statement.type in _EFFECTS or _is_call(statement)


def _is_call(statement: Node) -> bool:
    return statement.type in ("atom_expr", "power") and not is_log(statement)


def _calls(statement: Node) -> bool:
    """Whether a call or an assignment calls anything; nothing else is swapped."""
    return (
        (_is_call(statement) or statement.type == "expr_stmt")
        and not is_log(statement)
        and any(node.type == "trailer" and node.children[0].value == "(" for node in nodes(statement))
    )


def _bound(one: Node, other: Node) -> bool:
    """Whether the one binds or changes a name that the other one mentions."""
    if one.type != "expr_stmt":
        return False
    names = {name.value for name in one.get_defined_names(include_setitem=True)}
    return any(node.type == "name" and node.value in names for node in nodes(other))


def is_log(statement: Node) -> bool:
    return statement.type in ("atom_expr", "power") and getattr(statement.children[0], "value", "") in _LOGS


def nodes(node: Node) -> Iterator[Node]:
    yield node
    for child in getattr(node, "children", ()):
        yield from nodes(child)


def _prefix(node: Node) -> str:
    return str(node.get_first_leaf().prefix)


def _parsed(code: str) -> Node:
    return import_module("parso").parse(code)


def operators(optional: Mapping[str, frozenset[str]]) -> dict[str, Operator]:
    """All operators that are used, by name."""
    plugins = import_module("cosmic_ray.plugins")
    chosen: dict[str, Operator] = {name: plugins.get_operator(f"core/{name}")() for name in CHOSEN}
    chosen["AddNot"] = Negation(chosen["AddNot"])
    return chosen | {
        "DropStatement": DropStatement(),
        "SwapStatements": SwapStatements(),
        "DropKeyword": DropKeyword(optional),
    }
