"""Run by the Python that has azure-cli: say of each command on standard input what Azure's own parser has against it.

A line is a JSON list: whether the command is whole, then its words without `az`. The answers come in the same order,
one a line as JSON: an empty text, or the error. Nothing is run, and nobody is signed in.
"""

# pyright: basic

import argparse
import contextlib
import io
import json
import sys


class RefusedError(Exception):
    """The parser does not take a command."""


def _loaded(words):
    """The parser, with the arguments of this command; azure-cli's own invoker builds it for each call anew."""
    from azure.cli.core import get_default_cli  # pyright: ignore[reportMissingImports]
    from azure.cli.core.commands import events  # pyright: ignore[reportMissingImports]

    cli = get_default_cli()
    invoker = cli.invocation_cls(
        cli_ctx=cli, parser_cls=cli.parser_cls, commands_loader_cls=cli.commands_loader_cls, help_cls=cli.help_cls
    )
    cli.invocation = invoker
    loader = invoker.commands_loader
    loader.load_command_table(words)
    names = [" ".join(words[:length]) for length in range(len(words), 0, -1)]
    name = next((one for one in names if one in loader.command_table), None)
    groups = {" ".join(one.split()[:length]) for one in loader.command_table for length in range(1, len(one.split()))}
    if name is None:
        plain = " ".join(word for word in words if not word.startswith("-"))
        raise RefusedError("" if plain in groups else f"'{plain}' is neither a command nor a group of commands")
    loader.command_name = name
    invoker.data["command_string"] = name
    loader.command_table = {name: loader.command_table[name]}
    # The listeners add `--subscription` and `--ids`, which most commands have.
    cli.raise_event(events.EVENT_INVOKER_PRE_LOAD_ARGUMENTS, commands_loader=loader)
    loader.load_arguments(name)
    cli.raise_event(events.EVENT_INVOKER_POST_LOAD_ARGUMENTS, commands_loader=loader)
    invoker.parser.load_command_table(loader)
    return invoker.parser, name.split()


def _against(whole, words):
    try:
        parser, name = _loaded(words)
    except RefusedError as refusal:
        return str(refusal)
    for part in name:
        (choices,) = [one for one in parser._actions if isinstance(one, argparse._SubParsersAction)]
        parser = choices.choices[part]
    parser.allow_abbrev = False
    if not whole:
        for action in [*parser._actions, *parser._mutually_exclusive_groups]:
            action.required = False

    def refuse(message):
        raise RefusedError(message)

    parser.error = refuse
    try:
        parser.parse_args(words[len(name) :])
    except RefusedError as refusal:
        return str(refusal)
    except SystemExit as end:
        return "" if end.code == 0 else f"exit {end.code}"
    return ""


for line in sys.stdin:
    whole, *words = json.loads(line)
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        against = _against(whole, words)
    print(json.dumps(against))
