"""What vLLM's arguments name beside the model."""

import json

import pytest

from shared.domain.references import Reference, localized, references, without_effect


def adapter(name: str) -> Reference:
    return Reference(kind="adapter", name=name)


@pytest.mark.parametrize(
    ("args", "found"),
    [
        (["--enable-lora", "--lora-modules", "sql=my-org/private-lora"], [adapter("my-org/private-lora")]),
        (["--lora-modules=a=o/x", "--seed", "1"], [adapter("o/x")]),
        (["--lora-modules", "a=o/x", "b=o/y", "--seed", "1"], [adapter("o/x"), adapter("o/y")]),
        (["--lora_modules", '{"name": "a", "path": "o/x", "base_model_name": "o/m"}'], [adapter("o/x")]),
        (["--default-mm-loras", '{"audio": "o/x"}'], [adapter("o/x")]),
        (
            ["--speculative-config", '{"model": "o/d", "num_speculative_tokens": 3}'],
            [Reference(kind="draft", name="o/d")],
        ),
        (["-sc", '{"model": "o/d", "revision": "v1"}'], [Reference(kind="draft", name="o/d", revision="v1")]),
        (["--speculative-config.model", "o/d"], [Reference(kind="draft", name="o/d")]),
        (["--tokenizer", "o/t", "--tokenizer-revision=v2"], [Reference(kind="tokenizer", name="o/t", revision="v2")]),
        (["--tokenizer=gpt2"], [Reference(kind="tokenizer", name="gpt2")]),
        (["--chat-template=chat.jinja"], [Reference(kind="template", name="chat.jinja", local=True)]),
        (["--lora-modules", "a=model/adapters/x"], [Reference(kind="adapter", name="model/adapters/x", local=True)]),
        # Not names of anything that is fetched.
        (["--generation-config", "vllm", "--tokenizer-mode", "auto", "--chat-template", "{{ messages }}"], []),
        (["--speculative-config", '{"method": "ngram", "num_speculative_tokens": 3}'], []),
        (["--chat-template="], []),
        (["--chat-template=/opt/chat.jinja"], []),
        (["--lora-modules", "a=/opt/adapter", "--dtype", "o/x", "--speculative-config", "not json"], []),
    ],
)
def test_what_vllm_would_fetch_itself_should_be_found(args: list[str], found: list[Reference]) -> None:
    assert references(args) == found


def test_arguments_should_name_what_is_on_the_node() -> None:
    args = [
        "--lora-modules",
        "a=o/x",
        '{"name": "b", "path": "o/y"}',
        "--revision",
        "v1",
        "--tokenizer=o/t",
        "--seed",
        "1",
    ]
    made = localized(args, lambda reference: f"/models/{reference.name[-1]}")
    assert made[:2] == ["--lora-modules", "a=/models/x"]
    assert json.loads(made[2]) == {"name": "b", "path": "/models/y"}
    assert made[3:] == ["--tokenizer=/models/t", "--seed", "1"]
    assert localized(["--revision=v1", "--seed", "1"], lambda _: "") == ["--seed", "1"]


def test_a_revision_in_json_should_go_with_the_repository_that_it_is_of() -> None:
    _, draft = localized(["-sc", '{"model": "o/d", "revision": "v1", "method": "mtp"}'], lambda _: "/models/d")
    assert json.loads(draft) == {"model": "/models/d", "method": "mtp"}
    _, kept = localized(["-sc", '{"model": "/opt/d", "revision": "v1"}'], lambda _: "/models/d")
    assert json.loads(kept) == {"model": "/opt/d", "revision": "v1"}


@pytest.mark.parametrize(
    ("args", "source", "why"),
    [
        (["--revision", "v1"], "r2://b/m", "no effect on r2://b/m"),
        (["--revision=v1"], "hf://o/m@v2", "contradicts"),
        (["--tokenizer-revision", "v1"], None, "without --tokenizer"),
        (["--code-revision", "v1"], None, "--code-revision has no effect"),
    ],
)
def test_options_without_effect_should_be_refused(args: list[str], source: str | None, why: str) -> None:
    assert [why in message for _, message in without_effect(args, source)] == [True]


@pytest.mark.parametrize(
    ("args", "source"),
    [
        (["--revision", "v1"], None),
        (["--revision", "v1"], "hf://o/m"),
        (["--revision", "v1"], "hf://o/m@v1"),
        (["--tokenizer", "o/t", "--tokenizer-revision", "v1"], "r2://b/m"),
        (["--seed", "1"], "r2://b/m"),
    ],
)
def test_options_with_an_effect_should_not_be_refused(args: list[str], source: str | None) -> None:
    assert not list(without_effect(args, source))
