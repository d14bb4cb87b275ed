"""Which files of a repository are needed, and which are missing."""

import pytest

from shared.model_sources.weights import is_weight, missing_shards, some, wanted


@pytest.mark.parametrize(
    ("names", "args", "kept"),
    [
        (["a.safetensors", "a.bin", "pytorch_model.bin.index.json", "x.json"], [], ["a.safetensors", "x.json"]),
        (["a.bin", "a.pth", "x.model"], [], ["a.bin", "x.model"]),
        (
            ["original/a.pth", "onnx/a.onnx", "q.gguf", ".gitattributes", "README.md", "a.safetensors"],
            [],
            ["a.safetensors"],
        ),
        (["model-1.safetensors", "consolidated.safetensors"], [], ["model-1.safetensors"]),
        *(
            (["model-1.safetensors", "consolidated.safetensors", "params.json"], args, [kept, "params.json"])
            for args, kept in (
                (["--load-format", "mistral"], "consolidated.safetensors"),
                (["--load_format=mistral", "--config-format=mistral"], "consolidated.safetensors"),
                (["--config-format=mistral", "--tokenizer-mode", "mistral"], "consolidated.safetensors"),
                # A parser of tool calls is not a form of the weights.
                (["--enable-auto-tool-choice", "--tool-call-parser", "mistral"], "model-1.safetensors"),
                (["--tokenizer-mode=mistral"], "model-1.safetensors"),
            )
        ),
        # vLLM looks for no other form than the one it is told.
        (["a.safetensors", "a.bin"], ["--load-format=npcache"], ["a.bin"]),
        (["a.safetensors", "a.pt", "a.bin"], ["--load-format", "pt"], ["a.pt"]),
        (["a.bin", "x.json"], ["--load-format=safetensors"], ["x.json"]),
        (["a.safetensors", "2_Dense/a.bin"], ["--load-format=safetensors"], ["a.safetensors", "2_Dense/a.bin"]),
        (["consolidated.safetensors", "params.json"], [], ["consolidated.safetensors", "params.json"]),
        # The projections of an embedding model, beside weights of another form.
        (
            [
                "2_Dense/config.json",
                "2_Dense/pytorch_model.bin",
                "config.json",
                "model.safetensors",
                "pytorch_model.bin",
            ],
            [],
            ["2_Dense/config.json", "2_Dense/pytorch_model.bin", "config.json", "model.safetensors"],
        ),
        (
            ["2_Dense/model.safetensors", "2_Dense/pytorch_model.bin", "pytorch_model.bin"],
            [],
            ["2_Dense/model.safetensors", "pytorch_model.bin"],
        ),
        (
            ["text/consolidated.safetensors", "model.safetensors"],
            [],
            ["text/consolidated.safetensors", "model.safetensors"],
        ),
        # What a training left behind.
        (
            ["checkpoint-500/model.safetensors", "optimizer.pt", "training_args.bin", "model.safetensors"],
            [],
            ["model.safetensors"],
        ),
        (["pytorch_model.bin", "scheduler.pt", "rng_state_0.pth"], [], ["pytorch_model.bin"]),
        (
            ["modeling_x.py", "sub/config.json", "chat_template.jinja"],
            [],
            ["modeling_x.py", "sub/config.json", "chat_template.jinja"],
        ),
    ],
)
def test_of_the_hub_only_what_vllm_needs_is_wanted(names: list[str], args: list[str], kept: list[str]) -> None:
    assert wanted(names, args) == kept


FIRST, SECOND = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
INDEX = "model.safetensors.index.json"


@pytest.mark.parametrize(
    ("names", "lists", "missing"),
    [
        ([FIRST, SECOND, INDEX], {INDEX: [FIRST, SECOND]}, []),
        ([FIRST, INDEX], {INDEX: [FIRST, SECOND]}, [SECOND]),
        ([SECOND], {}, [FIRST]),
        ([INDEX], {INDEX: [FIRST, SECOND]}, [FIRST, SECOND]),
        # Another form's index, and a folder whose weights are in one file.
        (["model.safetensors", INDEX], {INDEX: [FIRST, SECOND]}, []),
        (["model.safetensors"], {}, []),
        (["2_Dense/model-00001-of-00002.safetensors"], {}, ["2_Dense/model-00002-of-00002.safetensors"]),
        (["a-00001-of-99999.safetensors"], {}, []),
    ],
)
def test_missing_shards_should_be_found(names: list[str], lists: dict[str, list[str]], missing: list[str]) -> None:
    assert missing_shards(names, lists) == missing


def test_weights_of_the_model_itself_should_be_those_at_the_top() -> None:
    names = [
        "model.safetensors",
        "pytorch_model.bin",
        "2_Dense/model.safetensors",
        "adapter_model.safetensors",
        "a.json",
    ]
    assert [name for name in names if is_weight(name)] == ["model.safetensors", "pytorch_model.bin"]


def test_long_lists_should_be_cut() -> None:
    assert some(["a", "b", "c", "d", "e"]) == "a, b, c and 2 more"
    assert some(["a"]) == "a"
