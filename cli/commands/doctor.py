"""`gpulaunch doctor`: what works, what does not, and what to do about it."""

import typer

from cli.checks.local import local_checks
from cli.checks.remote import remote_checks
from cli.checks.result import Check
from cli.exits import Exit
from cli.session import Json, Session, session_of

_STYLES = {"ok": ("✓", "green"), "note": ("·", "dim"), "warning": ("!", "yellow"), "failed": ("✗", "red")}


def doctor(context: typer.Context, as_json: Json = False) -> None:
    """Check the app, the token, and what this machine needs to run the app itself."""
    session = session_of(context, as_json=as_json)
    checks = [*remote_checks(session), *local_checks()]
    session.answer(checks, lambda: _show(session, checks))
    if any(check.state == "failed" for check in checks):
        raise typer.Exit(Exit.ERROR)


def _show(session: Session, checks: list[Check]) -> None:
    for check in checks:
        mark, style = _STYLES[check.state]
        session.say(f"{mark} {check.name:<12} {check.detail}", style)
        if check.advice:
            session.say(f"  {'':<12} {check.advice}")
