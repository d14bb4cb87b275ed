"""What vLLM's arguments say about the memory that it takes. Pure."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gpulaunch.models.option_values import last_values

_SHARE = 0.92
"""Of a GPU's memory, vLLM 0.32's default."""
BYTES = {4: 0.6, 8: 1.05, 16: 2.0, 32: 4.0}
"""Bytes a parameter, by bits; quantized ones have their scales beside them."""
_METHODS: Mapping[str, int] = {
    **dict.fromkeys(("awq", "auto_awq", "awq_marlin", "gptq", "auto_gptq", "gptq_marlin", "bitsandbytes"), 4),
    **dict.fromkeys(("mxfp4", "gpt_oss_mxfp4", "modelopt_fp4", "nvfp4_per_token"), 4),
    **dict.fromkeys(("fp8", "fbgemm_fp8", "deepseek_v4_fp8", "modelopt", "experts_int8", "mxfp8", "modelopt_mxfp8"), 8),
    **dict.fromkeys(("fp8_per_tensor", "fp8_per_block", "fp8_per_channel", "int8_per_channel_weight_only"), 8),
}
"""Bits of `--quantization`; other methods do not determine them."""
_UNITS = {"": 1, "k": 1000, "K": 1024, "m": 10**6, "M": 2**20}


@dataclass(frozen=True, kw_only=True)
class MemoryUse:
    gpus: int
    """GPUs that share weights and cache."""
    tokens: int | None
    """Of the longest context; None: as long as fits."""
    narrow: int
    """By which the cache is smaller than at 16 bits."""
    offloaded_gib: float
    """Of each GPU's weights, in the host's memory."""
    host_gib: float
    """Of the host's memory beside that, for the cache."""
    share: float
    """Of a GPU's memory, that vLLM takes."""
    bits: int | None
    """Of a parameter that is not quantized yet; None: the quantization does not determine them."""


def memory_use(vllm_args: Sequence[str]) -> MemoryUse | None:
    """Return what arguments say; None if vLLM would not start with them."""
    given = last_values(vllm_args)
    share = _number(given.get("gpu-memory-utilization", ""), _SHARE)
    if not 0 < share <= 1:
        return None
    cached = given.get("kv-cache-dtype", "")
    return MemoryUse(
        gpus=_whole(given, "tensor-parallel-size", 1) * _whole(given, "pipeline-parallel-size", 1),
        tokens=_tokens(given.get("max-model-len", "")),
        narrow=4 if "4" in cached else 2 if "8" in cached else 1,
        offloaded_gib=_number(given.get("cpu-offload-gb", ""), 0.0),
        host_gib=_number(given.get("kv-offloading-size", ""), 0.0),
        share=share,
        bits=_bits(given),
    )


def _bits(given: Mapping[str, str]) -> int | None:
    method = given.get("quantization", "none").lower()
    if method != "none":
        return _METHODS.get(method)
    return 32 if given.get("dtype") in ("float", "float32") else 16


def _number(text: str, default: float) -> float:
    try:
        number = float(text)
    except ValueError:
        return default
    return number if math.isfinite(number) and number >= 0 else default


def _whole(given: Mapping[str, str], name: str, default: int) -> int:
    text = given.get(name, "")
    return int(text) if re.fullmatch(r"[1-9][0-9]{0,3}", text) else default


def _tokens(text: str) -> int | None:
    """Parse a length as vLLM does: 8192, 8k (8,000), 8K (8,192); None for `auto` or none."""
    match = re.fullmatch(r"(\d{1,9}(?:\.\d{1,3})?)([kKmM]?)", text)
    tokens = int(float(match[1]) * _UNITS[match[2]]) if match else 0
    return tokens or None
