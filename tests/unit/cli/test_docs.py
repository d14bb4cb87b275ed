"""docs/cli.md against the command itself."""

import re
from pathlib import Path

import typer
from typer.core import TyperGroup

from gpulaunch.cli.app import app
from gpulaunch.cli.exits import Exit

TEXT = (Path(__file__).parents[3] / "docs" / "cli.md").read_text("utf-8")


def test_every_exit_code_should_be_documented() -> None:
    assert [int(code) for code in re.findall(r"^\| (\d+) \|", TEXT, re.MULTILINE)] == [int(code) for code in Exit]


def test_every_command_and_every_documented_option_should_be_there() -> None:
    command = typer.main.get_command(app)
    assert isinstance(command, TyperGroup)
    rows = re.findall(r"^\| `(\w+)[^|]*\|[^\n]*$", TEXT, re.MULTILINE)
    assert set(rows) == {name for name, one in command.commands.items() if not one.hidden}
    parameters = [parameter for one in command.commands.values() for parameter in one.params]
    known = {option for parameter in parameters for option in (*parameter.opts, *parameter.secondary_opts)}
    told = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", TEXT))
    assert told - known - {"--help", "--install-completion", "--max-model-len"} == set()
