"""Which values of vLLM's options its parser takes. Pure.

On the node a wrong one is found only once vLLM is installed and started, after minutes that are paid for.
"""

import difflib
import json
import re
from collections.abc import Mapping, Sequence

from gpulaunch.models.vllm_options import KINDS, VALUES, VERSION

_UNSET = ("", "None")
"""How an optional value is left unset."""
_LENGTH = re.compile(r"\d+([kKmMgGtT]|\.\d+[kmgt])|auto", re.ASCII)
_WORDS: Mapping[str, str] = {
    "whole": "a whole number",
    "number": "a number",
    "length": "a number such as 8192 or 8k",
    "json": "JSON",
}
_POSITIVE = frozenset(
    {
        "data-parallel-size", "decode-context-parallel-size", "max-loras", "max-num-batched-tokens", "max-num-seqs",
        "pipeline-parallel-size", "prefill-context-parallel-size", "tensor-parallel-size",
    }
)  # fmt: skip
_SHARE = "gpu-memory-utilization"


def _choices() -> dict[str, tuple[str, ...]]:
    found: dict[str, list[str]] = {}
    name = ""
    for word in VALUES["choice"].split():
        if word.endswith(":"):
            name = word[:-1]
            found[name] = []
        else:
            found[name].append(word)
    return {name: tuple(values) for name, values in found.items()}


_CHOICES: Mapping[str, Sequence[str]] = _choices()
_KINDS: Mapping[str, str] = {name: kind for kind in KINDS for name in VALUES[kind].split()}


def wrong_value(option: str, value: str) -> tuple[str, list[str]]:
    """Return what is wrong with a value of an option ("": nothing), and the nearest right ones."""
    name = option.removeprefix("--")
    choices = _CHOICES.get(name)
    if choices is not None:
        if value in choices or (value in _UNSET and "None" in choices):
            return "", []
        known = ", ".join(one for one in choices if one != "None")
        near = difflib.get_close_matches(value, choices, n=3, cutoff=0.6)
        message = f"{option} of vLLM {VERSION} does not take {_short(value)}. It takes {known}."
        return message, near
    kind = _KINDS.get(name)
    if kind is None or value in _UNSET or _is(kind, value):
        return _out_of_bounds(option, value), []
    return f"{option} takes {_WORDS[kind]}, not {_short(value)}.", []


def _is(kind: str, value: str) -> bool:
    if kind == "length" and _LENGTH.fullmatch(value.strip()) is not None:
        return True
    try:
        match kind:
            case "whole" | "length":
                int(value)
            case "number":
                float(value)
            case _:
                json.loads(value)
    except (ValueError, RecursionError):
        return False
    return True


def _out_of_bounds(option: str, value: str) -> str:
    name = option.removeprefix("--")
    number = _number(value)
    if number is None:
        return ""
    if name == _SHARE and not 0 < number <= 1:
        return f"{option} is a share, above 0 and up to 1, not {_short(value)}."
    return f"{option} must be 1 or more, not {_short(value)}." if name in _POSITIVE and number < 1 else ""


def _number(value: str) -> float | None:
    try:
        return float(value)
    except ValueError:
        return None


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else f"{text[:57]}…")
