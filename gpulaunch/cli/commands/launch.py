"""`gpulaunch launch`, `gpulaunch plan` and `gpulaunch watch`."""

from math import ceil
from typing import Annotated

import typer

from gpulaunch.cli.commands.instances import Id, interactive
from gpulaunch.cli.commands.request import Request, with_request
from gpulaunch.cli.exits import Exit
from gpulaunch.cli.format import offer
from gpulaunch.cli.session import Json, Session, session_of
from gpulaunch.cli.watch import Watch
from gpulaunch.client.errors import ConflictError, EndedError
from gpulaunch.format import duration, usd
from gpulaunch.models.plans import PlanAnswer
from gpulaunch.models.responses import InstanceView, LaunchAnswer

Timeout = Annotated[
    float | None,
    typer.Option(
        metavar="SECONDS", min=0, help="Watch for that long; the instance goes on. Default: until it is ready or ended."
    ),
]


_SHOWN = 5
"""Planned offers to print; a launch in any region has dozens, and --json has them all."""


@with_request
def launch(
    context: typer.Context,
    request: Request,
    *,
    yes: Annotated[
        bool, typer.Option("--yes", "-y", metavar="", help="Launch without showing the plan first.")
    ] = False,
    watch: Annotated[
        bool, typer.Option("--watch", "-w", metavar="", help="Watch until it is ready; Ctrl-C stops watching.")
    ] = False,
    timeout: Timeout = None,
    as_json: Json = False,
) -> None:
    """Launch a model on a GPU node. On a terminal, show the plan and its price, and ask."""
    session = session_of(context, as_json=as_json)
    # A script has decided already; what it may cost is bounded by its limits.
    answer = _made(session, request) if yes or session.as_json or not interactive() else _asked(session, request)
    if watch:
        if session.as_json:
            session.line(answer, "")
        _watch(session, answer.instance_id, timeout)
    else:
        session.answer(answer, lambda: session.say(f"Watch it: gpulaunch watch {answer.instance_id}"))


@with_request
def plan(context: typer.Context, request: Request, *, as_json: Json = False) -> None:
    """Show what a launch would do and cost, without launching."""
    session = session_of(context, as_json=as_json)
    answer = session.gpu.plan(request)
    session.answer(answer, lambda: _show_plan(session, answer))


def _asked(session: Session, request: Request) -> LaunchAnswer:
    """Launch what was shown and agreed to; a plan that has changed meanwhile is shown and asked about again."""
    while True:
        planned = session.gpu.plan(request)
        _show_plan(session, planned)
        try:
            agreed = typer.confirm("Launch it?", err=True)
        except typer.Abort:
            session.note("\nNothing was launched.")
            raise typer.Exit(Exit.INTERRUPTED) from None
        if not agreed:
            session.note("Nothing was launched.")
            raise typer.Exit(Exit.ERROR)
        try:
            return _made(session, request, planned)
        except ConflictError as error:
            if error.code != "plan_changed":
                raise
            session.note("Nothing was launched: offers or prices have changed. This is the plan now.", "yellow")


def _made(session: Session, request: Request, planned: PlanAnswer | None = None) -> LaunchAnswer:
    try:
        answer = session.gpu.launch(request, plan=planned and planned.plan)
    except KeyboardInterrupt:
        session.note("\nInterrupted before the app answered. `gpulaunch ls` shows whether it was launched.", "yellow")
        raise typer.Exit(Exit.INTERRUPTED) from None
    if not session.as_json:
        session.say(answer.message, "bold")
        session.say(f"{answer.instance_id}  {answer.mode}: {answer.mode_reason}")
        if planned is None:
            _show_offers(session, answer)
    return answer


def watch(
    context: typer.Context,
    instance_id: Id,
    timeout: Timeout = None,
    as_json: Json = False,
) -> None:
    """Watch an instance until it is ready or has ended."""
    session = session_of(context, as_json=as_json)
    _watch(session, session.gpu.get(instance_id).instance_id, timeout)


def _watch(session: Session, instance_id: str, timeout: float | None) -> None:
    try:
        ready = Watch(session, instance_id).run(timeout)
    except KeyboardInterrupt:
        session.note(
            f"\nStopped watching; {instance_id} goes on.\n"
            f"Resume: gpulaunch watch {instance_id}\nTerminate: gpulaunch terminate {instance_id}",
            "yellow",
        )
        raise typer.Exit(Exit.INTERRUPTED) from None
    except EndedError as error:
        if failures := _failures(error.instance):
            session.note(failures)
        raise
    if not session.as_json:
        took = (ready.attempts[-1].ready_at or ready.phase_since) - ready.created_at
        session.say(f"ready after {duration(took.total_seconds())}: {ready.endpoint}", "green")
        session.say(f"Key and curl: gpulaunch credentials {instance_id}\nTerminate: gpulaunch terminate {instance_id}")


def _show_plan(session: Session, answer: PlanAnswer) -> None:
    session.say("Plan", "bold")
    session.say(f"{answer.mode}: {answer.mode_reason}")
    _show_offers(session, answer)


def _show_offers(session: Session, answer: LaunchAnswer | PlanAnswer) -> None:
    for number, one in enumerate(answer.offers[:_SHOWN], 1):
        session.say(f"  {number}. {offer(one)}")
    if len(answer.offers) > _SHOWN:
        session.say(f"  and {len(answer.offers) - _SHOWN} more, if these have no capacity")
    costs = answer.estimate
    session.say(
        f"{usd(costs.hourly_usd)} per hour, at most {usd(costs.worst_case_usd)} in "
        f"{duration(costs.lifetime_minutes * 60)} ({costs.prices_as_of})"
    )
    memory = answer.gpu_memory
    if memory is not None and memory.fits:
        session.say(
            f"GPU memory: needs about {ceil(memory.needed_gib)} GiB, the {memory.gpu} has {memory.has_gib:g} GiB"
        )
    for warning in answer.warnings:
        session.say(f"warning: {warning}", "yellow")


def _failures(view: InstanceView) -> str:
    lines = [
        f"attempt {attempt.number}, {offer(attempt.offer)}: {attempt.failure.message} ({attempt.failure.reason.value})"
        for attempt in view.attempts
        if attempt.failure is not None
    ]
    return "\n".join(lines) or ("" if view.attempts else "No attempt was made.")
