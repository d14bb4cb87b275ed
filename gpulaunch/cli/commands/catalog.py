"""`gpulaunch catalog`: what can be launched, and for how much."""

from typing import Annotated

import typer
from rich.text import Text

from gpulaunch.cli.format import clean, table
from gpulaunch.cli.session import Json, Session, session_of
from gpulaunch.format import usd
from gpulaunch.models.requests import DEFAULT_PROVIDER, ProviderName
from gpulaunch.models.responses import CatalogAnswer


def catalog(
    context: typer.Context,
    *,
    provider: Annotated[ProviderName, typer.Option(help="The provider.")] = DEFAULT_PROVIDER,
    region: Annotated[str | None, typer.Option(help="Only offers in this region.")] = None,
    gpu: Annotated[str | None, typer.Option(help="Only offers with this GPU, such as A10.")] = None,
    spot: Annotated[bool | None, typer.Option("--spot/--on-demand", help="Only offers of this kind.")] = None,
    as_json: Json = False,
) -> None:
    """List what can be launched, cheapest first."""
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
            f"No offers match. Regions: {', '.join(answer.regions) or 'any'}. GPUs: {', '.join(answer.gpus) or 'any'}."
        )
    for note in [f"Prices: {answer.prices_as_of}.", *answer.notes]:
        session.note(note, "dim")
