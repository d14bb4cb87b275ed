"""The command that makes endpoints as a file has them."""

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Any

import typer

from gpulaunch.cli.asking import Yes, agree, cost_line, launched_cost_line
from gpulaunch.cli.commands.endpoints import summary
from gpulaunch.cli.commands.instances import interactive
from gpulaunch.cli.endpoint_file import ReadFile, read_endpoints, shown
from gpulaunch.cli.endpoint_plan import Action, FieldChange, PlannedChange, planned
from gpulaunch.cli.exits import DeletingError, Exit, FileError, FileMistake
from gpulaunch.cli.session import Json, Session, session_of
from gpulaunch.client.errors import ApiError, ClientError
from gpulaunch.models.endpoints import EndpointRequest, EndpointView
from gpulaunch.models.problems import FieldError

_MOST_BYTES = 1024 * 1024
_SIGNS: dict[Action, str] = {"create": "+", "change": "~", "delete": "-", "keep": "="}
_WORDS: dict[Action, str] = {"create": "create", "change": "change", "delete": "delete", "keep": "unchanged"}
_STYLES: dict[Action, str] = {"create": "green", "change": "yellow", "delete": "red", "keep": "dim"}
_DONE: dict[Action, str] = {"create": "created", "change": "changed", "delete": "deleted", "keep": "kept"}
_WIDEST = 100
"""Characters of a value that are shown."""


def apply(
    context: typer.Context,
    file: Annotated[Path, typer.Option("--file", "-f", metavar="FILE", help="YAML or JSON; - is standard input.")],
    prune: Annotated[
        str | None,
        typer.Option(metavar="KEY=VALUE", help="Delete endpoints with this label that are not in the file."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", metavar="", help="Show what would change, and change nothing.")
    ] = False,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Make endpoints as a file has them: create, change, and with --prune delete. Shows what changes, and asks."""
    session = session_of(context, as_json=as_json)
    label = None if prune is None else _label(prune)
    read = _read(file)
    if label is not None:
        _check_labels(read, label)
    views = _views(session, read)
    plan = planned(read.endpoints, list(views.values()), label)
    prices = _prices(session, read, plan, views)
    if not session.as_json:
        for one in plan:
            _show(session, one, prices.get(one.name, ""))
    if dry_run or all(one.action == "keep" for one in plan):
        session.answer(plan, lambda: session.note("Nothing was changed." if dry_run else "Nothing to change."))
        return
    if not yes:
        _ask(session, plan)
    code, done = _carry_out(session, read, plan)
    session.answer(done, lambda: None)
    if code is not Exit.OK:
        raise typer.Exit(code)


def _label(given: str) -> tuple[str, str]:
    key, equals, value = given.partition("=")
    if not equals or not key:
        raise typer.BadParameter(f"expected KEY=VALUE, got {given!r}", param_hint="--prune")
    return key, value


def _read(file: Path) -> ReadFile:
    path = "standard input" if str(file) == "-" else str(file)
    try:
        with nullcontext(typer.get_binary_stream("stdin")) if str(file) == "-" else file.open("rb") as stream:
            content = stream.read(_MOST_BYTES + 1)
        text = content.decode("utf-8-sig")
    except OSError as error:
        raise FileError(path, [FileMistake(None, "", f"Cannot read it: {error.strerror}.")]) from error
    except UnicodeDecodeError as error:
        raise FileError(path, [FileMistake(None, "", "Not a text in UTF-8.")]) from error
    if len(content) > _MOST_BYTES:
        raise FileError(path, [FileMistake(None, "", f"Larger than {_MOST_BYTES} bytes.")])
    return read_endpoints(path, text)


def _check_labels(read: ReadFile, label: tuple[str, str]) -> None:
    """Refuse a file whose next version would not delete its own endpoints."""
    key, value = label
    wrong = FieldError(field=f"launch.labels.{key}", message=f"Must be `{value}`, since --prune names that label.")
    mistakes = [
        mistake
        for one in read.endpoints
        if one.launch.labels.get(key) != value
        for mistake in read.within(one.name, [wrong]).mistakes
    ]
    if mistakes:
        raise FileError(read.path, mistakes)


def _views(session: Session, read: ReadFile) -> dict[str, EndpointView]:
    """The endpoints that exist, by name; those that cannot be read are left alone."""
    names = {one.name for one in read.endpoints}
    views: dict[str, EndpointView] = {}
    for one in session.gpu.endpoints():
        if isinstance(one, EndpointView):
            views[one.name] = one
            if one.name in names and one.status == "deleting":
                raise DeletingError(f"{one.name} is being deleted. Apply the file again when it no longer exists.")
        elif one.name in names:
            message = f"The endpoint's record cannot be read: {one.why}"
            raise read.within(one.name, [FieldError(field="name", message=message)])
        else:
            session.note(f"{one.name} cannot be read: {one.why}. It is left as it is.", "yellow")
    return views


def _prices(
    session: Session, read: ReadFile, plan: Sequence[PlannedChange], views: dict[str, EndpointView]
) -> dict[str, str]:
    """What endpoints cost from now on, by name.

    Raises:
        FileError: The app refuses launches; with the line of each mistake.
    """
    wanted = {one.name: one for one in read.endpoints}
    prices: dict[str, str] = {}
    mistakes: list[FileMistake] = []
    for one in plan:
        if one.action in ("delete", "keep") or not one.starts_replicas:
            continue
        asked, view = wanted[one.name], views.get(one.name)
        try:
            if one.action == "create" or one.rolls_out:
                price = cost_line(session, _sent(asked)["launch"], asked.most_replicas)
            else:
                price = launched_cost_line(session, asked.launch, asked.most_replicas)
        except ApiError as error:
            if not error.errors:
                raise
            mistakes += read.within(one.name, error.errors, "launch").mistakes
            continue
        prices[one.name] = f"{price}, once it is resumed" if view is not None and view.paused else price
    if mistakes:
        raise FileError(read.path, mistakes)
    return prices


def _sent(wanted: EndpointRequest) -> dict[str, Any]:
    """What is not in the file is left to the app: its defaults may be newer than these."""
    return wanted.model_dump(mode="json", exclude_unset=True, exclude={"name"})


def _show(session: Session, change: PlannedChange, price: str) -> None:
    session.say(f"{_SIGNS[change.action]} {change.name}  {_WORDS[change.action]}", _STYLES[change.action])
    for one in change.fields:
        session.say(f"    {one.field}: {_difference(change, one)}")
    if price:
        session.say(f"    {price}.")
    if change.rolls_out:
        session.say("    Replicas are replaced one after another.")
    if change.action == "delete":
        session.say("    Its replicas are terminated; its address and keys stop working.")


def _difference(change: PlannedChange, one: FieldChange) -> str:
    after = _cut(shown(one.after))
    return after if change.action == "create" else f"{_cut(shown(one.before))} → {after}"


def _cut(text: str) -> str:
    return text if len(text) <= _WIDEST else f"{text[:_WIDEST]}… ({len(text)} characters)"


def _ask(session: Session, plan: Sequence[PlannedChange]) -> None:
    """Ask on a terminal. Elsewhere a script has decided already, but for deletions, which cannot be undone."""
    if session.as_json or not interactive():
        if any(one.action == "delete" for one in plan):
            message = "endpoints would be deleted, and standard input is not a terminal; use --yes"
            raise typer.BadParameter(message, param_hint="--prune")
        return
    counts = [(action, sum(one.action == action for one in plan)) for action in _SIGNS if action != "keep"]
    agree(session, f"Apply? {', '.join(f'{count} to {action}' for action, count in counts if count)}.")


def _carry_out(session: Session, read: ReadFile, plan: Sequence[PlannedChange]) -> tuple[Exit, list[PlannedChange]]:
    """Make the changes, each over what was shown. One that is refused does not keep the others from being made."""
    wanted = {one.name: one for one in read.endpoints}
    code, done = Exit.OK, list[PlannedChange]()
    for place, one in enumerate(plan):
        try:
            view = None if one.action == "keep" else _made(session, one, wanted.get(one.name))
        except ClientError as error:
            refused = isinstance(error, ApiError)
            named = read.within(one.name, error.errors) if refused and error.errors and one.name in wanted else error
            failed = session.complain(named)
            code = failed if code is Exit.OK else code
            done.append(one)
            if not refused:
                done += plan[place + 1 :]
                break
            session.note(f"{one.name} was not {_DONE[one.action]}.")
            continue
        done.append(one.model_copy(update={"applied": view is not None}))
        if view is not None and not session.as_json:
            summary(session, view)
    return code, done


def _made(session: Session, change: PlannedChange, wanted: EndpointRequest | None) -> EndpointView:
    if wanted is None:
        return session.gpu.delete_endpoint(change.name, revision=change.revision)
    if change.revision is None:
        return session.gpu.create_endpoint(change.name, _sent(wanted))
    return session.gpu.deploy(change.name, _sent(wanted), revision=change.revision)
