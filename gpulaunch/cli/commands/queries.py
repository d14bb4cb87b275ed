"""`gpulaunch catalog`, `quota` and `costs`: what can be launched for how much, what Azure allows, what was spent."""

from datetime import datetime
from typing import Annotated

import typer
from rich.text import Text

from gpulaunch.cli.format import clean, table
from gpulaunch.cli.session import Json, Session, session_of
from gpulaunch.format import usd
from gpulaunch.models.queries import CostsBy
from gpulaunch.models.requests import DEFAULT_PROVIDER, ProviderName
from gpulaunch.models.responses import CatalogAnswer, CostsAnswer, QuotaAnswer


def catalog(
    context: typer.Context,
    *,
    provider: Annotated[ProviderName, typer.Option(help="The provider.")] = DEFAULT_PROVIDER,
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
    for note in [f"Prices: {answer.prices_as_of}.", *answer.notes]:
        session.note(note, "dim")


def quota(
    context: typer.Context,
    *,
    region: Annotated[
        list[str] | None,
        typer.Option(help="A region; may be given several times. Without: those that live instances are in."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Show the quota on Azure for GPU machines, and what live instances hold of it."""
    session = session_of(context, as_json=as_json)
    answer = session.gpu.quota(region or [])
    session.answer(answer, lambda: _allowed(session, answer))


def _allowed(session: Session, answer: QuotaAnswer) -> None:
    if not answer.checked:
        session.note(f"Not checked: {answer.reason}", "yellow")
        return
    if not answer.regions:
        session.note("No live instance is on Azure; name a region: gpulaunch quota --region eastus")
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
