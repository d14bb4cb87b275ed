"""The commands for endpoints."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer
from rich.text import Text

from gpulaunch.cli.asking import Yes, agree, cost_line, launched_cost_line
from gpulaunch.cli.commands.instances import interactive
from gpulaunch.cli.commands.request import Request, with_replica_request
from gpulaunch.cli.endpoint_file import text_of
from gpulaunch.cli.format import add_row, clean, offer, table
from gpulaunch.cli.session import Json, Session, session_of
from gpulaunch.client.errors import NotFoundError
from gpulaunch.format import duration, usd
from gpulaunch.models.endpoints import EndpointView, NewKey, ReplicaView, UnreadableEndpointView
from gpulaunch.operations import ENDPOINT_FILE_SCHEMA

Name = Annotated[str, typer.Argument(metavar="NAME", help="The endpoint's name.")]
_STYLES = {"ready": "green", "stopped": "red", "degraded": "red", "paused": "dim", "deleting": "yellow"}
_EVENTS = 8
"""Events that are printed; --json has thirty."""
_DECISIONS = 20
"""Decisions that are printed; --json has a hundred."""
_POLL = 5.0


@with_replica_request
def deploy(
    context: typer.Context,
    endpoint: Name,
    request: Request,
    *,
    replicas: Annotated[int | None, typer.Option(metavar="N", help="Replicas that are kept ready. Default: 1.")] = None,
    least: Annotated[
        int | None, typer.Option("--min", metavar="N", help="Fewest replicas, with --max. Default: 0.")
    ] = None,
    most: Annotated[
        int | None, typer.Option("--max", metavar="N", help="Most replicas, as the load calls for.")
    ] = None,
    scaling: Annotated[
        str | None, typer.Option(metavar="PRESET", help="thrifty, balanced or quick, with --max. Default: balanced.")
    ] = None,
    drain_seconds: Annotated[
        int | None, typer.Option(metavar="SECONDS", help="For a replaced replica's last requests. Default: 600.")
    ] = None,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Create an endpoint that is served by replicas of a model, or make an existing one as asked for."""
    bounds = {"min_replicas": least, "max_replicas": most, "scaling": scaling}
    asked = {"replicas": replicas, "drain_seconds": drain_seconds, **bounds}
    spec = {"launch": request} | {field: value for field, value in asked.items() if value is not None}
    session = session_of(context, as_json=as_json)
    revision = _agreed_to_deploy(session, endpoint, spec) if _asks(session, yes=yes) else None
    view = session.gpu.deploy(endpoint, spec, revision=revision)
    session.answer(view, lambda: summary(session, view))
    session.note(f"Follow it: gpulaunch endpoints {endpoint}")


def _asks(session: Session, *, yes: bool) -> bool:
    """Whether a person is asked; a script has decided already."""
    return not (yes or session.as_json) and interactive()


def _agreed_to_deploy(session: Session, name: str, spec: Mapping[str, Any]) -> str | None:
    """Ask, showing the price. Return the revision that was agreed to, or None if the endpoint does not exist yet."""
    try:
        before = session.gpu.endpoint(name)
    except NotFoundError:
        before = None
    most = spec.get("max_replicas")
    cost = cost_line(session, spec["launch"], most or spec.get("replicas", 1))
    if most:
        cost = f"At most {cost[0].lower()}{cost[1:]}"
    if before is None:
        agree(session, f"Create {name}? {cost}.")
        return None
    summary(session, before)
    agree(session, f"Make {name} as asked for? {cost}. A changed launch replaces its replicas one after another.")
    return before.revision


def endpoints(
    context: typer.Context,
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="Show this one with its replicas.")] = None,
    as_yaml: Annotated[
        bool, typer.Option("--yaml", metavar="", help="Print the file that `gpulaunch apply` takes.")
    ] = False,
    as_json: Json = False,
) -> None:
    """List endpoints, or show one with its replicas."""
    session = session_of(context, as_json=as_json)
    if as_yaml:
        _print_file(session, session.gpu.endpoints() if name is None else [session.gpu.endpoint(name)])
        return
    if name is not None:
        view = session.gpu.endpoint(name)
        session.answer(view, lambda: _show(session, view))
        return
    found = session.gpu.endpoints()
    session.answer(found, lambda: _list(session, found))


def _print_file(session: Session, found: Sequence[EndpointView | UnreadableEndpointView]) -> None:
    if session.as_json:
        raise typer.BadParameter("use --yaml or --json", param_hint="--yaml")
    views = [one for one in found if isinstance(one, EndpointView) and one.status != "deleting"]
    for one in found:
        if isinstance(one, UnreadableEndpointView):
            session.note(f"{one.name} cannot be read, so it is left out: {one.why}", "yellow")
    if not views:
        session.note("No endpoints.")
        return
    typer.echo(text_of(views, session.connection.url + ENDPOINT_FILE_SCHEMA.path), nl=False)


def scale(
    context: typer.Context,
    name: Name,
    replicas: Annotated[
        str,
        typer.Argument(metavar="REPLICAS", help="A fixed number, such as 2, or 0..3: as many as the load calls for."),
    ],
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Set how many replicas an endpoint has. On a terminal, show what that costs, and ask."""
    wanted = _bounds_of(replicas)
    most = max(wanted.values())
    session = session_of(context, as_json=as_json)
    revision = None
    if _asks(session, yes=yes):
        before = session.gpu.endpoint(name)
        more = most - (before.replicas if before.max_replicas is None else before.max_replicas)
        at_most = "" if "replicas" in wanted else " At most"
        cost = (
            "" if more <= 0 or before.paused else f"{at_most} {launched_cost_line(session, before.launch, more)} more."
        )
        stops = "" if most else " Nothing serves then."
        agree(session, f"Scale {name} from {_asked(before)} to {replicas} replicas?{cost}{stops}")
        revision = before.revision
    view = session.gpu.change_endpoint(name, **wanted, revision=revision)
    session.answer(view, lambda: summary(session, view))


def _bounds_of(text: str) -> dict[str, int]:
    """The fields of a change that a number, or the fewest and the most, stand for.

    Raises:
        typer.BadParameter: It is neither.
    """
    least, dots, most = text.partition("..")
    if not least.isdecimal() or (dots and not most.isdecimal()):
        raise typer.BadParameter("Give a number, such as 2, or the fewest and the most, such as 0..3.")
    return {"min_replicas": int(least), "max_replicas": int(most)} if dots else {"replicas": int(least)}


def _asked(view: EndpointView) -> str:
    return str(view.replicas) if view.max_replicas is None else f"{view.min_replicas}..{view.max_replicas}"


def decisions(context: typer.Context, name: Name, as_json: Json = False) -> None:
    """Show why an endpoint has as many replicas as it has, and the last times when their number changed."""
    session = session_of(context, as_json=as_json)
    found = session.gpu.endpoint_decisions(name)

    def show() -> None:
        now = f"{found.replicas} replicas" if found.replicas != 1 else "1 replica"
        session.say(f"now  {now}: {found.reason}." if found.reason else f"now  {now}, as asked for.")
        for one in found.decisions[:_DECISIONS]:
            at = one.at.astimezone().strftime("%Y-%m-%d %H:%M:%S")
            session.say(f"{at}  {one.before} → {one.replicas}: {one.reason}.")

    session.answer(found, show)


def pause(context: typer.Context, name: Name, yes: Yes = False, as_json: Json = False) -> None:
    """Drain and terminate all replicas of an endpoint, and keep its name. On a terminal, ask."""
    session = session_of(context, as_json=as_json)
    revision = None
    if _asks(session, yes=yes):
        revision = session.gpu.endpoint(name).revision
        agree(session, f"Pause {name}? Its replicas are terminated; requests are refused until it is resumed.")
    view = session.gpu.pause_endpoint(name, revision=revision)
    session.answer(view, lambda: summary(session, view))


def resume(context: typer.Context, name: Name, yes: Yes = False, as_json: Json = False) -> None:
    """Start an endpoint's replicas again, also of a generation that was stopped. On a terminal, ask."""
    session = session_of(context, as_json=as_json)
    revision = None
    if _asks(session, yes=yes):
        before = session.gpu.endpoint(name)
        cost = launched_cost_line(session, before.launch, before.replicas)
        agree(session, f"Resume {name}? {cost}.")
        revision = before.revision
    view = session.gpu.resume_endpoint(name, revision=revision)
    session.answer(view, lambda: summary(session, view))


def rollout(context: typer.Context, name: Name, yes: Yes = False, as_json: Json = False) -> None:
    """Replace all replicas of an endpoint by new ones, one after another. On a terminal, ask."""
    session = session_of(context, as_json=as_json)
    revision = None
    if _asks(session, yes=yes):
        before = session.gpu.endpoint(name)
        extra = f" Meanwhile {launched_cost_line(session, before.launch, 1)} more." if before.replicas else ""
        agree(session, f"Replace all replicas of {name}, one after another?{extra}")
        revision = before.revision
    view = session.gpu.roll_out_endpoint(name, revision=revision)
    session.answer(view, lambda: summary(session, view))


def keys(
    context: typer.Context,
    name: Name,
    *,
    add: Annotated[
        str | None, typer.Option("--add", metavar="APPLICATION", help="Make a key for an application; shown this once.")
    ] = None,
    revoke: Annotated[str | None, typer.Option("--revoke", metavar="ID", help="Revoke a key.")] = None,
    requests_per_minute: Annotated[int | None, typer.Option(metavar="N", help="With --add: the key's limit.")] = None,
    tokens_per_minute: Annotated[int | None, typer.Option(metavar="N", help="With --add: prompts and answers.")] = None,
    tokens_per_month: Annotated[int | None, typer.Option(metavar="N", help="With --add: calendar month, UTC.")] = None,
    requests_at_once: Annotated[int | None, typer.Option(metavar="N", help="With --add: at each gateway.")] = None,
    as_json: Json = False,
) -> None:
    """List, make and revoke the keys with which applications call an endpoint."""
    session = session_of(context, as_json=as_json)
    if add is not None:
        made = session.gpu.create_key(
            name,
            add,
            requests_per_minute,
            tokens_per_minute=tokens_per_minute,
            tokens_per_month=tokens_per_month,
            requests_at_once=requests_at_once,
        )
        view = session.gpu.endpoint(name)
        session.answer(made, lambda: _usage(session, view, made))
        return
    found = session.gpu.endpoint_keys(name) if revoke is None else session.gpu.revoke_key(name, revoke)

    def show() -> None:
        if not found:
            session.note(f"No keys. Make one: gpulaunch keys {name} --add APPLICATION")
            return
        rows = table("ID", "APPLICATION", "MADE", "AT ONCE", "REQUESTS/MIN", "TOKENS/MIN", "TOKENS THIS MONTH")
        for one in found:
            made_at = one.created_at.astimezone().strftime("%Y-%m-%d %H:%M")
            month = f"{one.tokens_this_month:,} of {_limit(one.tokens_per_month)}"
            limits = [_limit(n) for n in (one.requests_at_once, one.requests_per_minute, one.tokens_per_minute)]
            add_row(rows, one.key_id, one.name, made_at, *limits, month)
        session.out.print(rows)

    session.answer(found, show)


def _limit(given: int | None) -> str:
    return "any" if given is None else f"{given:,}"


def _usage(session: Session, view: EndpointView, made: NewKey) -> None:
    """Print what an OpenAI client needs; the key alone goes with it, and nowhere else."""
    if view.address is not None:
        session.say(f"export OPENAI_BASE_URL='{view.address}'")
    session.say(f"export OPENAI_API_KEY='{made.key}'")
    session.note(f"It is not shown again. The model's name is {view.name}.")
    session.note(f"Revoke it: gpulaunch keys {view.name} --revoke {made.key_id}")


def undeploy(
    context: typer.Context,
    name: Name,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    wait: Annotated[bool, typer.Option(help="Wait until its replicas are terminated.")] = False,
    as_json: Json = False,
) -> None:
    """Drain an endpoint's replicas, then delete it."""
    session = session_of(context, as_json=as_json)
    revision = None
    if not yes:
        if session.as_json or not interactive():
            raise typer.BadParameter("standard input is not a terminal; use --yes", param_hint="undeploy")
        before = session.gpu.endpoint(name)
        summary(session, before)
        agree(session, "Delete it and terminate its replicas? Its address and keys stop working.")
        revision = before.revision
    view = session.gpu.delete_endpoint(name, revision=revision)
    while wait:
        try:
            view = session.gpu.endpoint(name)
        except NotFoundError:
            break
        session.sleep(_POLL)
    session.answer(view, lambda: session.say(f"{name}  {'deleted' if wait else view.status}"))


def _list(session: Session, found: Any) -> None:
    if not found:
        session.note("No endpoints. Create one: gpulaunch deploy NAME MODEL --gpu A10")
        return
    rows = table("NAME", "STATUS", "READY", "MODEL", "GENERATION", "COST")
    for view in found:
        if isinstance(view, UnreadableEndpointView):
            rows.add_row(Text(clean(view.name)), Text("unreadable", "red"))
            session.note(f"{view.name} cannot be read: {view.why}. Its replicas are left as they are.", "yellow")
            continue
        ready = f"{view.ready_replicas}/{view.replicas}"
        status = Text(view.status, _STYLES.get(view.status, "cyan"))
        cells = (view.name, status, ready, view.launch.model_name, str(view.generation), usd(view.cost_usd))
        rows.add_row(*(one if isinstance(one, Text) else Text(clean(one)) for one in cells))
    session.out.print(rows)


def summary(session: Session, view: EndpointView) -> None:
    text = f"{view.name}  {view.status}  {view.ready_replicas} of {view.replicas} ready  generation {view.generation}"
    session.say(text, _STYLES.get(view.status, ""))
    if view.message:
        session.say(view.message)


def _show(session: Session, view: EndpointView) -> None:
    summary(session, view)
    session.say(f"model     {view.launch.model_name}")
    if view.address is not None:
        session.say(f"address   {view.address}")
    session.say(f"cost      {usd(view.cost_usd)} of the replicas below")
    if view.retry_at is not None:
        left = max(0.0, (view.retry_at - session.now()).total_seconds())
        session.say(f"next try  in {duration(left)}")
    for one in view.members:
        session.say(f"replica   {_replica(one)}")
    for event in view.events[-_EVENTS:]:
        session.say(f"{event.at.astimezone().strftime('%Y-%m-%d %H:%M:%S')}  {event.message}")


def _replica(one: ReplicaView) -> str:
    where = "" if one.offer is None else f", {offer(one.offer)}"
    phase = "" if one.phase is None or one.state == "serving" else f" ({one.phase.value})"
    return f"{one.instance_id}  {one.state}{phase}  generation {one.generation}{where}"
