"""The commands that show instances and terminate them."""

from collections.abc import Generator, Iterable
from contextlib import contextmanager
from datetime import datetime
from itertools import islice
from typing import Annotated

import httpx
import typer
from rich.table import Table
from rich.text import Text

from gpulaunch.cli.connection import find_connection
from gpulaunch.cli.exits import Exit
from gpulaunch.cli.format import PHASE_STYLES, age, clean, event_line, offer, place, table
from gpulaunch.cli.session import Json, Session, session_of
from gpulaunch.client.errors import ClientError, ServerError
from gpulaunch.client.synchronous import GpuLaunch
from gpulaunch.curl import chat_command
from gpulaunch.format import duration, usd
from gpulaunch.models.instances import Phase
from gpulaunch.models.requests import ProviderName
from gpulaunch.models.responses import Credentials, EventView, InstanceView, UnreadableView

_WITH_PLACE, _WITH_NAME = 100, 150
"""Columns of a terminal from which `ls` shows where an instance runs, and its name beside its model."""
_END = 8
"""Characters of an id that are enough for every command."""
_UNREADABLE = "Its node is kept until `gpulaunch terminate` deletes it."
_COMPLETION = httpx.Timeout(2.0)
"""Seconds; whoever pressed Tab is waiting."""


def _complete(incomplete: str) -> list[str]:
    """Complete the ids of live instances; a shell that hangs is worse than one that completes nothing."""
    try:
        found = find_connection()
        token = found.token.get_secret_value() if found.token else None
        with GpuLaunch(found.url, token, timeout=_COMPLETION, sleep=lambda _: None) as gpu:
            ids = [view.instance_id for view in islice(gpu.list(live=True), 50)]
    except ClientError:
        return []
    return [one for one in ids if one.startswith(incomplete)]


Id = Annotated[
    str,
    typer.Argument(metavar="ID", help="An instance's id, its name, or the end of its id.", autocompletion=_complete),
]
Follow = Annotated[bool, typer.Option("--follow", "-f", metavar="", help="Go on until the instance has ended.")]


def ls(
    context: typer.Context,
    text: Annotated[
        str, typer.Argument(metavar="TEXT", help="Only instances with this in id, name, model, place or labels.")
    ] = "",
    *,
    phase: Annotated[Phase | None, typer.Option(metavar="PHASE", help="Only instances in this phase.")] = None,
    provider: Annotated[ProviderName | None, typer.Option(help="Only instances of this provider.")] = None,
    label: Annotated[str | None, typer.Option(help="Only instances with this label: KEY or KEY=VALUE.")] = None,
    everything: Annotated[bool, typer.Option("--all", "-a", metavar="", help="Include ended ones.")] = False,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="At most this many.")] = 100,
    as_json: Json = False,
) -> None:
    """List live instances, newest first."""
    session = session_of(context, as_json=as_json)
    live = None if everything or (phase is not None and phase.ended) else True
    found: list[InstanceView | UnreadableView] = []
    for page in session.gpu.pages(phase=phase, provider=provider, label=label, live=live):
        found += [one for one in (*page.instances, *page.unreadable) if _has(one, text)]
        if len(found) > limit:
            break
    views = found[:limit]

    def show() -> None:
        if not views:
            which = f"with {clean(text)!r}" if text else ""
            nothing = f"No {'' if everything else 'live '}instances {which}".rstrip()
            session.note(f"{nothing}." if everything else f"{nothing}. Use --all to include ended ones.")
            return
        session.out.print(_listed(views, session.now(), session.out.width))
        for view in views:
            if isinstance(view, UnreadableView):
                session.note(f"{view.instance_id} cannot be read: {view.why}. {_UNREADABLE}", "yellow")
        if len(found) > limit:
            session.note(f"There are more than {limit}. Use --limit to see them.")

    session.answer(views, show)


def _has(view: InstanceView | UnreadableView, text: str) -> bool:
    """Whether what a person knows an instance by has a text in it, whatever the case."""
    known = [view.instance_id, view.provider or ""]
    if isinstance(view, InstanceView):
        labels = [f"{key}={value}" for key, value in view.request.labels.items()]
        places = [part for one in view.attempts for part in (one.offer.region, one.offer.gpu)]
        known += [view.name or "", view.model_name, *places, *labels]
    return any(text.casefold() in one.casefold() for one in known)


def _listed(views: list[InstanceView | UnreadableView], now: datetime, width: int) -> Table:
    """One line per instance; a narrow terminal leaves out what `show` prints as well, and has the ends of ids."""
    shown = {"ID": 0, "NAME": _WITH_NAME, "MODEL": 0, "PHASE": 0, "WHERE": _WITH_PLACE, "AGE": 0, "COST": 0}
    heads = [head for head, least in shown.items() if width >= least]
    rows = table(*heads)
    for view in views:
        if isinstance(view, UnreadableView):
            shown_id = view.instance_id if width >= _WITH_PLACE else view.instance_id[-_END:]
            texts = {"ID": shown_id, "PHASE": "unreadable", "WHERE": view.provider or ""}
            rows.add_row(*(Text(clean(texts.get(head, "")), "red", no_wrap=True) for head in heads))
            continue
        texts = {
            "ID": view.instance_id if width >= _WITH_PLACE else view.instance_id[-_END:],
            "NAME": view.name or "",
            "MODEL": view.model_name if "NAME" in heads else view.name or view.model_name,
            "PHASE": view.phase.value,
            "WHERE": place(view),
            "AGE": age(view, now),
            "COST": usd(view.cost_usd),
        }
        cells = {head: Text(clean(texts[head]), no_wrap=True, overflow="ellipsis") for head in heads}
        cells["PHASE"].stylize(PHASE_STYLES.get(view.phase, "cyan"))
        rows.add_row(*cells.values())
    return rows


def show(context: typer.Context, instance_id: Id, as_json: Json = False) -> None:
    """Show one instance and its attempts."""
    session = session_of(context, as_json=as_json)
    view = session.gpu.get(instance_id)
    session.answer(view, lambda: _show(session, view))


def events(context: typer.Context, instance_id: Id, follow: Follow = False, as_json: Json = False) -> None:
    """Show an instance's events: phases, attempts, and why any failed."""
    session = session_of(context, as_json=as_json)
    if follow:
        with _following(session, instance_id):
            _events(session, session.gpu.follow_events(instance_id))
    else:
        answer = session.gpu.events(instance_id)
        session.answer(answer, lambda: _events(session, answer.events))


def logs(context: typer.Context, instance_id: Id, follow: Follow = False, as_json: Json = False) -> None:
    """Show the last log lines of an instance's node."""
    session = session_of(context, as_json=as_json)
    if follow:
        with _following(session, instance_id):
            for line in session.gpu.follow_logs(instance_id):
                session.line({"line": line}, line)
        return
    answer = session.gpu.logs(instance_id)
    shown = "\n".join(answer.lines)
    missing = "The node has not reported any lines yet."
    session.answer(answer, lambda: session.say(shown) if answer.lines else session.note(missing))


@contextmanager
def _following(session: Session, instance_id: str) -> Generator[None]:
    """Say what Ctrl-C stops, and what it does not."""
    try:
        yield
    except KeyboardInterrupt:
        session.note(f"\nStopped following; {instance_id} goes on.", "yellow")
        raise typer.Exit(Exit.INTERRUPTED) from None


def terminate(
    context: typer.Context,
    instance_ids: Annotated[list[str], typer.Argument(metavar="ID…", autocompletion=_complete)],
    yes: Annotated[bool, typer.Option("--yes", "-y", metavar="", help="Do not ask.")] = False,
    wait: Annotated[
        bool, typer.Option(metavar="", help="Wait until the provider confirms that the nodes are deleted.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Terminate instances, in any phase (alias: down)."""
    session = session_of(context, as_json=as_json)
    ids = list(dict.fromkeys(instance_ids))
    if not yes and not _confirmed(session, ids):
        session.note("Nothing was terminated.")
        raise typer.Exit(Exit.ERROR)
    ended: list[InstanceView | UnreadableView] = []
    worst = Exit.OK
    for instance_id in ids:
        # One failure must not keep the others running.
        try:
            ended.append(session.gpu.terminate(instance_id))
        except ClientError as error:
            worst = max(worst, session.complain(error))
    if wait:
        # An unreadable instance has no phase to wait for.
        ended = [
            session.gpu.wait_until_ended(view.instance_id) if isinstance(view, InstanceView) else view for view in ended
        ]

    def text() -> None:
        for view in ended:
            if isinstance(view, InstanceView):
                session.say(f"{view.instance_id}  {view.phase.value}  {usd(view.cost_usd)}")
            else:
                session.say(f"{view.instance_id}  terminating  {view.why}")
                session.note("`gpulaunch ls` lists it until its nodes are deleted.")

    session.answer(ended, text)
    raise typer.Exit(worst)


def credentials(
    context: typer.Context,
    instance_id: Id,
    export: Annotated[
        bool, typer.Option("--export", metavar="", help='For the shell: eval "$(gpulaunch credentials ID --export)".')
    ] = False,
    ca: Annotated[
        bool, typer.Option("--ca", metavar="", help="Only what vouches for the node's certificate, as PEM.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Print a ready endpoint's address and key, and a curl command."""
    session = session_of(context, as_json=as_json)
    answer = session.gpu.credentials(instance_id)
    if ca:
        if answer.ca_certificate is None:
            raise ClientError(f"{answer.instance_id} answers by plain HTTP: its node is of an earlier version")
        session.answer(answer, lambda: session.say(str(answer.ca_certificate).strip()))
        return
    session.answer(answer, lambda: _usage(session, answer, with_curl=not export))


def _usage(session: Session, answer: Credentials, *, with_curl: bool) -> None:
    session.say(f"export OPENAI_BASE_URL='{answer.endpoint}'\nexport OPENAI_API_KEY='{answer.api_key}'")
    if answer.server_name is not None:
        session.note(
            f"Its certificate is for {answer.server_name}: see docs/node.md#tls, or `gpulaunch deploy` an endpoint."
        )
    if with_curl:
        authority = f"<(gpulaunch credentials {answer.instance_id} --ca)"
        session.say(chat_command(answer.endpoint, answer.model_name, answer.server_name, authority))


def interactive() -> bool:
    return typer.get_text_stream("stdin").isatty()


def _confirmed(session: Session, ids: list[str]) -> bool:
    if session.as_json or not interactive():
        raise typer.BadParameter("standard input is not a terminal; use --yes", param_hint="terminate")
    for instance_id in ids:
        try:
            view = session.gpu.get(instance_id)
        except ServerError as error:
            if error.code != "unreadable_record":
                raise
            session.say(f"{instance_id}  unreadable  {error}")
        else:
            session.say(f"{instance_id}  {view.phase.value}  {view.model_name}  {usd(view.cost_usd)} so far")
    return typer.confirm(f"Terminate {'it' if len(ids) == 1 else f'these {len(ids)}'}?")


def _show(session: Session, view: InstanceView) -> None:
    now, health, requests = session.now(), view.health, None
    if health is not None and health.running_requests is not None:
        requests = f"{health.running_requests:g} running, {health.waiting_requests or 0:g} waiting"
    facts = {
        "id": view.instance_id,
        "name": view.name,
        "model": view.model_name,
        "phase": f"{view.phase.value} for {duration((now - view.phase_since).total_seconds())}",
        "mode": view.mode,
        "ending": f"{view.ending.message} ({view.ending.reason.value})" if view.ending else None,
        "endpoint": view.endpoint,
        "health": f"{health.state} {health.message}".strip() if health else None,
        "requests": requests,
        "age": age(view, now),
        "deadline": view.deadline_at.astimezone().strftime("%Y-%m-%d %H:%M:%S"),
        "cost": f"{usd(view.cost_usd)} so far, at most {usd(view.worst_case_usd)}",
        "labels": ", ".join(f"{key}={value}" for key, value in view.labels.items()) or None,
    }
    for name, value in facts.items():
        if value is not None:
            session.say(f"{name:<9} {value}", PHASE_STYLES.get(view.phase, "") if name == "phase" else "")
    for attempt in view.attempts:
        state = f"{attempt.failure.message} ({attempt.failure.reason.value})" if attempt.failure else attempt.state
        session.say(f"attempt {attempt.number} {offer(attempt.offer)}, {usd(attempt.cost_usd)}: {state}")


def _events(session: Session, found: Iterable[EventView]) -> None:
    began: datetime | None = None
    for event in found:
        began = began or event.at
        session.line(event, event_line(event, began))
