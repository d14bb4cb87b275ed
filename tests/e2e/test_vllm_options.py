"""The table of vLLM's options, and how arguments are read, against vLLM's own parser."""

from __future__ import annotations

import random

import pytest
from pydantic import ValidationError

from gpulaunch.models import vllm_options
from gpulaunch.models.requests import LaunchRequest
from gpulaunch.models.vllm_arguments import FLAGS, Option
from shared.planning.vllm_policy import refusals
from shared.planning.vllm_values import wrong_value
from tests.e2e.stack import vllm
from tests.e2e.stack.assembly import CACHE
from tests.e2e.stack.vllm import Vllm
from tests.e2e.stack.vllm_options import TABLE, classes, parse, read, render, surroundings, written

AGENT = ["model", "--served-model-name", "o/m", "--host", "127.0.0.1", "--port", "8000", "--middleware", "guard.Guard"]
"""What the agent puts before a launch's arguments."""
OURS = sorted({option.name.removeprefix("--").replace("-", "_") for option in FLAGS.values() if option.kind == "ours"})
PROTECTED = [name for name in OURS if name not in ("model", "help")] + ["model_tag"]
VALUES = ["1", "x", "/etc/x", "a.B", "", "-1", "-0.5", "{}", '{"a": 1}', "[1]", "--port", "-h", "x=y", "a b"]


@pytest.fixture(scope="module")
def environment() -> Vllm:
    return vllm.build(CACHE)


def test_the_table_should_have_the_options_of_the_real_parser(environment: Vllm) -> None:
    text = TABLE.read_text("utf-8")
    assert vllm_options.VERSION == vllm.VERSION
    assert render(written(read(environment)), classes(), *surroundings(text)) == text


def spelling(option: Option, dice: random.Random) -> str:
    """A name of an option, bent in one of the ways in which vLLM's parser still understands it, or just beyond."""
    names = [flag for flag, one in FLAGS.items() if one is option]
    name = dice.choice(names)
    if dice.random() < 0.4 and name.startswith("--"):
        name = name[: dice.randint(3, len(name))]
    if dice.random() < 0.4:
        name = "".join(
            "_" if letter == "-" and at > 1 and dice.random() < 0.5 else letter for at, letter in enumerate(name)
        )
    if dice.random() < 0.2:
        name += dice.choice([".x", ".x.y", ".x+", ".", "+", " ", "\t"])
    return name


def arguments(dice: random.Random) -> list[str]:
    options = list({option.name: option for option in FLAGS.values()}.values())
    ours = [option for option in options if option.kind == "ours"]
    args: list[str] = []
    for _ in range(dice.randint(1, 4)):
        name, value = spelling(dice.choice(ours if dice.random() < 0.4 else options), dice), dice.choice(VALUES)
        shape = dice.random()
        args += [f"{name}={value}"] if shape < 0.4 else [name, value] if shape < 0.8 else [name]
        if dice.random() < 0.1:
            args.append(dice.choice([*VALUES, "--", "-", "-O2", "-tp2", "@x", "--omni"]))
    return args


def accepted(args: list[str]) -> bool:
    try:
        LaunchRequest(model_name="o/m", gpu="A10", vllm_args=args)
    except ValidationError:
        return False
    every = {option.name for option in FLAGS.values()}
    return not refusals(args) or not refusals(args, every)


def test_what_is_accepted_should_leave_address_key_and_guard_as_the_agent_set_them(environment: Vllm) -> None:
    dice = random.Random(13)
    lists = [arguments(dice) for _ in range(6_000)]
    (plain,) = parse(environment, PROTECTED, [AGENT])
    assert isinstance(plain, dict)
    found = parse(environment, PROTECTED, [[*AGENT, *args] for args in lists])
    changed = [(args, got) for args, got in zip(lists, found, strict=True) if isinstance(got, dict) and got != plain]
    let_through = [(args, got) for args, got in changed if accepted(args)]
    assert len(changed) > 200, "hardly any of these arguments would do harm: the test shows nothing"
    assert let_through == []
    passed = [got for args, got in zip(lists, found, strict=True) if accepted(args)]
    assert sum(isinstance(got, dict) for got in passed) > 60, "hardly any of these arguments are accepted"


def test_what_vllm_takes_under_one_of_our_names_should_be_refused_in_each_spelling(environment: Vllm) -> None:
    plain = {name: str(value) for name, value in _one(environment, []).items()}
    harmful: list[list[str]] = []
    for flag, option in FLAGS.items():
        if option.kind == "ours" and option.name != "--help":
            value = [] if option.takes in ("0", "b") else ['{"x": 1}' if option.takes == "j" else "1"]
            cut = [flag[:end] for end in range(3, len(flag) + 1)] if flag.startswith("--") else [flag]
            for name in [*cut, *(one.replace("-", "_").replace("__", "--", 1) for one in cut)]:
                harmful += [[name, *value], *([[f"{name}={value[0]}"]] if value else [])]
    found = parse(environment, PROTECTED, [[*AGENT, *args] for args in harmful])
    taken = [args for args, got in zip(harmful, found, strict=True) if isinstance(got, dict) and got != plain]
    assert len(taken) > 100
    assert [args for args in taken if accepted(args)] == []


def test_a_value_that_is_refused_should_be_one_that_the_parser_refuses(environment: Vllm) -> None:
    words = ["1", "-1", "1.5", "8k", "1K", "1.5K", "auto", "None", "", "{}", '{"a": 1}', "[1]", "x", "nan", "1_000"]
    named = [name for kind in vllm_options.KINDS for name in vllm_options.VALUES[kind].split()]
    named += [name[:-1] for name in vllm_options.VALUES["choice"].split() if name.endswith(":")]
    cases = [(f"--{name}", word) for name in named for word in words]
    refused = [(name, word) for name, word in cases if " take" in wrong_value(name, word)[0]]
    found = parse(environment, [], [[*AGENT, f"{name}={word}"] for name, word in refused])
    assert len(refused) > 500
    assert [case for case, got in zip(refused, found, strict=True) if isinstance(got, dict)] == []


def _one(environment: Vllm, args: list[str]) -> dict[str, str]:
    (got,) = parse(environment, PROTECTED, [[*AGENT, *args]])
    assert isinstance(got, dict)
    return got
