"""What `make mutations` changes, and what it leaves alone."""

from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from textwrap import dedent

import pytest

from tests.mutants import mutants
from tests.mutants.mutants import Mutant, Mutations

pytest.importorskip("cosmic_ray", reason="`make install` installs it")


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator["Program"]:
    monkeypatch.setattr(mutants, "ROOT", tmp_path)
    yield Program(tmp_path)


class Program:
    """A program of one module."""

    def __init__(self, root: Path) -> None:
        self._path = root / "shared" / "control" / "acts.py"
        self._path.parent.mkdir(parents=True)
        (root / "gpulaunch").mkdir()

    def mutants(self, source: str) -> list[Mutant]:
        self._path.write_text(dedent(source))
        mutations = Mutations(["shared/control"])
        found = [mutations.mutant(place) for place in mutations.places()]
        return [mutant for mutant in found if mutant is not None]

    def changes(self, source: str, operator: str) -> list[tuple[str, str]]:
        return [(one.before, one.after) for one in self.mutants(source) if one.place.operator == operator]


def test_neighbours_that_act_should_be_swapped(made: Program) -> None:
    source = """
        def confirm(store, queue, record):
            store.write(record)
            queue.send(record)
        """
    assert made.changes(source, "SwapStatements") == [
        ("store.write(record) queue.send(record)", "queue.send(record) store.write(record)")
    ]


def test_neighbours_that_need_each_other_should_not_be_swapped(made: Program) -> None:
    source = """
        def confirm(store, queue, record):
            etag = store.write(record)
            queue.send(etag)
            record = 3
            log.info("sent")
        """
    assert made.changes(source, "SwapStatements") == []


def test_what_is_there_for_its_effect_should_be_dropped(made: Program) -> None:
    source = """
        def send(self, queue):
            if not queue:
                raise ValueError("no queue")
            self.sent += 1
            queue.send(1)
            found = queue.read()
            return found
        """
    dropped = [before for before, after in made.changes(source, "DropStatement") if after == "pass"]
    assert dropped == ['raise ValueError("no queue")', "self.sent += 1", "queue.send(1)"]


def test_a_keyword_with_a_default_should_be_dropped_and_others_should_not(made: Program) -> None:
    source = """
        def mark(kind, until=None):
            return kind, until

        def use():
            return mark(kind=1, until=2)
        """
    assert made.changes(source, "DropKeyword") == [("return mark(kind=1, until=2)", "return mark(kind=1)")]


def test_a_condition_should_be_turned_round_once(made: Program) -> None:
    source = """
        def end(record, now):
            if record.due == now:
                return 1
            if record.ended:
                return 2
            return 3
        """
    found = [(one.before, one.after) for one in made.mutants(source) if "if " in one.before]
    assert found == [
        ("if record.due == now:", "if record.due != now:"),
        ("if record.ended:", "if not record.ended:"),
    ]


def test_types_logs_declarations_and_tuning_values_should_stay(made: Program) -> None:
    source = """
        from dataclasses import dataclass

        MOST = 500

        @dataclass(frozen=True)
        class Found:
            name: int | None = None
            kept: bool = False

        def show(found: int | str) -> int | None:
            log.info("found %s", found + 1)
            raise ValueError(f"{found + 1} of {MOST}")
        """
    assert [one.place.operator for one in made.mutants(source)] == ["DropStatement"]


def test_a_mutant_should_be_known_by_its_change_wherever_it_moves(made: Program) -> None:
    source = """
        def end(now):
            return now + 1
        """
    (one,) = [one for one in made.mutants(source) if one.place.operator == "ReplaceBinaryOperator_Add_Sub"]
    (other,) = [
        one
        for one in made.mutants("import os\n\n" + dedent(source))
        if one.place.operator == "ReplaceBinaryOperator_Add_Sub"
    ]
    assert one.identity == other.identity == ("shared/control/acts.py", "end", "return now + 1", "return now - 1")
    assert one.lines != other.lines


def test_cosmic_ray_should_know_every_operator_that_is_chosen() -> None:
    names = set(import_module("cosmic_ray.plugins").operator_names())
    from tests.mutants.operators import CHOSEN

    assert [name for name in CHOSEN if f"core/{name}" not in names] == []
