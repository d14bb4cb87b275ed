"""`gpulaunch doctor`: what works, what does not, and what to do about it."""

import os
from collections.abc import Iterator
from itertools import chain
from typing import Annotated

import typer

from gpulaunch.cli.checks.local import local_checks
from gpulaunch.cli.checks.remote import remote_checks
from gpulaunch.cli.checks.result import Check
from gpulaunch.cli.exits import Exit
from gpulaunch.cli.session import Json, Session, session_of

_STYLES = {"ok": ("✓", "green"), "note": ("·", "dim"), "warning": ("!", "yellow"), "failed": ("✗", "red")}


def doctor(
    context: typer.Context,
    *,
    azure: Annotated[bool, typer.Option("--azure", help="Only this: what the Azure account lacks for a node.")] = False,
    region: Annotated[str, typer.Option(help="With --azure: where to launch.")] = "eastus",
    instance_type: Annotated[str, typer.Option(help="With --azure: on what.")] = "Standard_NV36ads_A10_v5",
    use_spot: Annotated[bool, typer.Option(help="With --azure: on a spot machine.")] = True,
    as_json: Json = False,
) -> None:
    """Check the app, the token, and what this machine needs to run the app itself."""
    session = session_of(context, as_json=as_json)
    wanted = _azure(region, instance_type, spot=use_spot) if azure else chain(remote_checks(session), local_checks())
    checks = list(wanted)
    session.answer(checks, lambda: _show(session, checks))
    if any(check.state == "failed" for check in checks):
        raise typer.Exit(Exit.ERROR)


def _azure(region: str, instance_type: str, *, spot: bool) -> Iterator[Check]:
    from deploy.arm import Arm, signed_in
    from deploy.preflight import Wish, azure_checks

    subscription = os.environ.get("AZURE_SUBSCRIPTION_ID") or None
    try:
        arm = Arm(signed_in())
    except ModuleNotFoundError as error:
        detail = f"the package of {error.name} is not installed here"
        yield Check(name="azure", state="failed", detail=detail, advice="`make install`, in a clone of the project")
        return
    yield from azure_checks(arm, Wish(region, instance_type, spot, subscription))


def _show(session: Session, checks: list[Check]) -> None:
    width = max(len(check.name) for check in checks)
    for check in checks:
        mark, style = _STYLES[check.state]
        session.say(f"{mark} {check.name:<{width}} {check.detail}", style)
        if check.advice:
            session.say(f"  {'':<{width}} {check.advice}")
