"""The table of `vllm serve`'s options, written from the real parser: `make vllm-options`.

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

# Runs in vLLM's environment. Flags of an option, and how many values it takes: see vllm_options.py.
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

actions = make_arg_parser(FlexibleArgumentParser())._actions
print(json.dumps([[action.option_strings, takes(action)] for action in actions if action.option_strings]))
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


def read(environment: Vllm) -> list[tuple[list[str], str]]:
    """Each option of the real parser: its flags, and what it takes."""
    return [(flags, takes) for flags, takes in json.loads(_python(environment, _READ))]


def parse(environment: Vllm, wanted: Sequence[str], lists: Sequence[Sequence[str]]) -> list[dict[str, str] | str]:
    """What the real parser makes of lists of arguments: the values of some options, or why it refuses."""
    return json.loads(_python(environment, _PARSE, json.dumps([list(wanted), [list(one) for one in lists]])))


def written(found: Sequence[tuple[Sequence[str], str]]) -> dict[str, str]:
    """The entries of the table, by the option's name: its flags besides, and what it takes."""
    entries: dict[str, str] = {}
    for flags, takes in found:
        plain = [flag for flag in flags if not flag.startswith("--no-") or f"--{flag[5:]}" not in flags]
        name = next(flag for flag in plain if flag.startswith("--"))
        entries[name[2:]] = ",".join([name[2:], *(flag for flag in plain if flag != name)]) + f"={takes}"
    return entries


def render(entries: Mapping[str, str], classes: Mapping[str, str], header: str) -> str:
    """The module's text: its head as it is, then a string of entries for each class."""
    names = [*dict.fromkeys((*vllm_options.TABLE, "unreviewed"))]
    parts: list[str] = []
    for kind in names:
        of_kind = sorted(text for name, text in entries.items() if classes.get(name, "unreviewed") == kind)
        lines = textwrap.wrap(" ".join(of_kind), 116, break_on_hyphens=False, break_long_words=False)
        parts.append(f'    "{kind}": """\n' + "".join(f"{line}\n" for line in lines) + '""",\n')
    return f"{header}TABLE: Mapping[str, str] = {{\n{''.join(parts)}}}\n"


def classes() -> dict[str, str]:
    """The class of each option in the committed table."""
    return {
        entry.partition("=")[0].split(",")[0]: kind for kind, of in vllm_options.TABLE.items() for entry in of.split()
    }


def main() -> None:
    text = TABLE.read_text("utf-8")
    header = text[: text.index("TABLE: ")].replace(f'"{vllm_options.VERSION}"', f'"{VERSION}"')
    TABLE.write_text(render(written(read(vllm.build(CACHE))), classes(), header), "utf-8")
    print(f"{TABLE.name} has the options of vLLM {VERSION}; move those under `unreviewed` to the class they belong to")


if __name__ == "__main__":
    main()
