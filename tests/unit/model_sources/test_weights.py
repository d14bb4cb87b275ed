"""Which files of a repository are needed, and which are missing."""

import pytest

from shared.model_sources.weights import wanted


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
        (
            ["model-1.safetensors", "consolidated.safetensors"],
            ["--load-format", "mistral"],
            ["model-1.safetensors", "consolidated.safetensors"],
        ),
        (["consolidated.safetensors", "params.json"], [], ["consolidated.safetensors", "params.json"]),
        (
            ["modeling_x.py", "sub/config.json", "chat_template.jinja"],
            [],
            ["modeling_x.py", "sub/config.json", "chat_template.jinja"],
        ),
    ],
)
def test_of_the_hub_only_what_vllm_needs_is_wanted(names: list[str], args: list[str], kept: list[str]) -> None:
    assert wanted(names, args) == kept
