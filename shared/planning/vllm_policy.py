"""Which arguments of vLLM a launch may have. Pure.

An allow-list: an option passes if it is known and free of harm. Options that open addresses, run code or touch the
node's files pass where the operator allows them by name, as do options of another vLLM than the table's. Those that
gpulaunch sets itself are refused before, by the request's own model.

Arguments that vLLM's parser would refuse are refused too: on the node that takes minutes of a paid GPU to find out.
"""

import difflib
import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, cast

from gpulaunch.models.problems import FieldError
from gpulaunch.models.vllm_arguments import FLAGS, Given, Option, abbreviated, read
from gpulaunch.models.vllm_options import VERSION
from shared.planning.vllm_values import wrong_value

SETTING = "GPULAUNCH_ALLOWED_VLLM_OPTIONS"

_WHY: Mapping[str, str] = {
    "network": "makes vLLM listen on, or call, other addresses than the endpoint's",
    "code": "lets vLLM run code that comes with the model, the launch or a request",
    "files": "makes vLLM read or write files of the node",
    "unreviewed": "has not been reviewed",
}
_KEYS: Mapping[str, str] = {
    "--compilation-config": """
mode level custom_ops splitting_ops compile_mm_encoder cudagraph_mm_encoder compile_sizes compile_ranges_endpoints
cudagraph_mode cudagraph_num_of_warmups cudagraph_capture_sizes cudagraph_copy_inputs cudagraph_specialize_lora
max_cudagraph_capture_size use_inductor_graph_partition pass_config dynamic_shapes_config fast_moe_cold_start
encoder_cudagraph_token_budgets encoder_cudagraph_max_vision_items_per_batch encoder_cudagraph_max_frames_per_batch
""",
    "--speculative-config": """
method model num_speculative_tokens draft_tensor_parallel_size quantization max_model_len revision enforce_eager
prompt_lookup_max prompt_lookup_min parallel_drafting disable_padded_drafter_batch attention_backend moe_backend
kv_cache_dtype suffix_decoding_max_tree_depth suffix_decoding_max_cached_requests suffix_decoding_max_spec_factor
suffix_decoding_min_token_prob rejection_sample_method draft_sample_method use_local_argmax_reduction
use_heterogeneous_vocab
""",
    "--structured-outputs-config": """
backend disable_any_whitespace disable_additional_properties reasoning_parser enable_in_reasoning
""",
}
"""Configurations of which only some keys are free: the others name classes to import, plugins and folders."""
_IMPORTS = {"--speculative-config": "custom_class", "--spec-method": "custom_class"}
"""Values with which another value is the name of a class to import."""
_TEMPLATE = "--chat-template"
_NEEDS: Mapping[str, str] = {
    "--lora-modules": "--enable-lora",
    "--default-mm-loras": "--enable-lora",
    "--enable-auto-tool-choice": "--tool-call-parser",
    "--enable-log-outputs": "--enable-log-requests",
}
"""Options with which vLLM ends, once the model is loaded or before, unless another one is given."""


def refusals(args: Sequence[str], allowed: Collection[str] = ()) -> list[FieldError]:
    """Return what is wrong with `vllm_args`, one entry for each wrong argument.

    `allowed` are names of options that the operator allows, such as `--trust-remote-code`.
    """
    found: dict[int, FieldError] = {}
    for place, given, values in _grouped(args):
        message, nearest = _wrong(given, values, allowed)
        if message:
            found[place] = FieldError(field=f"vllm_args.{place}", message=message, nearest=nearest)
    for place, message in _alone(args):
        found.setdefault(place, FieldError(field=f"vllm_args.{place}", message=message))
    return [found[place] for place in sorted(found)]


def _alone(args: Sequence[str]) -> Iterator[tuple[int, str]]:
    """Yield the places of options that another one is missing for."""
    places: dict[str, int] = {}
    for place, given, _ in _grouped(args):
        option = None if given is None else FLAGS.get(given.flag)
        if given is None or option is None:
            continue
        if option.takes == "b" and given.flag.startswith("--no-"):
            places.pop(option.name, None)
        else:
            places[option.name] = place
    for name, needed in _NEEDS.items():
        if name in places and needed not in places:
            yield places[name], f"{name} needs {needed}. Add it, or remove {name}."


def _grouped(args: Sequence[str]) -> Iterator[tuple[int, Given | None, list[str]]]:
    """Yield each option with its values, and values that belong to none, with the option's place."""
    place, given, values = 0, None, list[str]()
    for index, entry in enumerate(args):
        option = read(entry)
        if option is None:
            values.append(entry)
            continue
        if given is not None or values:
            yield place, given, values
        place, given, values = index, option, []
    if given is not None or values:
        yield place, given, values


def _wrong(given: Given | None, values: Sequence[str], allowed: Collection[str]) -> tuple[str, list[str]]:
    """Return what is wrong with an option and its values ("": nothing), and the nearest right names."""
    if given is None:
        return f"{_short(values[0])} is not an option; options begin with --.", []
    option = FLAGS.get(given.flag)
    if option is None:
        return ("", []) if given.flag in allowed else _unknown(given.flag)
    count = _miscounted(given, option, values)
    if count or option.name in allowed:
        return count, []
    if option.kind == "secret":
        return f"{option.name} takes a secret, and launches are stored and shown. Set HF_TOKEN in the app instead.", []
    if option.kind != "free":
        why = _WHY.get(option.kind, "is not allowed")
        return f"{option.name} {why}. Remove it, or ask the operator to allow it in {SETTING}.", []
    outside = _bad_value(given, option, values)
    return (outside, []) if outside else _not_taken(given, option, values)


def _unknown(flag: str) -> tuple[str, list[str]]:
    if re.fullmatch(r"-\d*", flag):
        return "Write a negative number with a decimal point behind its option: --option=-0.5.", []
    meant = abbreviated(flag)
    if meant:
        return f"{flag} is not complete. Write the name in full.", meant[:3]
    near = difflib.get_close_matches(flag, FLAGS, n=3, cutoff=0.7)
    message = (
        f"vLLM {VERSION} has no option {_short(flag)}. "
        f"Write each option and each value as an entry of its own, or ask the operator to allow it in {SETTING}."
    )
    return message, near


def _miscounted(given: Given, option: Option, values: Sequence[str]) -> str:
    """Say what is wrong with the number of values, as argparse counts them; "": nothing."""
    takes = option.takes if not given.keys else "1"
    if given.keys and option.takes != "j":
        return f"{option.name} takes no keys; only options in JSON do."
    if takes in ("0", "b"):
        return f"{given.flag} takes no value." if values or given.value is not None else ""
    if given.value is not None:
        return f"{_short(values[0])} after {given.flag}=… belongs to no option." if values else ""
    if not values and takes != "?":
        return f"{given.flag} needs a value."
    if len(values) > 1 and takes != "+":
        return f"{given.flag} takes one value; {_short(values[1])} is another."
    return ""


def _bad_value(given: Given, option: Option, values: Sequence[str]) -> str:
    for value in [*([given.value] if given.value is not None else []), *values]:
        if option.name == _TEMPLATE and "{" in value:
            continue
        try:
            keys, texts = _parsed(value)
        except ValueError as error:
            return f"{option.name}: {error}"
        keys = [given.keys[0]] if given.keys else keys
        texts = [*texts, *given.keys]
        free = _KEYS.get(option.name)
        refused = [key for key in keys if free is not None and key not in free.split()]
        if refused:
            return (
                f"{option.name}: the key {_short(refused[0])} may name code or files of the node. "
                f"Remove it, or ask the operator to allow {option.name} in {SETTING}."
            )
        if _IMPORTS.get(option.name) in texts:
            return f"{option.name}: custom_class runs code. Ask the operator to allow {option.name} in {SETTING}."
        outside = next((text for text in texts if _leaves_the_model(text)), None)
        if outside is not None:
            return (
                f"{option.name}: {_short(outside)} is outside the model. Name a model of the Hub, or a file of the "
                f"model's folder as model/<file>; or ask the operator to allow {option.name} in {SETTING}."
            )
    return ""


def _not_taken(given: Given, option: Option, values: Sequence[str]) -> tuple[str, list[str]]:
    """Return what vLLM's parser refuses of values that would do no harm; JSON key by key is not known that well."""
    every = [] if given.keys else [*([given.value] if given.value is not None else []), *values]
    for value in every:
        message, nearest = wrong_value(option.name, value)
        if message:
            return message, nearest
    return "", []


def _parsed(value: str) -> tuple[list[str], list[str]]:
    """Return the top keys of a value in JSON, and all texts in it; of others the text, and its parts at `=` and `,`.

    Raises:
        ValueError: A key is given twice; which of them holds depends on the reader.
    """
    if not value.lstrip().startswith(("{", "[")):
        return [], [value, *re.split("[=,]", value)]
    try:
        parsed = json.loads(value, object_pairs_hook=_once)
    except json.JSONDecodeError:
        return [], [value]
    return list(cast("dict[str, Any]", parsed)) if isinstance(parsed, dict) else [], list(_texts(parsed))


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = [name for name, _ in pairs]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ValueError(f"the key {_short(twice)} is given twice.")
    return dict(pairs)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for name, inner in cast("dict[str, Any]", value).items():
            yield name
            yield from _texts(inner)
    elif isinstance(value, list):
        for inner in cast("list[Any]", value):
            yield from _texts(inner)


def _leaves_the_model(text: str) -> bool:
    """Whether a text is a path outside the work folder, or an address."""
    return text.startswith(("/", "~")) or "://" in text or ".." in text.split("/")


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else f"{text[:57]}…")
