"""Inspect a model before a node is paid for: it exists, may be read, is complete; how large it is, and of what."""

import json
import math
import struct
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, cast

from gpulaunch.models.option_values import last_values
from gpulaunch.models.requests import LaunchRequest
from shared.domain.model import ExtraFacts, ModelFacts
from shared.domain.node import ModelFile
from shared.domain.references import MODEL_FOLDER, Reference, references
from shared.model_sources.base import BlobSource, BucketSource, ModelListing, Source, parse_source, refused
from shared.model_sources.configuration import adapter_rank, cache_bytes, heads, longest_context, whole
from shared.model_sources.files import SourceFiles
from shared.model_sources.weights import indexes, is_weight, missing_shards, no_weights, some, wanted

FIRST_BYTES = 128 * 1024
"""Read of a weight file's beginning at first; most headers are shorter."""
HEADER_BYTES = 8 * 1024 * 1024
"""Longest header that is read; one of hundreds of experts has 2 MB."""
_HEADERS_AT_ONCE = 8
_MOST_HEADERS = 256
"""Weight files whose headers are read; larger models have fewer, larger files."""
_CONFIGURATIONS = ("config.json", "params.json")
"""vLLM reads one of them; the second is Mistral's own."""
_ADAPTER = "adapter_config.json"
_PROOFS = (_ADAPTER, "config.json", "tokenizer_config.json", "tokenizer.json", "generation_config.json")
"""Small files that something beside the model has; reading one proves that we may read them all."""
_LORA_RANK, _LORA_RANKS = 16, (8, 16, 32, 64, 128, 256, 320, 512)
"""vLLM's default of `--max-lora-rank`, and what it may be."""
_POINTER = b"version https://git-lfs"


class SourceInspector:
    """Reads listings, configurations and the headers of weights; never the weights."""

    def __init__(self, files: SourceFiles) -> None:
        self._files = files

    def inspect(self, request: LaunchRequest) -> ModelFacts:
        """What there is to know about a request's model.

        Raises:
            LaunchRefusedError: A node could not serve it: it is not there, may not be read, or is incomplete.
            ProviderUnavailableError: No answer now.
        """
        source = parse_source(request)
        listing = self._files.listing(source, request.vllm_args)
        files = {file.path: file for file in listing.files}
        config = self._configuration(source, files)
        # A bucket may hold the weights in several forms; only the one that vLLM reads has to be whole.
        read = {path: files[path] for path in wanted(list(files), request.vllm_args)}
        weights = [file for path, file in read.items() if is_weight(path)]
        if not weights:
            raise refused(no_weights(source.name, request.vllm_args))
        self._check_shards(source, read)
        parameters = listing.parameters or self._parameters(source, weights)
        extras, held = self._extras(request, files)
        return ModelFacts(
            source=_name(source, listing),
            repository=listing.hub_model,
            commit=listing.commit,
            newest=listing.newest,
            total_bytes=sum(file.size or 0 for file in files.values()) + sum(extra.total_bytes for extra in extras),
            extras=extras,
            draft_bytes=held,
            weight_bytes=sum(file.size or 0 for file in weights),
            largest_bytes=max(file.size or 0 for file in weights),
            pickled=not any(file.path.endswith(".safetensors") for file in weights),
            parameters=_bounded(parameters),
            cache_bytes=cache_bytes(config),
            heads=heads(config),
            longest=longest_context(config),
            context=whole(config, "max_position_embeddings"),
        )

    def _extras(self, request: LaunchRequest, files: Mapping[str, ModelFile]) -> tuple[list[ExtraFacts], int]:
        """What the arguments name beside the model, and the bytes of its weights."""
        extras: list[ExtraFacts] = []
        held = 0
        for reference in references(request.vllm_args):
            if reference.local:
                check_local(reference, files)
                own = files.get(f"{reference.name.removeprefix(f'{MODEL_FOLDER}/')}/{_ADAPTER}")
                if reference.kind == "adapter" and own is not None:
                    of_model = parse_source(request)
                    check_rank(reference.name, self._files.read(of_model, own), request.vllm_args)
                continue
            source, listing = self._files.beside(reference, reference.name, reference.revision)
            there = {file.path: file for file in listing.files}
            proof = next((file for file in listing.files if file.path in _PROOFS), None)
            if reference.kind == "adapter" and _ADAPTER not in there:
                raise refused(f"{source.name} is not an adapter: it has no adapter_config.json")
            if proof is None:
                raise refused(f"{source.name} has none of {', '.join(_PROOFS)}, so vLLM cannot use it")
            text = self._files.read(source, proof)
            if reference.kind == "adapter":
                check_rank(source.name, text, request.vllm_args)
            if reference.kind == "draft":
                self._check_shards(source, there)
            size = sum(file.size or 0 for file in listing.files)
            held += size if reference.kind in ("adapter", "draft") else 0
            extras.append(
                ExtraFacts(
                    name=reference.name,
                    revision=reference.revision,
                    repository=listing.hub_model or reference.name,
                    commit=listing.commit,
                    total_bytes=size,
                )
            )
        return extras, held

    def _configuration(self, source: Source, files: Mapping[str, ModelFile]) -> Mapping[str, Any]:
        name = next((name for name in _CONFIGURATIONS if name in files), None)
        if name is None:
            advice = ""
            if _ADAPTER in files:
                advice = ", it is an adapter: launch its base model with --lora-modules"
            elif isinstance(source, BucketSource | BlobSource):
                inner = sorted({path.partition("/")[0] for path in files if path.endswith("/config.json")})
                advice = f", but {some(inner)} in it has one: add that to model_source" if inner else ""
            raise refused(f"{source.name}: there is no config.json{advice}")
        return _object(self._files.read(source, files[name]), f"{source.name}: {name}")

    def _check_shards(self, source: Source, files: Mapping[str, ModelFile]) -> None:
        lists = {name: self._shards(source, files[name]) for name in indexes(files)}
        missing = missing_shards(files, lists)
        if missing:
            named = len({*missing, *(shard for shards in lists.values() for shard in shards)})
            count = f"{len(missing)} of {named} weight files are" if len(missing) > 1 else "a weight file is"
            raise refused(f"{source.name} is incomplete: {count} missing ({some(missing)}); upload it again")
        empty = sorted(path for path, file in files.items() if is_weight(path) and file.size == 0)
        if empty:
            raise refused(f"{source.name} is incomplete: {some(empty)} is empty; upload it again")

    def _shards(self, source: Source, file: ModelFile) -> list[str]:
        where = f"{source.name}: {file.path}"
        places = _object(self._files.read(source, file), where).get("weight_map")
        if not isinstance(places, dict):
            raise refused(f"{where} is not an index of weights")
        return sorted({str(shard) for shard in cast("dict[str, Any]", places).values()})

    def _parameters(self, source: Source, weights: Sequence[ModelFile]) -> Mapping[str, int]:
        """The parameters by type, from the headers of all weights; empty when they have none that can be read."""
        tensors = [file for file in weights if file.path.endswith(".safetensors")]
        if not tensors or len(tensors) > _MOST_HEADERS:
            return {}
        with ThreadPoolExecutor(_HEADERS_AT_ONCE, thread_name_prefix="headers") as pool:
            counts = list(pool.map(partial(self._header, source), tensors))
        total: Counter[str] = Counter()
        for count in counts:
            if count is None:
                return {}
            total.update(count)
        return total

    def _header(self, source: Source, file: ModelFile) -> Mapping[str, int] | None:
        """One file's parameters by type; None: its header is longer than what is read.

        Eight bytes of length, a JSON object, then the tensors without gaps (https://huggingface.co/docs/safetensors).
        """
        where = f"{source.name}: {file.path}"
        size = file.size or 0
        start = self._files.read(source, file, 0, max(8, min(size, FIRST_BYTES)) - 1)
        if start.startswith(_POINTER):
            raise refused(
                f"{where} is a Git LFS pointer, not the weights; fetch them with `git lfs pull` and upload them"
            )
        length = struct.unpack("<Q", start[:8])[0] if len(start) >= 8 else 0
        if not 2 <= length <= max(0, size - 8):
            raise refused(f"{where} is not a safetensors file, or cut short; upload it again")
        if length > HEADER_BYTES:
            return None
        if length + 8 > len(start):
            start += self._files.read(source, file, len(start), length + 7)
        header = _object(start[8 : 8 + length], where)
        counts: Counter[str] = Counter()
        end = 0
        try:
            for name, tensor in header.items():
                if name != "__metadata__":
                    counts[str(tensor["dtype"])] += math.prod(tensor["shape"])
                    end = max(end, int(tensor["data_offsets"][1]))
        except (KeyError, TypeError, ValueError, IndexError):
            raise refused(f"{where} is not a safetensors file; upload it again") from None
        if size != 8 + length + end:
            raise refused(f"{where} is cut short: it has {size} bytes, its header {8 + length + end}; upload it again")
        return counts


def check_rank(name: str, text: bytes, args: Sequence[str]) -> None:
    """Check that vLLM takes adapters as large as one with this configuration.

    Raises:
        LaunchRefusedError: It does not; it would find out once the model is loaded.
    """
    rank, asked = adapter_rank(text), last_values(args).get("max-lora-rank", "")
    most = int(asked) if asked.isdecimal() else _LORA_RANK
    if rank is not None and rank > most:
        raise refused(f"{name} has rank {rank}, and vLLM takes up to {most}; add --max-lora-rank={_next_rank(rank)}")


def _next_rank(rank: int) -> int:
    return next((one for one in _LORA_RANKS if one >= rank), rank)


def check_local(reference: Reference, files: Collection[str]) -> None:
    """Check that the model's folder has what an argument names in it.

    Raises:
        LaunchRefusedError: It has not.
    """
    path = reference.name.removeprefix(f"{MODEL_FOLDER}/")
    if path == MODEL_FOLDER or path in files or any(name.startswith(f"{path}/") for name in files):
        return
    alike = sorted(name for name in files if name.endswith(".jinja")) if reference.kind == "template" else []
    has = f"; it has {some(alike)}" if alike else ""
    raise refused(f"the model's folder has no {path}, which vllm_args name{has}")


def _bounded(parameters: Mapping[str, int]) -> dict[str, int]:
    """The commonest types; a listing or header that makes things up does not fill a record."""
    real = [(kind, count) for kind, count in parameters.items() if len(kind) <= 20 and 0 < count < 2**53]
    return dict(sorted(real, key=lambda one: -one[1])[:10])


def _object(text: bytes, where: str) -> Mapping[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise refused(f"{where} is not a JSON object; upload it again")
    return cast("Mapping[str, Any]", found)


def _name(source: Source, listing: ModelListing) -> str:
    if listing.commit is None:
        return source.name
    return f"hf://{listing.hub_model}@{listing.commit}"
