"""What the endpoint commands ask before they spend money or end an address."""

import pytest

from gpulaunch.cli.exits import Exit
from tests.functional.cli.conftest import Terminal
from tests.functional.cli.test_endpoint_commands import DEPLOY
from tests.functional.test_endpoints import CHAT, create, show
from tests.functional.world import World

ASKED: dict[tuple[str, ...], str] = {
    ("deploy", "chat", *DEPLOY[2:], "--replicas", "5"): "5 replicas on the first offer: $4.00 per hour",
    ("scale", "chat", "5"): "Scale chat from 2 to 5 replicas? 3 replicas on the first offer: $2.40 per hour more.",
    ("scale", "chat", "0"): "Scale chat from 2 to 0 replicas? Nothing serves then.",
    ("pause", "chat"): "Pause chat? Its replicas are terminated; requests are refused until it is resumed.",
    ("resume", "chat"): "Resume chat? 2 replicas on the first offer: $1.60 per hour.",
    ("rollout", "chat"): "Meanwhile 1 replica on the first offer: $0.80 per hour more.",
    ("undeploy", "chat"): "Its address and keys stop working.",
}


@pytest.fixture(autouse=True)
def on_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gpulaunch.cli.commands.endpoints.interactive", lambda: True)


@pytest.mark.parametrize("words", ASKED)
@pytest.mark.parametrize(("typed", "code"), [("n\n", Exit.ERROR), ("\n", Exit.ERROR), ("", Exit.INTERRUPTED)])
def test_what_is_not_agreed_to_should_not_be_done(
    gpulaunch: Terminal, world: World, words: tuple[str, ...], typed: str, code: Exit
) -> None:
    create(world)
    before = show(world)
    result = gpulaunch(*words, stdin=typed)
    assert (result.exit_code, ASKED[words] in result.stderr) == (code, True), result.output
    assert "Nothing was changed." in result.stderr
    assert show(world) == before


@pytest.mark.parametrize("words", ASKED)
def test_what_is_agreed_to_should_be_done(gpulaunch: Terminal, world: World, words: tuple[str, ...]) -> None:
    create(world)
    if words[0] == "resume":
        world.call("POST", f"{CHAT}/pause")
    before = show(world)["revision"]
    assert gpulaunch(*words, stdin="y\n").exit_code == Exit.OK
    assert show(world)["revision"] != before


@pytest.mark.parametrize("words", ASKED)
def test_a_change_by_others_before_the_answer_should_be_noticed(
    gpulaunch: Terminal, world: World, words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    create(world)
    if words[0] == "resume":
        world.call("POST", f"{CHAT}/pause")

    def confirm(*_: object, **__: object) -> bool:
        assert world.call("PATCH", CHAT, {"replicas": 4}).status == 200
        return True

    monkeypatch.setattr("typer.confirm", confirm)
    result = gpulaunch(*words)
    assert (result.exit_code, "has been changed since it was shown" in result.stderr) == (Exit.CONFLICT, True)
    assert (show(world)["replicas"], show(world)["generation"]) == (4, 1)


def test_a_new_endpoint_should_be_asked_about(gpulaunch: Terminal, world: World) -> None:
    refused = gpulaunch(*DEPLOY, stdin="n\n")
    assert "Create chat? 1 replica on the first offer: $0.80 per hour." in refused.stderr
    assert world.call("GET", CHAT).status == 404
    assert gpulaunch(*DEPLOY, stdin="y\n").exit_code == Exit.OK


def test_a_launch_that_is_refused_should_be_refused_before_the_question(gpulaunch: Terminal) -> None:
    result = gpulaunch("deploy", "chat", DEPLOY[2], "--gpu", "A10", "--region", "eastuss", stdin="y\n")
    assert (result.exit_code, "Create chat?" in result.output) == (Exit.USAGE, False)


@pytest.mark.parametrize("flag", ["--yes", "-y", "--json"])
@pytest.mark.parametrize("words", [words for words in ASKED if words[0] != "undeploy"])
def test_no_question_should_be_asked_that_was_answered_or_is_a_programs(
    gpulaunch: Terminal, world: World, words: tuple[str, ...], flag: str
) -> None:
    create(world)
    result = gpulaunch(*words, flag)
    assert (result.exit_code, "?" in result.stderr) == (Exit.OK, False)
