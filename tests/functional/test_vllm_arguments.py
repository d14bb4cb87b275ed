"""A launch's arguments for vLLM at the door: refused in 422 with their place, and then nothing is written."""

import json
from typing import Any

import pytest

from gpulaunch.models.vllm_options import VERSION
from tests.functional.world import READER, SEED, World, settings

PATH = "/api/instances/launch"
HUB_TOKEN = "hf_abcdefghijklmnopqrstuvwx"


def wrong(world: World, args: list[str], **changes: Any) -> dict[str, str]:
    answer = world.call("POST", PATH, {**SEED, **changes, "vllm_args": args})
    assert answer.status == 422, answer.body
    assert answer.headers["Content-Type"].startswith("application/problem+json")
    assert "create" not in world.store.calls.seen
    return {error["field"]: error["message"] for error in answer.json["errors"]}


@pytest.mark.parametrize("arg", ["--api_key=", "--api-k=x", "--hos=127.0.0.1", "--ssl_keyfile=x", "--middleware=a.b"])
def test_an_option_that_gpulaunch_sets_should_be_refused(world: World, arg: str) -> None:
    assert "gpulaunch" in wrong(world, [arg])["vllm_args"]


def test_each_argument_that_is_not_allowed_should_be_named_with_what_to_do(world: World) -> None:
    found = wrong(world, ["--enforce-eager", "--trust-remote-code", "--max-modle-len=8", "--tokenizer=/etc"])
    assert list(found) == ["vllm_args.1", "vllm_args.2", "vllm_args.3"]
    assert "GPULAUNCH_ALLOWED_VLLM_OPTIONS" in found["vllm_args.1"]
    assert f"vLLM {VERSION} has no option '--max-modle-len'" in found["vllm_args.2"]
    assert "outside the model" in found["vllm_args.3"]


@pytest.mark.parametrize(
    "args",
    [
        ["--hf-token", HUB_TOKEN],
        ["--served-name", HUB_TOKEN],
        ["--tokenizer", f"x?token={HUB_TOKEN}"],
        ["--tokenizer", f"https://host/x?sig=0123456789&token={HUB_TOKEN}"],
        ["--hf-overrides", json.dumps({"api_key": "0123456789abcdef"})],
        ["--fingerprint-value=Bearer abcdefgh12345678"],
        ["--fingerprint-value", READER],
    ],
    ids=str,
)
def test_a_secret_should_be_refused_and_not_repeated(world: World, args: list[str]) -> None:
    answer = world.call("POST", PATH, {**SEED, "vllm_args": args})
    assert answer.status == 422
    assert "secret" in answer.json["detail"]
    for secret in (HUB_TOKEN, "0123456789abcdef", "abcdefgh12345678", READER):
        assert secret.encode() not in answer.body
    assert "create" not in world.store.calls.seen


def test_what_the_operator_allows_should_be_accepted() -> None:
    world = World(given=settings(GPULAUNCH_ALLOWED_VLLM_OPTIONS="--trust-remote-code, --of-another-version"))
    world.launch(vllm_args=["--trust_remote_code", "--of-another-version", "x"])


@pytest.mark.parametrize("names", ["trust-remote-code", "--trust_remote_code", "--api-key", "--Host", "--mid"])
def test_an_operator_should_not_allow_what_gpulaunch_sets_or_what_is_no_full_name(names: str) -> None:
    with pytest.raises(ValueError, match="full names"):
        settings(GPULAUNCH_ALLOWED_VLLM_OPTIONS=names)


@pytest.mark.parametrize("flag", ["--disable-log-stats", "--disable_log_stats"])
def test_an_idle_rule_should_not_be_accepted_without_the_metrics_that_it_needs(world: World, flag: str) -> None:
    assert "idle_minutes" in wrong(world, [flag], idle_minutes=10)["vllm_args.0"]
    world.launch(vllm_args=[flag])
    world.launch(vllm_args=["--max-model-len", "2048"], idle_minutes=10)


def test_a_chat_template_should_not_be_given_twice(world: World) -> None:
    args = ["--seed", "1", "--chat-template", "model/chat.jinja"]
    assert "Set one of them" in wrong(world, args, chat_template="{{ messages }}")["vllm_args.3"]
    world.launch(vllm_args=args)
    world.launch(chat_template="{{ messages }}")


def test_a_wish_without_effect_should_be_said_before_and_after_a_launch(world: World) -> None:
    body = SEED | {"vllm_args": ["--ignore-patterns", "*.pth"], "idle_minutes": 60, "max_lifetime_minutes": 30}
    for path in ("/api/plans", "/api/instances/launch"):
        said = world.call("POST", path, body).json["warnings"]
        assert [text.partition(" has no effect")[0] for text in said[-2:]] == ["--ignore-patterns", "idle_minutes"]
    assert not any("no effect" in text for text in world.call("POST", "/api/plans", SEED).json["warnings"])


def test_a_default_idle_rule_should_not_be_accepted_without_metrics_either() -> None:
    world = World(given=settings(GPULAUNCH_DEFAULT_IDLE_MINUTES="10"))
    assert "idle_minutes" in wrong(world, ["--disable-log-stats"])["vllm_args.0"]


@pytest.mark.parametrize("hidden", ["\u202egnp.exe", "a\u200bb", "a\u2028b", "\x9b2J"])
def test_an_argument_should_hold_nothing_that_cannot_be_seen(world: World, hidden: str) -> None:
    assert wrong(world, ["--response-role", hidden])
