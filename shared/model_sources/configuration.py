"""What a model's configuration tells of it. Pure; all of it is what strangers wrote."""

import json
from collections.abc import Mapping
from typing import Any, cast

_UNSCALED = frozenset({"default", "llama3", "su", "longrope"})
"""Kinds of rotary positions whose factor is not applied to `max_position_embeddings`, in any version of vLLM."""


def cache_bytes(config: Mapping[str, Any]) -> int | None:
    """Bytes of one token's keys and values at 16 bits, from a model's configuration; None if it does not tell."""
    given = _of_text(config)
    layers = whole(given, "num_hidden_layers")
    latent = whole(given, "kv_lora_rank")
    if layers is not None and latent is not None:
        # Multi-head latent attention keeps one compressed vector and one rotated key.
        return layers * (latent + (whole(given, "qk_rope_head_dim") or 0)) * 2
    heads = whole(given, "num_attention_heads")
    hidden, own = whole(given, "hidden_size"), whole(given, "head_dim")
    width = own or (hidden // heads if hidden is not None and heads else None)
    keys = whole(given, "num_key_value_heads") or heads
    return None if layers is None or width is None or keys is None else layers * keys * width * 2 * 2


def heads(config: Mapping[str, Any]) -> int | None:
    """Attention heads, which tensor parallelism divides; None if the configuration does not tell."""
    return whole(_of_text(config), "num_attention_heads")


def longest_context(config: Mapping[str, Any]) -> int | None:
    """The longest context that vLLM lets a model have, in tokens; None if it does not follow for certain."""
    given = _of_text(config)
    ropes = (given.get("rope_scaling"), given.get("rope_parameters"))
    if not all(map(_is_unscaled, ropes)) or given.get("model_max_length") is not None:
        return None
    return whole(given, "max_position_embeddings")


def _is_unscaled(rope: object) -> bool:
    if not isinstance(rope, dict):
        return rope is None
    given = cast("dict[str, object]", rope)
    kind = given.get("rope_type", given.get("type"))
    by_layer = all(not isinstance(one, dict) or _is_unscaled(cast("object", one)) for one in given.values())
    return by_layer and (kind in _UNSCALED or (kind is None and "factor" not in given))


def adapter_rank(text: bytes) -> int | None:
    """The highest rank in an adapter's configuration; None if it has none."""
    try:
        found: Any = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict):
        return None
    given = cast("dict[str, Any]", found)
    pattern: Any = given.get("rank_pattern")
    ranks = [given.get("r"), *(cast("dict[str, Any]", pattern).values() if isinstance(pattern, dict) else ())]
    return max((one for one in ranks if isinstance(one, int) and 0 < one < 2**20), default=None)


def _of_text(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The part about the language model, of one that sees or hears as well."""
    text: Any = config.get("text_config")
    return cast("Mapping[str, Any]", text) if isinstance(text, dict) else config


def whole(config: Mapping[str, Any], name: str) -> int | None:
    value = config.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 < value < 2**40 else None
