"""Questions before money is spent or an address stops working."""

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from gpulaunch.cli.exits import Exit
from gpulaunch.cli.session import Session
from gpulaunch.client.errors import ApiError
from gpulaunch.format import usd
from gpulaunch.models.requests import LaunchRequest

Yes = Annotated[bool, typer.Option("--yes", "-y", metavar="", help="Do not ask.")]


def agree(session: Session, question: str) -> None:
    """Ask, and leave the command if the answer is no.

    Raises:
        typer.Exit: Nothing is to be done.
    """
    try:
        agreed = typer.confirm(question, err=True)
    except typer.Abort:
        session.note("\nNothing was changed.")
        raise typer.Exit(Exit.INTERRUPTED) from None
    if not agreed:
        session.note("Nothing was changed.")
        raise typer.Exit(Exit.ERROR)


def cost_line(session: Session, launch: Mapping[str, Any], replicas: int) -> str:
    """What replicas of a launch cost per hour.

    Raises:
        ClientError: The launch is refused, or the app does not answer.
    """
    each = session.gpu.plan(launch).estimate.hourly_usd
    count = "1 replica" if replicas == 1 else f"{replicas} replicas"
    return f"{count} on the first offer: {usd(each * replicas)} per hour"


def launched_cost_line(session: Session, launch: LaunchRequest, replicas: int) -> str:
    """The same for an endpoint that is there, whose launch may have no offer any more."""
    try:
        return cost_line(session, launch.model_dump(mode="json", exclude_defaults=True), replicas)
    except ApiError as error:
        return f"The price is unknown: {error}"
