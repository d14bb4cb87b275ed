"""`gpulaunch costs`: what was spent."""

from datetime import datetime
from typing import Annotated

import typer
from rich.text import Text

from gpulaunch.cli.format import clean, table
from gpulaunch.cli.session import Json, Session, session_of
from gpulaunch.format import usd
from gpulaunch.models.queries import CostsBy
from gpulaunch.models.responses import CostsAnswer


def costs(
    context: typer.Context,
    *,
    from_: Annotated[
        datetime | None,
        typer.Option("--from", formats=["%Y-%m-%d"], help="First day, UTC. Default: the month's."),
    ] = None,
    to: Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"], help="Last day, UTC. Default: today.")] = None,
    by: Annotated[CostsBy, typer.Option(help="What costs are grouped by.")] = "day",
    label: Annotated[str | None, typer.Option(help="With --by label: a label's key, to group by its values.")] = None,
    as_json: Json = False,
) -> None:
    """Show what was spent at list prices, running instances included."""
    session = session_of(context, as_json=as_json)
    answer = session.gpu.costs(from_.date() if from_ else None, to.date() if to else None, by=by, label=label)
    session.answer(answer, lambda: _show(session, answer))


def _show(session: Session, answer: CostsAnswer) -> None:
    rows = table(answer.by.upper(), "NODE HOURS", "SPENT", "PLANNED", "ON-DEMAND", "SAVED BY SPOT", "SIMULATED")
    for group in [*answer.groups, answer.total.model_copy(update={"key": "total"})]:
        amounts = (
            group.actual_usd,
            group.estimated_usd,
            group.on_demand_usd,
            group.spot_saving_usd,
            group.simulated_usd,
        )
        rows.add_row(Text(clean(group.key)), f"{group.node_hours:.2f}", *(usd(amount) for amount in amounts))
    session.say(f"{answer.first_day} to {answer.last_day}, UTC")
    session.out.print(rows)
    for budget in answer.budgets:
        session.say(
            f"Budget {budget.label or 'for everything'} in {budget.month} ({budget.mode}): {usd(budget.budget_usd)}, "
            f"{usd(budget.spent_usd)} spent, {usd(budget.reserved_usd)} reserved, {usd(budget.left_usd)} left"
        )
