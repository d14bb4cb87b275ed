"""Render the tables of docs/internals/lifecycle.md from the code; `make docs` updates the page."""

import re
from collections.abc import Sequence
from dataclasses import fields
from datetime import timedelta
from pathlib import Path

from gpulaunch.models.instances import Reason
from shared.lifecycle.provision import Retry, retry_after
from shared.lifecycle.rules import final_phase, overdue
from shared.lifecycle.timeouts import Timeouts
from shared.lifecycle.transition import LEGAL
from tests.twins.clock import START
from tests.twins.factories import make_attempt, make_record

PAGE = Path(__file__).parents[3] / "docs" / "internals" / "lifecycle.md"
_RETRIES = {
    Retry.NEXT_OFFER: "the next offer",
    Retry.SAME_OFFER: f"the same offer, up to {Timeouts().same_offer} times in a row",
    Retry.GIVE_UP: "`failed`: another attempt would fail as well",
}
_ENDS = tuple(Reason)[tuple(Reason).index(Reason.USER_REQUEST) :]
"""Reasons that end an instance; those before it fail an attempt."""


def _table(*rows: Sequence[str]) -> str:
    header, *rest = (f"| {' | '.join(cells)} |" for cells in rows)
    return "\n".join((header, "|---" * len(rows[0]) + "|", *rest))


def phases() -> str:
    limits = Timeouts().allowed
    rows = [("phase", "may be followed by", "reason if it takes too long")]
    for phase, following in LEGAL.items():
        late = None
        if phase in limits:
            record = make_record(phase=phase, attempts=[make_attempt()])
            late = overdue(record, START + timedelta(days=1), limits)
        after = ", ".join(f"`{one.value}`" for one in following) or "final"
        rows.append((f"`{phase.value}`", after, f"`{late.reason.value}`" if late else ""))
    return _table(*rows)


def reasons() -> str:
    rows = [("reason", "of", "what follows")]
    rows += [(f"`{one.value}`", "an attempt", _RETRIES[retry_after(one)]) for one in Reason if one not in _ENDS]
    never, ready = make_record(), make_record(attempts=[make_attempt(ready_at=START)])
    for reason in _ENDS:
        final, early = final_phase(ready, reason), final_phase(never, reason)
        text = f"`{final.value}`" + ("" if early is final else f"; `{early.value}` if it was never ready")
        rows.append((f"`{reason.value}`", "an instance", text))
    return _table(*rows)


def timeouts() -> str:
    values = Timeouts()
    rows = [(f"`{one.name}`", f"{getattr(values, one.name):,g}") for one in fields(Timeouts)]
    return _table(("limit", "seconds, or a count"), *rows)


TABLES = {"phases": phases, "reasons": reasons, "timeouts": timeouts}


def rendered(text: str) -> str:
    """The page with its tables as the code says."""
    for name, render in TABLES.items():
        pattern = rf"(<!-- rendered: {name} -->\n).*?(<!-- end -->)"
        text, count = re.subn(pattern, rf"\1\n{render()}\n\n\2", text, flags=re.DOTALL)
        assert count == 1, name
    return text


if __name__ == "__main__":
    PAGE.write_text(rendered(PAGE.read_text("utf-8")), "utf-8")
