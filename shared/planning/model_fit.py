"""Whether a model fits a machine, from what was found of it: GPU memory, the host's memory, the disk. Pure.

Only what cannot be is refused here; what may be tight is a warning of `gpu_fit`, which knows the name alone.

    least memory of a GPU = ((weights + one shortest context) / GPUs that share them + 1 GiB) / share that vLLM takes
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from gpulaunch.models.offers import Offer
from gpulaunch.models.option_values import last_values
from gpulaunch.models.requests import LaunchRequest
from shared.domain.model import ModelFacts
from shared.planning.gpu_fit import weights_gib
from shared.planning.memory_use import BYTES, MemoryUse, memory_use

_GIB = 2**30
_SHORTEST = 2048
"""Tokens of the shortest useful context; vLLM itself takes the longest that fits."""
_WIDTHS: Mapping[str, float] = {
    **dict.fromkeys(("F64", "I64", "U64"), 8.0),
    **dict.fromkeys(("F32", "I32", "U32"), 4.0),
    **dict.fromkeys(("F16", "BF16", "I16", "U16"), 2.0),
    **dict.fromkeys(("F8_E4M3", "F8_E5M2", "F8_E8M0", "I8", "U8", "BOOL"), 1.0),
    **dict.fromkeys(("F4", "I4", "U4"), 0.5),
}
"""Bytes of a stored number, by its type's name in safetensors."""
_FLOATS = ("F64", "F32", "F16", "BF16")
NODE_DISK_GIB = 40
"""Of a node beside the model: the image with CUDA 25 GiB, vLLM and PyTorch unpacked 12, compiled kernels and logs."""
SPARE_DISK_GIB = 20
"""More than that by default: a full disk stops a node that is paid for."""
DEFAULT_DISK_GIB = 256
"""SkyPilot's own default, which is asked for at least."""
_BASE_HOST_GIB = 4.0
_WORKER_HOST_GIB = 2.0
"""Resident memory of vLLM's API server and engine, and of the worker of each GPU."""


@dataclass(frozen=True, kw_only=True)
class ModelNeed:
    gpu_gib: float
    """Of each GPU that is used, at least."""
    gpus: int
    host_gib: float
    disk_gib: int
    basis: str
    """What this is derived from, for people."""

    def against(self, offer: Offer, disk_gib: int | None) -> str | None:
        """Why an offer's machine cannot serve the model, or None."""
        if self.gpus > offer.gpu_count:
            return f"vllm_args use {self.gpus} GPUs, and the machine has {offer.gpu_count}"
        if offer.gpu_memory_gib is not None and self.gpu_gib > offer.gpu_memory_gib:
            each = " on each GPU" if self.gpus > 1 else ""
            return (
                f"it needs at least {self.gpu_gib:.1f} GiB{each}, and the {offer.gpu} has {offer.gpu_memory_gib:g} GiB"
            )
        if offer.memory_gib is not None and self.host_gib > offer.memory_gib:
            return (
                f"it needs {self.host_gib:.0f} GiB of the host's memory, and the machine has {offer.memory_gib:g} GiB"
            )
        if disk_gib is not None and disk_gib < self.disk_gib:
            return f"it needs {self.disk_gib} GiB of disk, and disk_size is {disk_gib}"
        return None


def model_need(facts: ModelFacts, vllm_args: Sequence[str], gpus: int | None = None) -> ModelNeed | None:
    """Return what a model needs, shared by so many GPUs, by default as the arguments say; None if they are invalid."""
    using = memory_use(vllm_args)
    if using is None:
        return None
    shared = gpus or using.gpus
    weights = (_weights(facts, using) + facts.draft_bytes) / _GIB
    cache = _cache_bytes(facts) * (using.tokens or _SHORTEST) / using.narrow / _GIB
    held = max(0.0, weights / shared - using.offloaded_gib) + cache / shared + 1.0
    host = _BASE_HOST_GIB + shared * (_WORKER_HOST_GIB + min(using.offloaded_gib, weights / shared)) + using.host_gib
    if facts.pickled:
        host += shared * facts.largest_bytes / _GIB
    return ModelNeed(
        gpu_gib=round(held / using.share, 1),
        gpus=shared,
        host_gib=host,
        disk_gib=math.ceil(facts.total_bytes / _GIB) + NODE_DISK_GIB,
        basis=_basis(facts, weights),
    )


def contradiction(facts: ModelFacts, vllm_args: Sequence[str]) -> tuple[str, str] | None:
    """Return what the arguments ask of a model that no machine can give, and what to do; None: nothing."""
    given, using = last_values(vllm_args), memory_use(vllm_args)
    tokens = None if using is None or any(name.startswith("hf-overrides") for name in given) else using.tokens
    if tokens is not None and facts.longest is not None and tokens > facts.longest:
        return (
            f"--max-model-len is {tokens}, and the model's context has {facts.longest} tokens",
            f"Set --max-model-len to {facts.longest} or less, or leave it out;",
        )
    shared = given.get("tensor-parallel-size", "")
    if facts.heads is not None and shared.isdecimal() and int(shared) and facts.heads % int(shared):
        return (
            f"--tensor-parallel-size is {shared}, which does not divide the model's {facts.heads} attention heads",
            f"Set --tensor-parallel-size to a divisor of {facts.heads};",
        )
    return None


def disk_gib(request: LaunchRequest, facts: ModelFacts | None) -> int:
    """Return the size of the node's disk: as requested, or by the model's size, as far as that is known."""
    if request.disk_size is not None:
        return request.disk_size
    model = facts.total_bytes / _GIB if facts is not None else weights_gib(request.model_name, request.model_source)
    if model is None:
        return DEFAULT_DISK_GIB
    return max(DEFAULT_DISK_GIB, math.ceil(model) + NODE_DISK_GIB + SPARE_DISK_GIB)


def would_fit(facts: ModelFacts, vllm_args: Sequence[str], offers: Iterable[Offer]) -> str | None:
    """Return the cheapest machine that the model fits, and how, for people; None if there is none."""
    using = memory_use(vllm_args)
    if using is None:
        return None
    for offer in sorted(offers, key=lambda one: (one.use_spot, one.price_per_hour, one.key)):
        for gpus in dict.fromkeys((using.gpus, offer.gpu_count)):
            if gpus != using.gpus and facts.heads is not None and facts.heads % gpus:
                continue
            need = model_need(facts, vllm_args, gpus)
            if need is not None and need.against(offer, None) is None:
                how = "" if gpus == using.gpus else f" with --tensor-parallel-size={gpus}"
                machine = f" ({offer.instance_type})" if offer.instance_type else ""
                price = f", {offer.price_per_hour:.4g} USD an hour" if offer.price_per_hour else ""
                return f"{offer.gpus}{machine}{how}{price}"
    return None


def _weights(facts: ModelFacts, using: MemoryUse) -> float:
    """Bytes of the weights on the GPUs, as vLLM loads them."""
    if not facts.parameters:
        return float(facts.weight_bytes)
    stored = {kind: count * _WIDTHS.get(kind, 2.0) for kind, count in facts.parameters.items()}
    floats = sum(count for kind, count in facts.parameters.items() if kind in _FLOATS)
    packed = sum(size for kind, size in stored.items() if kind not in _FLOATS)
    if packed == 0 and using.bits is not None:
        # vLLM quantizes what is stored as it is; the scales and some layers stay.
        return floats * BYTES[using.bits]
    # Numbers of 32 bits are taken as 16, unless the arguments ask for them.
    return packed + floats * (4.0 if using.bits == 32 else 2.0)


def _cache_bytes(facts: ModelFacts) -> float:
    """Of one token; a model that does not tell is taken for one with little, since only the certain is refused."""
    return facts.cache_bytes if facts.cache_bytes is not None else 16 * 1024


def _basis(facts: ModelFacts, weights: float) -> str:
    kinds = ", ".join(
        f"{count / 1e9:.3g} billion {kind}"
        for kind, count in sorted(facts.parameters.items(), key=lambda one: -one[1])[:2]
    )
    return f"{weights:.1f} GiB of weights" + (f": {kinds}" if kinds else "")
