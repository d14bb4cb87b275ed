"""The list of survivors that `make mutations` accepts."""

from tests.mutants.mutants import Mutant, Place
from tests.mutants.survivors import PATH, read, reason_of

TEXT = """
[[survivor]]
module = "shared/control/step.py"
function = "StepRunner.run"
before = "return"
after = "pass"
reason = "The next line returns as well."
"""


def mutant(function: str = "StepRunner.run", line: int = 40) -> Mutant:
    return Mutant(
        place=Place("shared/control/step.py", "DropStatement", 0),
        function=function,
        before="return",
        after="pass",
        lines=(line, line),
        body=(line - 1, line + 1),
        names=(),
    )


def test_an_explained_survivor_should_be_known_wherever_its_line_is() -> None:
    assert {reason_of(mutant(line=line), read(TEXT)) for line in (40, 90)} == {"The next line returns as well."}


def test_the_same_change_of_another_function_should_not_be_explained() -> None:
    assert reason_of(mutant(function="StepRunner._advance"), read(TEXT)) == ""


def test_the_list_should_be_readable_and_give_every_reason() -> None:
    assert [one for one in read(PATH.read_text("utf-8")) if len(one.reason) < 10] == []
