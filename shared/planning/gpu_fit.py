"""Estimate a model's GPU memory from its name and vLLM's arguments, and whether a GPU has enough. Pure.

    need of each GPU = ((weights + cache of one full context) / GPUs that share them + 1 GiB) / share that vLLM takes

- **Parameters** are what the name says: `-7B`, `-0.5b`, `-135M`, `8x7B` (eight experts share a fifth of it),
  `30B-A3B` (all 30). A name that says nothing, or several things, gives no estimate and no warning.
- **Bytes a parameter**: 2; 4 with `--dtype float32`; 1.05 where name or `--quantization` say 8 bits, 0.6 for 4 bits,
  which have their scales beside them and some layers left as they were (a 70B model in AWQ has 0.56, an 8B one 0.71).
- **Cache**: 45 KiB times the root of the billions of parameters for a token at 16 bits, as models with grouped-query
  attention have: 127 KiB for Llama 3.1 8B (128 in truth), 376 for 70B (320), 255 for Qwen2.5 32B (256). vLLM does not
  start unless one context of `--max-model-len` fits in; without it, or with `auto`, 8,192 tokens are reckoned with,
  since the name does not say what the model's own context is. `--kv-cache-dtype fp8` halves it.
- **1 GiB** for activations and CUDA graphs; the **share** is `--gpu-memory-utilization`, 0.92 in vLLM 0.32.
- `--tensor-parallel-size` times `--pipeline-parallel-size` GPUs share weights and cache; vLLM uses one GPU unless told.
"""

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from gpulaunch.models.offers import Offer
from shared.planning.memory_use import BYTES, MemoryUse, memory_use

_GIB = 2**30
_CACHE_BYTES = 45 * 1024
"""Of a token's keys and values at 16 bits, for a billion parameters; grows with their square root."""
_TOKENS = 8192
_OVERHEAD_GIB = 1.0
_SHARED_EXPERTS = 0.8
"""Mixtral 8x7B has 46.7 billion parameters instead of 56, 8x22B 141 instead of 176."""

_COUNT = re.compile(r"(?<![a-z0-9.])(?:(\d{1,3})x)?(\d{1,4}(?:\.\d{1,3})?)(b|m)(?![a-z0-9])", re.IGNORECASE)
_EXPERTS = re.compile(r"\d+b-\d+e(?![a-z0-9])", re.IGNORECASE)
"""`17B-16E`: active parameters and number of experts, which does not determine the total."""
_MARKS: tuple[tuple[int, re.Pattern[str]], ...] = tuple(
    (bits, re.compile(rf"(?<![a-z0-9])(?:{words})(?![a-z0-9])", re.IGNORECASE))
    for bits, words in (
        (4, r"int4|4-?bit|w4a\d+|(?:nv|mx)?fp4|q4"),
        (8, r"int8|8-?bit|w8a\d+|(?:mx)?fp8|q8"),
        (4, r"awq|gptq|gpt-oss"),
    )
)


@dataclass(frozen=True)
class Need:
    per_gpu_gib: float
    """Memory of each GPU that is used."""
    gpus: int
    """Number of GPUs that vLLM uses."""
    basis: str
    """What the estimate is based on, for people."""


@dataclass(frozen=True, kw_only=True)
class Fit:
    need: Need
    gpu: str
    has_gib: float
    """Memory of each GPU; of several kinds the smallest."""
    gpus: int
    """GPUs of the machine."""

    @property
    def fits(self) -> bool:
        return self.need.per_gpu_gib <= self.has_gib and self.need.gpus <= self.gpus

    @property
    def words(self) -> str:
        each = " each" if self.need.gpus > 1 else ""
        return f"needs about {math.ceil(self.need.per_gpu_gib)} GiB{each}, has {self.has_gib:g} GiB"

    @property
    def warning(self) -> str | None:
        """Return what is wrong and what to do, or None if it fits."""
        if self.need.gpus > self.gpus:
            return f"vllm_args request {self.need.gpus} GPUs, but the machine has {self.gpus}."
        if self.fits:
            return None
        advice = "Use a larger GPU, a quantized model or a shorter --max-model-len."
        if self.gpus > self.need.gpus:
            used = "one" if self.need.gpus == 1 else str(self.need.gpus)
            advice = (
                f"vLLM uses {used} of {self.gpus} GPUs; add --tensor-parallel-size={self.gpus} to vllm_args to use all."
            )
        return f"The model may not fit: it {self.words} on the {self.gpu} ({self.need.basis}). {advice}"


def need(model_name: str, model_source: str | None, vllm_args: Sequence[str]) -> Need | None:
    """Return what a model needs; None if its name or arguments do not determine it."""
    name = _speaking_name(model_name, model_source)
    billions = parameters(name)
    using = memory_use(vllm_args)
    bits = _bits(name, using)
    if billions is None or bits is None or using is None:
        return None
    tokens = using.tokens or _TOKENS
    weights = _weights_gib(billions, bits)
    cache = _CACHE_BYTES * math.sqrt(billions) * tokens / using.narrow / _GIB
    held = max(0.0, weights / using.gpus - using.offloaded_gib) + cache / using.gpus + _OVERHEAD_GIB
    basis = f"{billions:g} billion parameters at {bits} bits, a context of {tokens:,} tokens"
    return Need(round(held / using.share, 1), using.gpus, basis)


def weights_gib(model_name: str, model_source: str | None) -> float | None:
    """Return the size of a model's files as its name has it; None if it does not determine it."""
    name = _speaking_name(model_name, model_source)
    billions, bits = parameters(name), _bits(name, memory_use(()))
    return None if billions is None or bits is None else _weights_gib(billions, bits)


def _speaking_name(model_name: str, model_source: str | None) -> str:
    """Return the name that has the number of parameters, the source's folder first; empty if neither has it."""
    folder = (model_source or "").rstrip("/").rpartition("/")[2]
    return next((one for one in (folder, model_name) if parameters(one) is not None), "")


def _weights_gib(billions: float, bits: int) -> float:
    return billions * 10**9 * BYTES[bits] / _GIB


def fit(needed: Need | None, planned: Iterable[Offer]) -> Fit | None:
    known = [(one.gpu_memory_gib, one.gpu_count, one.gpu) for one in planned if one.gpu_memory_gib is not None]
    if needed is None or not known:
        return None
    has_gib, gpus, gpu = min(known)
    return Fit(need=needed, gpu=gpu, has_gib=has_gib, gpus=gpus)


def parameters(name: str) -> float | None:
    """Return the billions of parameters in a name; None if there is no number, or several."""
    if _EXPERTS.search(name):
        return None
    found: set[float] = set()
    small: set[float] = set()
    for experts, number, unit in _COUNT.findall(name):
        size = float(number) * (int(experts) * _SHARED_EXPERTS if experts else 1)
        # `-1M` is as often a context length as a size.
        (found if unit in "bB" else small).add(size if unit in "bB" else size / 1000)
    sizes = found or {size for size in small if size >= 0.01}
    return sizes.pop() if len(sizes) == 1 and 0 < min(sizes) < 10_000 else None


def _bits(name: str, using: MemoryUse | None) -> int | None:
    """Return the bits per parameter; None if neither the name nor the quantization determines them."""
    marked = next((bits for bits, pattern in _MARKS if pattern.search(name)), None)
    return marked if marked is not None else using and using.bits
