"""The commands that guide, scripts and messages tell people to run: `az` and `azd` have them, with these options."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.unit.infra import azd_cli
from tests.unit.infra.commands import Command, of_page, of_program, of_script, written
from tests.unit.infra.environments import environment
from tests.unit.infra.templates import ROOT

AZ = "azure-cli==2.91.0"
EXTENSIONS = {"quota", "support"}
"""Groups of commands that come with an extension of az, which Microsoft publishes on no package registry."""


def _of(program: str) -> list[Command]:
    return [one for one in written() if one.words[0] == program]


def test_azd_should_have_every_command_that_is_written() -> None:
    commands = _of("azd")
    assert len(commands) >= 30
    assert [f"{one}: {said}" for one in commands if (said := azd_cli.against(one.words[1:]))] == []


@pytest.mark.parametrize(
    "line",
    [
        "azd env get GPULAUNCH_URL",
        "azd env set GPULAUNCH_URL",
        "azd provision --no-stat",
        "azd deploy gateway skypilot",
        "azd env new demo --location",
        "azd remove",
    ],
)
def test_a_wrong_command_of_azd_should_be_found(line: str) -> None:
    (command,) = of_script("here", line)
    assert azd_cli.against(command.words[1:])


def test_the_guide_should_name_the_extensions_that_its_commands_need() -> None:
    used = {one.words[1] for one in _of("az")} & EXTENSIONS
    text = (ROOT / "docs" / "azure.md").read_text("utf-8")
    assert used == EXTENSIONS
    assert [name for name in used if f"az extension add --name {name}" not in text] == []


def _az(commands: Sequence[Command]) -> list[str]:
    """What azure-cli's own parser has against each command; empty: nothing."""
    folder: Path = environment("azure-cli", sys.executable, AZ)
    own = {**os.environ, "AZURE_CONFIG_DIR": str(folder.parent / "config"), "AZURE_CORE_COLLECT_TELEMETRY": "no"}
    lines = "\n".join(json.dumps([one.whole, *one.words[1:]]) for one in commands)
    done = subprocess.run(
        [str(folder / "python"), str(Path(__file__).parent / "azure_cli.py")],
        input=lines, env=own, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    answers: list[str] = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(answers) == len(commands), done.stderr
    return answers


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_az_should_have_every_command_that_is_written() -> None:
    commands = [one for one in _of("az") if one.words[1] not in EXTENSIONS]
    assert len(commands) >= 25
    assert [f"{one}: {said}" for one, said in zip(commands, _az(commands), strict=True) if said] == []


WRONG = """
az functionapp log tail
az group delete --nam x
az group delete
az keyvault recover --name x --purge
az provider register --namespace
"""


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_wrong_command_of_az_should_be_found() -> None:
    wrong = of_script("here", WRONG)
    assert len(wrong) == 5
    assert [str(one) for one, said in zip(wrong, _az(wrong), strict=True) if not said] == []
    # In prose, what a call needs besides may be missing, but not be wrong.
    prose = of_page("here", "`az group delete`, `az containerapp logs show --type console`, `az group delete --nam x`")
    assert [bool(said) for said in _az(prose)] == [False, False, True]


PAGE = """
Run `az login`, then `azd up`; not `jazz up` and not az in prose.

   ```bash
   az account set --subscription <id>    # the one that pays
   for one in $(az group list --query "[?tags.\\"a-b\\"=='gl-'].name" --output tsv); do
     az group delete --name "$one"
   done
   az role assignment list --all \\
     | xargs -r -n 1 az role assignment delete --ids
   azd env set MORE "$(echo '{"A": "1 2"}' | base64 | tr -d '\\n')"
   .venv/bin/python -m deploy secrets put skypilot-token < token.txt
   ```
"""


def test_a_pages_commands_should_be_found_word_by_word() -> None:
    assert [(" ".join(one.words), one.whole) for one in of_page("here", PAGE)] == [
        ("az account set --subscription x", True),
        ("az group list --query [?tags.\"a-b\"=='gl-'].name --output tsv", True),
        ("az group delete --name $one", True),
        ("az role assignment list --all", True),
        ("az role assignment delete --ids x", True),
        ("azd env set MORE $(echo '{\"A\": \"1 2\"}' | base64 | tr -d '\\n')", True),
        ("az login", False),
        ("azd up", False),
    ]


def test_a_programs_messages_should_be_read_with_what_they_insert() -> None:
    text = (
        'def f(one):\n    """Like `az login`."""\n    return f"az group delete --name {one}", f"see `az group list`"\n'
    )
    assert [(" ".join(one.words), one.whole) for one in of_program("here", text)] == [
        ("az login", False),
        ("az group delete --name x", True),
        ("az group list", False),
    ]
