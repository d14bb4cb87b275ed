"""What a model's configuration tells."""

from typing import Any

import pytest

from shared.model_sources.configuration import adapter_rank, heads, longest_context

MOST = {"max_position_embeddings": 4096}
LLAMA = {"rope_type": "llama3", "factor": 8.0}


@pytest.mark.parametrize(
    ("config", "longest"),
    [
        (MOST, 4096),
        ({"text_config": MOST, "max_position_embeddings": 77}, 4096),
        ({**MOST, "rope_scaling": None}, 4096),
        ({**MOST, "rope_scaling": LLAMA}, 4096),
        ({**MOST, "rope_parameters": {"rope_theta": 10000.0}}, 4096),
        ({**MOST, "rope_parameters": {"full_attention": LLAMA, "sliding_attention": {"rope_type": "default"}}}, 4096),
        # Here vLLM, or some version of it, has a longer one.
        ({**MOST, "rope_scaling": {"type": "linear", "factor": 2.0}}, None),
        ({**MOST, "rope_scaling": {"factor": 2.0}}, None),
        ({**MOST, "rope_parameters": {"rope_type": "yarn", "factor": 4.0}}, None),
        ({**MOST, "rope_parameters": {"full_attention": {"rope_type": "dynamic", "factor": 2.0}}}, None),
        ({**MOST, "rope_scaling": "linear"}, None),
        ({**MOST, "model_max_length": 8192}, None),
        ({"max_position_embeddings": "4096"}, None),
        ({}, None),
    ],
)
def test_the_longest_context_should_be_known_only_where_it_is_certain(
    config: dict[str, Any], longest: int | None
) -> None:
    assert longest_context(config) == longest


def test_heads_should_be_those_of_the_language_model() -> None:
    assert heads({"num_attention_heads": 32}) == 32
    assert heads({"num_attention_heads": 16, "text_config": {"num_attention_heads": 40}}) == 40
    assert heads({"num_attention_heads": [32, 16]}) is None


@pytest.mark.parametrize(
    ("text", "rank"),
    [
        (b'{"r": 64}', 64),
        (b'{"r": 8, "rank_pattern": {"q": 128, "v": 4}}', 128),
        (b'{"r": "64"}', None),
        (b'{"r": 64, "rank_pattern": [1]}', 64),
        (b"{}", None),
        (b"[1]", None),
        (b"<html>", None),
        (b"[" * 100_000, None),
    ],
)
def test_the_rank_of_an_adapter_should_be_its_highest(text: bytes, rank: int | None) -> None:
    assert adapter_rank(text) == rank
