"""What operators ask: `gpulaunch catalog`, `quota`, `costs` and `gc`."""

from datetime import datetime
from typing import Annotated

import typer

from gpulaunch.cli.commands.instances import interactive
from gpulaunch.cli.exits import Exit
from gpulaunch.cli.format import add_row, table
from gpulaunch.cli.session import Json, Session, session_of
from gpulaunch.format import usd
from gpulaunch.models.garbage import AdoptionAnswer, GarbageAnswer
from gpulaunch.models.queries import CostsBy
from gpulaunch.models.reports import CatalogAnswer, CostsAnswer, QuotaAnswer
from gpulaunch.models.requests import DEFAULT_PROVIDER, ProviderName


def catalog(
    context: typer.Context,
    *,
    provider: Annotated[ProviderName, typer.Option(help="The provider.")] = DEFAULT_PROVIDER,
    region: Annotated[str | None, typer.Option(help="Only offers in this region.")] = None,
    gpu: Annotated[str | None, typer.Option(help="Only offers with this GPU, such as A10.")] = None,
    spot: Annotated[
        bool | None, typer.Option("--spot/--on-demand", metavar="", help="Only offers of this kind.")
    ] = None,
    as_json: Json = False,
) -> None:
    """List what can be launched, cheapest first."""
    session = session_of(context, as_json=as_json)
    answer = session.gpu.catalog(provider, region=region, gpu=gpu)
    offers = [offer for offer in answer.offers if spot is None or offer.use_spot is spot]
    answer = answer.model_copy(update={"offers": sorted(offers, key=lambda offer: (offer.price_per_hour, offer.key))})
    session.answer(answer, lambda: _show_catalog(session, answer))


def _show_catalog(session: Session, answer: CatalogAnswer) -> None:
    if answer.offers:
        rows = table("GPU", "MEMORY", "INSTANCE TYPE", "REGION", "KIND", "PRICE/H")
        for offer in answer.offers:
            memory = "" if offer.gpu_memory_gib is None else f"{offer.gpu_memory_gib * offer.gpu_count:g} GiB"
            gpu, machine = f"{offer.gpu}:{offer.gpu_count}", offer.instance_type or ""
            add_row(rows, gpu, memory, machine, offer.region, offer.kind, usd(offer.price_per_hour))
        session.out.print(rows)
    else:
        session.note(
            f"No offers match. Regions: {', '.join(answer.regions) or 'any'}. GPUs: {', '.join(answer.gpus) or 'any'}."
        )
    for note in [f"Prices: {answer.prices_as_of}.", *answer.notes]:
        session.note(note, "dim")


def quota(
    context: typer.Context,
    *,
    region: Annotated[
        list[str] | None, typer.Option(help="A region; repeatable. Default: those of live instances.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show the quota on Azure for GPU machines, and how much of it live instances hold."""
    session = session_of(context, as_json=as_json)
    answer = session.gpu.quota(region or [])
    session.answer(answer, lambda: _show_quota(session, answer))


def _show_quota(session: Session, answer: QuotaAnswer) -> None:
    if not answer.checked:
        session.note(f"Not checked: {answer.reason}", "yellow")
        return
    if not answer.regions:
        session.note("No live instance is on Azure. Name a region: gpulaunch quota --region eastus")
    rows = table("REGION", "QUOTA", "LIMIT", "USED", "FREE", "OURS")
    for one in answer.regions:
        for line in one.lines:
            add_row(rows, one.region, line.name, line.limit, line.used, line.free, line.ours)
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
        datetime | None, typer.Option("--from", formats=["%Y-%m-%d"], help="First day, UTC. Default: the month's.")
    ] = None,
    to: Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"], help="Last day, UTC. Default: today.")] = None,
    by: Annotated[CostsBy, typer.Option(help="What costs are grouped by.")] = "day",
    label: Annotated[str | None, typer.Option(help="With --by label: a label's key, to group by its values.")] = None,
    as_json: Json = False,
) -> None:
    """Show what was spent at list prices, running instances included."""
    session = session_of(context, as_json=as_json)
    answer = session.gpu.costs(from_.date() if from_ else None, to.date() if to else None, by=by, label=label)
    session.answer(answer, lambda: _show_costs(session, answer))


def _show_costs(session: Session, answer: CostsAnswer) -> None:
    rows = table(answer.by.upper(), "NODE HOURS", "SPENT", "PLANNED", "ON-DEMAND", "SAVED BY SPOT", "SIMULATED")
    for group in [*answer.groups, answer.total.model_copy(update={"key": "total"})]:
        spent = (group.actual_usd, group.estimated_usd, group.on_demand_usd, group.spot_saving_usd, group.simulated_usd)
        add_row(rows, group.key, f"{group.node_hours:.2f}", *map(usd, spent))
    session.say(f"{answer.first_day} to {answer.last_day}, UTC")
    session.out.print(rows)
    for budget in answer.budgets:
        session.say(
            f"Budget {budget.label or 'for everything'} in {budget.month} ({budget.mode}): {usd(budget.budget_usd)}, "
            f"{usd(budget.spent_usd)} spent, {usd(budget.reserved_usd)} reserved, {usd(budget.left_usd)} left"
        )


def gc(
    context: typer.Context,
    *,
    confirm: Annotated[bool, typer.Option("--confirm", metavar="", help="Delete the nodes that wait for it.")] = False,
    deleted: Annotated[
        list[str] | None,
        typer.Option(help="A node of which SkyPilot lost its records, and which you found deleted; repeatable."),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", metavar="", help="Don't ask.")] = False,
    as_json: Json = False,
) -> None:
    """Show nodes that wait for a confirmation, that SkyPilot has lost, or that other deployments have."""
    session = session_of(context, as_json=as_json)
    answer = session.gpu.confirm_deleted(deleted) if deleted else session.gpu.garbage()
    waiting = [node.cluster_name for node in answer.waiting if node.confirmed_until is None]
    if confirm and waiting:
        if not yes:
            if session.as_json or not interactive():
                raise typer.BadParameter("standard input is not a terminal; use --yes", param_hint="gc")
            _show_garbage(session, answer)
            typer.confirm(f"Delete {'it' if len(waiting) == 1 else f'these {len(waiting)}'}?", abort=True)
        answer = session.gpu.confirm_garbage(waiting)
    session.answer(answer, lambda: _show_garbage(session, answer))


def adopt(
    context: typer.Context,
    clusters: Annotated[list[str] | None, typer.Argument(help="Names of nodes. Default: all adoptable.")] = None,
    *,
    model_name: Annotated[str, typer.Option(help="The model that they serve, for people.")] = "adopted",
    max_lifetime_minutes: Annotated[
        int | None, typer.Option(help="Terminate them so long after their creation. Default: the longest lifetime.")
    ] = None,
    confirm: Annotated[bool, typer.Option("--confirm", metavar="", help="Adopt them.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", metavar="", help="Don't ask.")] = False,
    as_json: Json = False,
) -> None:
    """Show nodes of this deployment whose records were lost; with --confirm, make instances of them again."""
    session = session_of(context, as_json=as_json)
    garbage = session.gpu.garbage()
    found = [node.cluster_name for node in garbage.waiting if node.adoptable]
    wanted = clusters or found
    if not confirm or not wanted:
        session.answer(garbage, lambda: _show_garbage(session, garbage))
        return
    if not yes:
        if session.as_json or not interactive():
            raise typer.BadParameter("standard input is not a terminal; use --yes", param_hint="adopt")
        _show_garbage(session, garbage)
        typer.confirm(f"Adopt {', '.join(wanted)}?", abort=True)
    answer = session.gpu.adopt(wanted, model_name, max_lifetime_minutes)
    session.answer(answer, lambda: _show_adoption(session, answer))
    if answer.refused:
        raise typer.Exit(Exit.REFUSED)


def _show_adoption(session: Session, answer: AdoptionAnswer) -> None:
    for node in answer.adopted:
        session.say(f"{node.instance_id}  adopted {node.cluster_name}")
    for node in answer.refused:
        session.say(f"{node.cluster_name}  not adopted: {node.why}", "yellow")


def _show_garbage(session: Session, answer: GarbageAnswer) -> None:
    session.say(f"This deployment: {answer.deployment}")
    for node in answer.waiting:
        state = "waits for --confirm" if node.confirmed_until is None else "confirmed; deleted by the next passes"
        session.say(f"{node.cluster_name}  {state}  since {node.since:%Y-%m-%d %H:%M} UTC: {node.why}")
        if node.heard_at is not None:
            session.say(f"  it is alive, last heard at {node.heard_at:%Y-%m-%d %H:%M} UTC", "yellow")
    for node in answer.lost:
        session.say(
            f"{node.cluster_name}  lost by SkyPilot, may be running, since {node.since:%Y-%m-%d %H:%M} UTC: {node.why}"
        )
    for node in answer.foreign:
        owner = f"deployment {node.deployment}" if node.deployment else "no known deployment"
        session.say(f"{node.cluster_name}  not touched: {owner}, since {node.since:%Y-%m-%d %H:%M} UTC")
    if not answer.waiting:
        session.note("Nothing waits for a confirmation.", "dim")
