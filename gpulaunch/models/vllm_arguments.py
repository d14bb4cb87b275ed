"""How vLLM's parser reads an argument: which option an entry of `vllm_args` names, in whatever spelling.

vLLM takes `_` for `-`, a value after `=` or as the next entry, JSON key by key after a dot, and, as every argparse
program, the beginning of a name for the name. Here a name has to be complete.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gpulaunch.models.vllm_options import TABLE

_NEGATIVE = re.compile(r"-\d+")
"""A value, not an option. With a decimal point vLLM takes it for a key: it needs the form `--option=-0.5`."""


REQUESTS_AT_ONCE = 256
"""vLLM's default of `--max-num-seqs`."""


@dataclass(frozen=True, kw_only=True)
class Option:
    """An option of `vllm serve`."""

    name: str
    """The long name, with its dashes."""
    takes: str
    """See vllm_options.py."""
    kind: str
    """Its class in vllm_options.TABLE."""


@dataclass(frozen=True, kw_only=True)
class Given:
    """An entry that names an option."""

    flag: str
    """The option's name as vLLM normalises it."""
    keys: tuple[str, ...]
    """The path into JSON after the name."""
    value: str | None
    """What follows `=`."""


def _flags() -> dict[str, Option]:
    found: dict[str, Option] = {}
    for kind, entries in TABLE.items():
        for entry in entries.split():
            names, _, takes = entry.partition("=")
            name, *others = names.split(",")
            option = Option(name=f"--{name}", takes=takes, kind=kind)
            negated = [f"--no-{name}"] if takes == "b" else []
            found |= dict.fromkeys([option.name, *others, *negated], option)
    return found


FLAGS: Mapping[str, Option] = _flags()
"""Every option by each of its names."""


def read(entry: str) -> Given | None:
    """Return the option that an entry names, or None if the entry is a value.

    Every entry that begins with a dash names an option, wherever it stands, except a negative whole number.
    """
    if not entry.startswith("-") or _NEGATIVE.fullmatch(entry):
        return None
    if level := re.fullmatch(r"-O=?([^=.]+)", entry):
        return Given(flag="--optimization-level", keys=(), value=level[1])
    before, equals, value = entry.partition("=")
    flag, *keys = before.split(".")
    if flag.startswith("--"):
        flag = flag.replace("_", "-")
    return Given(flag=flag, keys=tuple(key.removesuffix("+") for key in keys), value=value if equals else None)


def abbreviated(flag: str) -> list[str]:
    """The options that vLLM would take an incomplete name for."""
    if not flag.startswith("--") or flag == "--" or flag in FLAGS:
        return []
    return sorted({option.name for name, option in FLAGS.items() if name.startswith(flag)})


def refusal_of_ours(args: Sequence[str]) -> str | None:
    """Why arguments cannot be accepted whatever the deployment allows: gpulaunch sets these options itself.

    They decide who reaches the endpoint: its address, port, key, TLS and guard. A user's value would open it.
    """
    for given in filter(None, map(read, args)):
        option = FLAGS.get(given.flag)
        if option is not None and option.kind == "ours":
            return f"{given.flag} is set by gpulaunch; remove it."
        ours = [name for name in abbreviated(given.flag) if FLAGS[name].kind == "ours"]
        if ours:
            return f"{given.flag} is short for {' or '.join(ours[:3])}, which gpulaunch sets; remove it."
    return None


def requests_at_once(vllm_args: Sequence[str]) -> int:
    """How many requests a vLLM with these arguments works on at once."""
    found = REQUESTS_AT_ONCE
    for index, entry in enumerate(vllm_args):
        given = read(entry)
        if given is not None and given.flag == "--max-num-seqs":
            value = given.value if given.value is not None else "".join(vllm_args[index + 1 : index + 2])
            found = max(1, int(value)) if value.isdecimal() else found
    return found


def target_requests(vllm_args: Sequence[str], asked: int | None = None) -> int:
    """How many requests a vLLM with these arguments is to work on at once: as asked for, or 0.7 of those that it can.

    Beyond, waiting grows faster than the work that gets done, and durations tell nothing of the work.
    """
    return asked if asked is not None else max(1, int(0.7 * requests_at_once(vllm_args)))
