"""`gpulaunch quota`: what the cloud allows, and how much of it live instances hold."""

from typing import Annotated

import typer
from rich.text import Text

from gpulaunch.cli.format import clean, table
from gpulaunch.cli.session import Json, Session, session_of
from gpulaunch.models.responses import QuotaAnswer


def quota(
    context: typer.Context,
    *,
    region: Annotated[
        list[str] | None,
        typer.Option(help="A region; repeatable. Default: those of live instances."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Show the quota on Azure for GPU machines, and how much of it live instances hold."""
    session = session_of(context, as_json=as_json)
    answer = session.gpu.quota(region or [])
    session.answer(answer, lambda: _show(session, answer))


def _show(session: Session, answer: QuotaAnswer) -> None:
    if not answer.checked:
        session.note(f"Not checked: {answer.reason}", "yellow")
        return
    if not answer.regions:
        session.note("No live instance is on Azure. Name a region: gpulaunch quota --region eastus")
    rows = table("REGION", "QUOTA", "LIMIT", "USED", "FREE", "OURS")
    for one in answer.regions:
        for line in one.lines:
            numbers = (line.limit, line.used, line.free, line.ours)
            rows.add_row(Text(clean(one.region)), Text(clean(line.name)), *(str(number) for number in numbers))
    if rows.row_count:
        session.out.print(rows)
    for one in answer.regions:
        if one.problem is not None:
            session.note(f"{one.region} was not checked: {one.problem}", "yellow")
        elif one.checked_at is not None:
            session.note(f"{one.region} as of {one.checked_at:%Y-%m-%d %H:%M:%S} UTC", "dim")
