"""Small models as their sources hold them."""

import json
import math
import struct
from collections.abc import Mapping, Sequence

CONFIG = {
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "hidden_size": 4096,
    "max_position_embeddings": 131072,
}
WIDTHS = {"BF16": 2, "F32": 4, "I32": 4, "F8_E4M3": 1}


def tensors(shapes: Mapping[str, tuple[str, Sequence[int]]], cut: int = 0) -> bytes:
    """A safetensors file of zeros, without its last `cut` bytes."""
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, (kind, shape) in shapes.items():
        size = WIDTHS[kind] * math.prod(shape)
        header[name] = {"dtype": kind, "shape": list(shape), "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    whole = struct.pack("<Q", len(text)) + text + bytes(end)
    return whole[: len(whole) - cut]


def index(*shards: str) -> bytes:
    return json.dumps({"metadata": {}, "weight_map": {f"w{n}": shard for n, shard in enumerate(shards)}}).encode()


def config(**more: object) -> bytes:
    return json.dumps(CONFIG | more).encode()
