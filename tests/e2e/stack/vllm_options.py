"""The tables of `vllm serve`'s options and their values, written from the real parser: `make vllm-options`.

Run it after a change of vLLM's version. Options keep the class that the committed table gives them; new ones come under
`unreviewed`, which refuses them until a person moves them to another class (gpulaunch/models/vllm_arguments.py says
what each class means).
"""

from __future__ import annotations

import json
import subprocess
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

from gpulaunch.models import vllm_options
from tests.e2e.stack import vllm
from tests.e2e.stack.assembly import CACHE
from tests.e2e.stack.vllm import VERSION, Vllm

TABLE = Path(vllm_options.__file__)

# Runs in vLLM's environment. Flags of an option, how many values it takes, and which: see vllm_options.py.
_READ = """
import argparse, json, logging
logging.disable(logging.CRITICAL)
from vllm.entrypoints.launchers.cli_args import make_arg_parser
from vllm.utils.argparse_utils import FlexibleArgumentParser

def takes(action):
    if isinstance(action, argparse.BooleanOptionalAction):
        return "b"
    if action.nargs is not None:
        return str(action.nargs)
    try:
        return "j" if action.type is not None and isinstance(action.type('{"gpulaunch": 1}'), dict) else "1"
    except Exception as error:
        return "j" if "validation error for" in str(error) else "1"

def understands(action, text):
    try:
        action.type(text)
    except Exception:
        return False
    return True

def values(action):
    if isinstance(action, argparse.BooleanOptionalAction) or action.nargs == 0:
        return ""
    if action.choices:
        # A type that bends what it is given, `flash-attn` into `flash_attn`, takes more than its choices.
        bends = action.type is not None and understands(action, "A-b") and action.type("A-b") != "A-b"
        return "" if bends else " ".join(map(str, action.choices))
    if action.type is None or understands(action, "x"):
        return ""
    if takes(action) == "j":
        return "json"
    fits = [understands(action, text) for text in ("1", "1.5", "1k")]
    kinds = {(True, False, False): "whole", (True, True, False): "number", (True, False, True): "length"}
    return kinds.get(tuple(fits), "")

actions = make_arg_parser(FlexibleArgumentParser())._actions
print(json.dumps([[one.option_strings, takes(one), values(one)] for one in actions if one.option_strings]))
"""

# Parses lists of arguments as `vllm serve` does; prints for each the values of some options, or the refusal.
_PARSE = """
import contextlib, io, json, logging, sys
logging.disable(logging.CRITICAL)
from vllm.entrypoints.launchers.cli_args import make_arg_parser
from vllm.utils.argparse_utils import FlexibleArgumentParser

def refuse(parser, message):
    raise ValueError(message)

FlexibleArgumentParser.error = refuse  # without the usage, whose text takes longer than all the rest
wanted, lists = json.load(sys.stdin)
main = FlexibleArgumentParser(prog="vllm")
make_arg_parser(main.add_subparsers(dest="subparser").add_parser("serve"))
answers = []
for arguments in lists:
    with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
        try:
            parsed = main.parse_args(["serve", *arguments])
            answers.append({name: repr(getattr(parsed, name)) for name in wanted})
        except (Exception, SystemExit) as error:
            answers.append(str(error)[:300] or "refused")
print(json.dumps(answers))
"""


def _python(environment: Vllm, program: str, given: str = "") -> str:
    done = subprocess.run(
        [environment.python, "-c", program], input=given, capture_output=True, text=True, timeout=300, check=True
    )
    return done.stdout.splitlines()[-1]


def read(environment: Vllm) -> list[tuple[list[str], str, str]]:
    """Each option of the real parser: its flags, how many values it takes, and which."""
    return [(flags, takes, values) for flags, takes, values in json.loads(_python(environment, _READ))]


def parse(environment: Vllm, wanted: Sequence[str], lists: Sequence[Sequence[str]]) -> list[dict[str, str] | str]:
    """What the real parser makes of lists of arguments: the values of some options, or why it refuses."""
    return json.loads(_python(environment, _PARSE, json.dumps([list(wanted), [list(one) for one in lists]])))


def written(found: Sequence[tuple[Sequence[str], str, str]]) -> tuple[dict[str, str], dict[str, str]]:
    """By the option's name: the entry of the table, which has its other flags and what it takes; and its values."""
    entries: dict[str, str] = {}
    of_values: dict[str, str] = {}
    for flags, takes, values in found:
        plain = [flag for flag in flags if not flag.startswith("--no-") or f"--{flag[5:]}" not in flags]
        name = next(flag for flag in plain if flag.startswith("--"))
        entries[name[2:]] = ",".join([name[2:], *(flag for flag in plain if flag != name)]) + f"={takes}"
        if values:
            of_values[name[2:]] = values
    return entries, of_values


def render(
    found: tuple[Mapping[str, str], Mapping[str, str]], classes: Mapping[str, str], header: str, between: str
) -> str:
    """The module's text: its head and the text between its tables as they are, and the tables' entries by class."""
    entries, of_values = found
    names = [*dict.fromkeys((*vllm_options.TABLE, "unreviewed"))]
    table = {
        kind: [text for name, text in entries.items() if classes.get(name, "unreviewed") == kind] for kind in names
    }
    kinds = {kind: [name for name, one in of_values.items() if one == kind] for kind in vllm_options.KINDS}
    choices = [f"{name}: {one}" for name, one in of_values.items() if one not in kinds]
    return f"{header}{_block('TABLE', table)}{between}{_block('VALUES', {**kinds, 'choice': choices})}"


def _block(name: str, entries: Mapping[str, Sequence[str]]) -> str:
    parts: list[str] = []
    for kind, texts in entries.items():
        lines = textwrap.wrap(" ".join(sorted(texts)), 116, break_on_hyphens=False, break_long_words=False)
        parts.append(f'    "{kind}": """\n' + "".join(f"{line}\n" for line in lines) + '""",\n')
    return f"{name}: Mapping[str, str] = {{\n{''.join(parts)}}}\n"


def surroundings(text: str) -> tuple[str, str]:
    """The module's text before its first table, and that between both."""
    start, end = text.index("TABLE: "), text.index("VALUES: ")
    return text[:start], text[text.index("\n}\n", start) + 3 : end]


def classes() -> dict[str, str]:
    """The class of each option in the committed table."""
    return {
        entry.partition("=")[0].split(",")[0]: kind for kind, of in vllm_options.TABLE.items() for entry in of.split()
    }


def main() -> None:
    text = TABLE.read_text("utf-8")
    header, between = surroundings(text)
    header = header.replace(f'"{vllm_options.VERSION}"', f'"{VERSION}"')
    TABLE.write_text(render(written(read(vllm.build(CACHE))), classes(), header, between), "utf-8")
    print(f"{TABLE.name} has the options of vLLM {VERSION}; move those under `unreviewed` to the class they belong to")


if __name__ == "__main__":
    main()
