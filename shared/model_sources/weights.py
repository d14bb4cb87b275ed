"""Which files of a repository vLLM needs, and which are missing. Pure."""

import re
from collections.abc import Collection, Mapping, Sequence

from gpulaunch.models.option_values import last_values

WEIGHTS = re.compile(r"\.(safetensors|bin|pt|pth|ckpt)$")
_PICKLES = re.compile(r"\.(bin|pth|pt|ckpt)$|\.bin\.index\.json$")
_UNREAD_FOLDERS = ("original/", "onnx/", "openvino/", "assets/", "figures/", "coreml/", "tf/", "flax/", "runs/")
_UNREAD_FOLDER = re.compile(r"(^|/)(checkpoint-\d+|global_step\d+|logs)/")
"""Of a training that went on."""
_UNREAD = re.compile(
    r"\.(gguf|onnx|onnx_data|h5|msgpack|ot|tflite|mlmodel|md|png|jpe?g|gif|svg|pdf|mp4|parquet|ipynb)$"
    r"|(^|/)(training_args\.bin|(optimizer|scheduler|scaler)\.(bin|pt)|rng_state[^/]*\.pth)$"
)
_MISTRAL = r"(^|/)consolidated[^/]*\.safetensors$"
_OF_FORMAT: Mapping[str, re.Pattern[str]] = {
    "mistral": re.compile(_MISTRAL),
    "pt": re.compile(r"\.pt$"),
    "npcache": re.compile(r"\.bin$"),
    **dict.fromkeys(("safetensors", "fastsafetensors", "instanttensor"), re.compile(r"\.safetensors$")),
}
"""The only weights that vLLM looks for with `--load-format`; with others it takes what is there."""
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


def load_format(args: Sequence[str]) -> str:
    """The form in which vLLM wants the weights: Mistral's own comes with its configuration."""
    given = last_values(args)
    asked = given.get("load-format", "auto").lower()
    return "mistral" if asked == "auto" and given.get("config-format") == "mistral" else asked


def _second_choice(names: Sequence[str], args: Sequence[str]) -> list[str]:
    """The files of one folder that hold what others of it hold as well."""
    form = _OF_FORMAT.get(load_format(args))
    at_the_top = any("/" not in name for name in names)
    if form is not None and (at_the_top or any(map(form.search, names))):
        return [name for name in names if WEIGHTS.search(name) and not form.search(name)]
    safetensors = [name for name in names if name.endswith(".safetensors")]
    if not safetensors:
        pickled = any(name.endswith(".bin") for name in names)
        return [name for name in names if pickled and name.endswith((".pth", ".ckpt"))]
    second = [name for name in names if _PICKLES.search(name)]
    # Mistral's repositories hold every weight twice; the second set is for its own loader.
    own = [name for name in safetensors if re.search(_MISTRAL, name)]
    if len(own) < len(safetensors):
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


def no_weights(name: str, args: Sequence[str]) -> str:
    """What is wrong with a source without weights for these arguments."""
    form = load_format(args)
    if form in _OF_FORMAT:
        return f"{name}: no weights for --load-format={form}; leave the option out"
    return f"{name}: no weights that vLLM can load (safetensors or bin)"


def some(names: Sequence[str]) -> str:
    """Names for a message: the first few."""
    shown = ", ".join(names[:_MISSING_SHOWN])
    return shown if len(names) <= _MISSING_SHOWN else f"{shown} and {len(names) - _MISSING_SHOWN} more"
