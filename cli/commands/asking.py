"""`gpulaunch catalog` and `gpulaunch costs`: what can be launched for how much, and what was spent."""

from datetime import datetime
from typing import Annotated

import typer
from rich.text import Text

from cli.client.flows import CostsBy
from cli.session import Json, Session, session_of
from cli.wording import clean, table, usd
from shared.models.requests import ProviderName
from shared.models.responses import CatalogAnswer, CostsAnswer


def catalog(
    context: typer.Context,
    *,
    provider: Annotated[ProviderName, typer.Option(help="The provider.")] = "azure",
    region: Annotated[str | None, typer.Option(help="Only offers in this region.")] = None,
    gpu: Annotated[str | None, typer.Option(help="Only offers with this GPU, such as A10.")] = None,
    spot: Annotated[bool | None, typer.Option("--spot/--on-demand", help="Only offers of this kind.")] = None,
    as_json: Json = False,
) -> None:
    """List what can be launched, the cheapest first."""
    session = session_of(context, as_json=as_json)
    answer = session.gpu.catalog(provider, region=region, gpu=gpu)
    offers = [offer for offer in answer.offers if spot is None or offer.use_spot is spot]
    answer = answer.model_copy(update={"offers": sorted(offers, key=lambda offer: (offer.price_per_hour, offer.key))})
    session.answer(answer, lambda: _show(session, answer))


def _show(session: Session, answer: CatalogAnswer) -> None:
    if answer.offers:
        rows = table("GPU", "MEMORY", "INSTANCE TYPE", "REGION", "KIND", "PRICE/H")
        for offer in answer.offers:
            memory = "" if offer.gpu_memory_gib is None else f"{offer.gpu_memory_gib * offer.gpu_count:g} GiB"
            kind = "spot" if offer.use_spot else "on-demand"
            gpu = f"{offer.gpu}:{offer.gpu_count}"
            cells = (gpu, memory, offer.instance_type or "", offer.region, kind, usd(offer.price_per_hour))
            rows.add_row(*(Text(clean(cell)) for cell in cells))
        session.out.print(rows)
    else:
        session.note(
            f"No such offers. Regions: {', '.join(answer.regions) or 'any'}. GPUs: {', '.join(answer.gpus) or 'any'}."
        )
    for note in [f"Prices of {answer.prices_as_of}.", *answer.notes]:
        session.note(note, "dim")


def costs(
    context: typer.Context,
    *,
    from_: Annotated[
        datetime | None, typer.Option("--from", formats=["%Y-%m-%d"], help="The first day, UTC; else the month's.")
    ] = None,
    to: Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"], help="The last day, UTC; else today.")] = None,
    by: Annotated[CostsBy, typer.Option(help="What is summed up.")] = "day",
    label: Annotated[str | None, typer.Option(help="With --by label: a label's key, to sum up by its values.")] = None,
    as_json: Json = False,
) -> None:
    """Show what was spent, running instances included, at list prices."""
    session = session_of(context, as_json=as_json)
    answer = session.gpu.costs(from_.date() if from_ else None, to.date() if to else None, by=by, label=label)
    session.answer(answer, lambda: _spent(session, answer))


def _spent(session: Session, answer: CostsAnswer) -> None:
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
            f"Budget {budget.label or 'of everything'} in {budget.month} ({budget.mode}): {usd(budget.budget_usd)}, "
            f"{usd(budget.spent_usd)} spent, {usd(budget.reserved_usd)} reserved, {usd(budget.left_usd)} left"
        )
