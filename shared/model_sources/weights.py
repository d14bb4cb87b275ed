"""Which files of a repository vLLM needs, and which are missing. Pure."""

import re
from collections.abc import Collection, Mapping, Sequence

WEIGHTS = re.compile(r"\.(safetensors|bin|pt|pth|ckpt)$")
_PICKLES = re.compile(r"\.(bin|pth|pt|ckpt)$|\.bin\.index\.json$")
_UNREAD_FOLDERS = ("original/", "onnx/", "openvino/", "assets/", "figures/", "coreml/", "tf/", "flax/", "runs/")
_UNREAD_FOLDER = re.compile(r"(^|/)(checkpoint-\d+|global_step\d+|logs)/")
"""Of a training that went on."""
_UNREAD = re.compile(
    r"\.(gguf|onnx|onnx_data|h5|msgpack|ot|tflite|mlmodel|md|png|jpe?g|gif|svg|pdf|mp4|parquet|ipynb)$"
    r"|(^|/)(training_args\.bin|(optimizer|scheduler|scaler)\.(bin|pt)|rng_state[^/]*\.pth)$"
)
_SHARD = re.compile(r"(?P<stem>.*)-(?P<number>\d{5})-of-(?P<count>\d{5})(?P<ending>\.safetensors|\.bin)$")
_MISSING_SHOWN = 3


def wanted(names: Sequence[str], args: Sequence[str]) -> list[str]:
    """The files of a repository that vLLM needs: one kind of weights a folder, configuration, tokenizer, code.

    Folders are judged apart: vLLM reads the projections of embedding models from `2_Dense/pytorch_model.bin` though the
    model itself is in safetensors (https://github.com/vllm-project/vllm/issues/23408).
    """
    kept = [
        name
        for name in names
        if not name.startswith((".", *_UNREAD_FOLDERS)) and not _UNREAD_FOLDER.search(name) and not _UNREAD.search(name)
    ]
    folders: dict[str, list[str]] = {}
    for name in kept:
        folders.setdefault(name.rpartition("/")[0], []).append(name)
    unneeded = {name for folder in folders.values() for name in _second_choice(folder, args)}
    return [name for name in kept if name not in unneeded]


def _second_choice(names: Sequence[str], args: Sequence[str]) -> list[str]:
    """The files of one folder that hold what others of it hold as well."""
    safetensors = [name for name in names if name.endswith(".safetensors")]
    if not safetensors:
        pickled = any(name.endswith(".bin") for name in names)
        return [name for name in names if pickled and name.endswith((".pth", ".ckpt"))]
    second = [name for name in names if _PICKLES.search(name)]
    # Mistral's repositories hold every weight twice; the second set is for its own loader.
    own = [name for name in safetensors if name.rpartition("/")[2].startswith("consolidated")]
    if len(own) < len(safetensors) and not any("mistral" in arg for arg in args):
        second += [name for name in names if name.rpartition("/")[2].startswith("consolidated")]
    return second


def is_weight(name: str) -> bool:
    """Whether vLLM reads it as weights of the model itself, which are at the top."""
    return not name.startswith("adapter_") and "/" not in name and WEIGHTS.search(name) is not None


def indexes(names: Collection[str]) -> list[str]:
    """The lists of shards that count: those of the weights that are fetched."""
    return [name for name in names if "/" not in name and name.endswith((".safetensors.index.json", ".bin.index.json"))]


def missing_shards(names: Collection[str], lists: Mapping[str, Collection[str]]) -> list[str]:
    """The weights that an index or the other shards' names speak of, and that are not there.

    `lists` has each index' shards. An index that none of the files is in belongs to another form of the weights.
    """
    named: set[str] = set()
    for shards in lists.values():
        if any(shard in names for shard in shards) or not any(map(is_weight, names)):
            named.update(shards)
    for name in names:
        shard = _SHARD.fullmatch(name)
        if shard is not None and 0 < int(shard["count"]) <= 2000:
            every = range(1, int(shard["count"]) + 1)
            named.update(f"{shard['stem']}-{one:05}-of-{shard['count']}{shard['ending']}" for one in every)
    return sorted(named.difference(names))


def some(names: Sequence[str]) -> str:
    """Names for a message: the first few."""
    shown = ", ".join(names[:_MISSING_SHOWN])
    return shown if len(names) <= _MISSING_SHOWN else f"{shown} and {len(names) - _MISSING_SHOWN} more"
