"""The result of one check, and how a list of them is shown."""

from collections.abc import Iterable
from typing import Literal

from pydantic import BaseModel, ConfigDict

from gpulaunch.cli.exits import Exit
from gpulaunch.cli.session import Session

_MARKS = {"ok": ("✓", "green"), "note": ("·", "dim"), "warning": ("!", "yellow"), "failed": ("✗", "red")}


class CheckResult(BaseModel):
    """The result of one check."""

    model_config = ConfigDict(frozen=True)

    name: str
    state: Literal["ok", "note", "warning", "failed"]
    """note: nothing is wrong, but something is missing that some users need."""
    detail: str
    advice: str = ""


def report(session: Session, results: Iterable[CheckResult]) -> Exit:
    """Show checks; an error if one failed."""
    checks = list(results)

    def show() -> None:
        width = max(len(check.name) for check in checks)
        for check in checks:
            mark, style = _MARKS[check.state]
            session.say(f"{mark} {check.name:<{width}} {check.detail}", style)
            if check.advice:
                session.say(f"  {'':<{width}} {check.advice}")

    session.answer(checks, show)
    return Exit.ERROR if any(check.state == "failed" for check in checks) else Exit.OK
