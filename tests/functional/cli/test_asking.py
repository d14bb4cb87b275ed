"""`gpulaunch plan`, and the question that `gpulaunch launch` asks on a terminal."""

import json
import re
from collections.abc import Callable
from typing import Any

import pytest

from gpulaunch.cli.exits import Exit
from tests.functional.cli.conftest import Terminal, WorldTransport
from tests.functional.web.test_launching import Dearer
from tests.functional.world import READER, World

MODEL = "meta-llama/Llama-3.1-8B-Instruct"
WORDS = ("launch", MODEL, "--instance-type", "Standard_NV36ads_A10_v5", "--region", "eastus")


@pytest.fixture
def on_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gpulaunch.cli.commands.launch.interactive", lambda: True)


def launched(world: World) -> list[Any]:
    return world.call("GET", "/api/instances").json["instances"]


def test_a_plan_should_be_shown_and_launch_nothing(gpulaunch: Terminal, world: World) -> None:
    result = gpulaunch("plan", *WORDS[1:])
    assert result.exit_code == Exit.OK
    lines = result.stdout.splitlines()
    assert lines[:4] == [
        "Plan",
        "simulation: GPULAUNCH_ORCHESTRATOR is set to simulation.",
        "  1. spot Standard_NV36ads_A10_v5 (A10) in azure/eastus, $0.80/h",
        "  2. on-demand Standard_NV36ads_A10_v5 (A10) in azure/eastus, $3.20/h",
    ]
    assert lines[4].startswith("$0.80 per hour, at most $38.40 in 12 h (")
    assert launched(world) == []
    gpulaunch.environment["GPULAUNCH_TOKEN"] = READER
    assert gpulaunch.json("plan", *WORDS[1:])["estimate"]["worst_case_usd"] == 38.4


def test_a_plan_should_take_every_option_of_a_request(gpulaunch: Terminal) -> None:
    def options(command: str) -> set[str]:
        return set(re.findall(r"--[a-z][a-z-]+", gpulaunch(command, "--help").stdout))

    assert options("launch") - options("plan") == {"--watch", "--timeout", "--yes"}


@pytest.mark.usefixtures("on_terminal")
def test_a_launch_on_a_terminal_should_show_the_plan_and_launch_when_agreed(
    gpulaunch: Terminal, world: World, transport: WorldTransport
) -> None:
    result = gpulaunch(*WORDS, stdin="y\n")
    assert result.exit_code == Exit.OK
    assert result.stdout.count("$0.80 per hour, at most $38.40") == 1
    assert "Launch it? [y/N]:" in result.stderr
    (instance,) = launched(world)
    assert f"{instance['instance_id']}  simulation" in result.stdout
    assert [request.url.path for request in transport.sent] == ["/api/plans", "/api/instances/launch"]
    assert transport.sent[1].headers["If-Match"]


@pytest.mark.usefixtures("on_terminal")
@pytest.mark.parametrize(("typed", "code"), [("n\n", Exit.ERROR), ("\n", Exit.ERROR), ("", Exit.INTERRUPTED)])
def test_what_is_not_agreed_to_should_not_be_launched(
    gpulaunch: Terminal, world: World, typed: str, code: Exit
) -> None:
    result = gpulaunch(*WORDS, stdin=typed)
    assert result.exit_code == code
    assert "Nothing was launched." in result.stderr
    assert launched(world) == []


@pytest.mark.usefixtures("on_terminal")
@pytest.mark.parametrize("flag", ["--yes", "-y", "--json"])
def test_no_question_should_be_asked_that_was_answered_or_is_a_programs(
    gpulaunch: Terminal, world: World, flag: str
) -> None:
    result = gpulaunch(*WORDS, flag)
    assert (result.exit_code, "Launch it?" in result.output) == (Exit.OK, False)
    assert len(launched(world)) == 1


def test_a_script_should_not_be_asked(gpulaunch: Terminal, world: World) -> None:
    result = gpulaunch(*WORDS)
    assert (result.exit_code, "Launch it?" in result.output) == (Exit.OK, False)
    assert "at most $38.40" in result.stdout
    assert len(launched(world)) == 1


@pytest.mark.usefixtures("on_terminal")
def test_a_plan_that_changed_before_the_answer_should_be_asked_about_again(
    gpulaunch: Terminal, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers: list[Callable[[], object]] = [lambda: world.rebuild(catalog=Dearer(world.app.catalog)), lambda: None]

    def confirm(*_: object, **__: object) -> bool:
        assert launched(world) == []
        answers.pop(0)()
        return True

    monkeypatch.setattr("typer.confirm", confirm)
    result = gpulaunch(*WORDS)
    assert result.exit_code == Exit.OK, result.output
    assert "offers or prices have changed" in result.stderr
    assert re.findall(r"^\$(\S+) per hour", result.stdout, re.MULTILINE) == ["0.80", "1.60"]
    assert [one["estimated_hourly_usd"] for one in launched(world)] == [1.6]


@pytest.mark.usefixtures("on_terminal")
def test_a_launch_that_is_refused_should_be_refused_before_the_question(gpulaunch: Terminal) -> None:
    result = gpulaunch("launch", MODEL, stdin="y\n")
    assert result.exit_code == Exit.USAGE
    assert "Set either `--gpu` or `--instance-type`." in result.stderr
    assert "Launch it?" not in result.output


def test_json_should_stand_before_the_command_as_well(gpulaunch: Terminal, world: World) -> None:
    world.launch(name="chat")
    assert gpulaunch("--json", "ls").stdout == gpulaunch("ls", "--json").stdout
    assert json.loads(gpulaunch("--json", "show", "nobody").stderr)["error"]["code"] == "not_found"


def test_instances_should_be_called_by_name_everywhere(gpulaunch: Terminal, world: World) -> None:
    instance_id = world.launch(name="chat")
    assert gpulaunch("watch", "chat").exit_code == Exit.OK
    for command in ("show", "events", "logs", "credentials"):
        assert gpulaunch.json(command, "chat") == gpulaunch.json(command, instance_id)
        assert gpulaunch.json(command, instance_id[-8:]) == gpulaunch.json(command, instance_id)
    missing = gpulaunch("show", "chatt")
    assert missing.exit_code == Exit.NOT_FOUND
    assert "There is no instance 'chatt'. Did you mean chat?" in missing.stderr
    assert "`gpulaunch ls` lists live instances" in missing.stderr
    world.launch(name="chat")
    twice = gpulaunch("terminate", "chat", "--yes")
    assert (twice.exit_code, instance_id in twice.stderr) == (Exit.CONFLICT, True)
    assert gpulaunch("terminate", instance_id[-6:], "--yes").exit_code == Exit.OK


def test_an_instance_that_ended_after_it_was_ready_should_not_be_said_to_have_had_no_attempt(
    gpulaunch: Terminal, world: World
) -> None:
    instance_id = world.launch()
    world.run(100)
    world.delete(instance_id)
    result = gpulaunch("watch", instance_id)
    assert result.exit_code == Exit.ENDED
    assert "No attempt was made." not in result.output


def test_a_wrong_token_should_say_where_it_comes_from_and_what_to_do(gpulaunch: Terminal) -> None:
    gpulaunch.environment["GPULAUNCH_TOKEN"] = "a-token-of-another-app"
    wrong = gpulaunch("ls")
    assert wrong.exit_code == Exit.REFUSED
    assert "The token comes from GPULAUNCH_TOKEN. The app at http://app.test does not know it" in wrong.stderr
    assert "a-token-of-another-app" not in wrong.output


@pytest.mark.parametrize("command", [[], ["launch"], ["plan"], ["ls"], ["terminate"], ["costs"], ["gc"]])
def test_help_should_have_examples_and_no_types_of_switches(gpulaunch: Terminal, command: list[str]) -> None:
    text = gpulaunch(*command, "--help").stdout
    ours = [
        line for line in text.splitlines() if "<bool>" in line and not re.search("--help|--(install|show)-comp", line)
    ]
    assert ours == []
    assert "Exit codes" in text if not command else "Examples:" in text
