"""Which offers of a catalog meet a request, and what is wrong with a request that none meets; pure.

`gpu: "A10"` means exactly one whole GPU: machines that carry a part of a GPU, or more GPUs than asked for, don't match.
Case is put aside in regions, machine types and GPU names; offers carry the catalog's own spelling.
"""

import difflib
import re
from collections.abc import Iterable, Sequence

from gpulaunch.models.offers import Offer
from gpulaunch.models.requests import LaunchRequest
from shared.domain.catalog import ANY_REGION, Catalog, CatalogMismatch, FieldProblem, Listing, NotCataloguedError


def _plain(name: str) -> str:
    """A name without what people leave out or add: case, spaces, dashes, `Standard_`."""
    return re.sub(r"[^a-z0-9]", "", name.casefold()).removeprefix("standard")


def nearest(value: str, candidates: Iterable[str], limit: int = 3) -> list[str]:
    """The candidates most like a value, best first, at most `limit`; empty when none is alike.

    Equal but for case, spaces and dashes comes first (`East US` → eastus), then what begins alike (`A100` →
    A100-80GB), then what difflib finds similar.
    """
    wanted = _plain(value)

    def likeness(candidate: str) -> float:
        plain = _plain(candidate)
        begins = bool(wanted) and plain.startswith(wanted)
        return difflib.SequenceMatcher(None, wanted, plain).ratio() + begins + (plain == wanted)

    scored = [(likeness(candidate), candidate) for candidate in candidates]
    alike = sorted((pair for pair in scored if pair[0] >= 0.6), key=lambda pair: (-pair[0], pair[1]))
    return [candidate for _, candidate in alike[:limit]]


def match(request: LaunchRequest, catalog: Catalog) -> list[Offer]:
    """All offers that meet a request, spot and on-demand as it allows, in the catalog's order.

    `shared.planning.plan` puts them in the order of trying, and strikes those above `max_hourly_cost`.

    Raises:
        CatalogMismatch: nothing meets it; carries every problem of the request with the nearest valid values.
    """
    try:
        listing = catalog.listing(request.provider)
    except NotCataloguedError as error:
        problems = [FieldProblem("provider", str(error), error.nearest)]
        style = _foreign_style(request, catalog)
        if style is not None:
            problems.append(FieldProblem("instance_type", style, []))
        raise CatalogMismatch(problems) from error
    if catalog.clouds[request.provider].rents_machines:
        return _rented(request, catalog, listing)
    return _own(request, catalog, listing)


def _canonical(value: str, known: Iterable[str]) -> str | None:
    """The known spelling of a value, case put aside; None when it is unknown."""
    wanted = value.casefold()
    return next((name for name in known if name.casefold() == wanted), None)


def _foreign_style(request: LaunchRequest, catalog: Catalog) -> str | None:
    """That the machine type is written as another cloud writes its own, or None."""
    wanted = request.instance_type
    for provider, cloud in catalog.clouds.items():
        if wanted is None or provider == request.provider or cloud.type_style is None:
            continue
        if cloud.type_style.match(wanted):
            return f"{wanted} looks like a machine type of {cloud.title}, and the provider is {request.provider}"
    return None


def _gpu_by_type(instance_type: str, catalog: Catalog) -> str | None:
    known = [pair for cloud in catalog.clouds.values() for pair in cloud.gpu_by_type.items()]
    return next((gpu for prefix, gpu in known if instance_type.casefold().startswith(prefix)), None)


def _spec(gpu: str, count: int) -> str:
    return gpu if count == 1 else f"{gpu}:{count}"


def _by_price(offers: Iterable[Offer], attribute: str) -> list[str]:
    """The distinct values of an attribute of offers, the cheapest first."""
    ordered = sorted(offers, key=lambda offer: (offer.price_per_hour, offer.key))
    return list(dict.fromkeys(str(getattr(offer, attribute)) for offer in ordered))


def _own(request: LaunchRequest, catalog: Catalog, listing: Listing) -> list[Offer]:
    """Offers on your own machines. `use_spot` is accepted and ignored there."""
    if request.instance_type is not None:
        style = _foreign_style(request, catalog)
        message = f"{request.provider} has no machine types; set `gpu` instead"
        twin = _rented_twin(request.instance_type, catalog)
        if twin is not None:
            message += f", such as {_spec(twin.gpu, twin.gpu_count)}"
        raise CatalogMismatch([FieldProblem("instance_type", f"{message} ({style})" if style else message, [])])
    wanted = request.gpu_name or ""
    gpu = _canonical(wanted, listing.gpus)
    if gpu is None:
        message = f"no GPU is called {wanted}"
        raise CatalogMismatch([FieldProblem("gpu", message, nearest(wanted, listing.gpus))])
    return [
        template.model_copy(
            update={
                "region": region,
                "gpu_count": request.gpu_count,
                "price_per_hour": template.price_per_hour * request.gpu_count,
            }
        )
        for template in listing.offers
        if template.gpu == gpu
        for region in dict.fromkeys(request.regions or (ANY_REGION,))
    ]


def _rented_twin(instance_type: str, catalog: Catalog) -> Offer | None:
    for provider in catalog.clouds:
        try:
            offers = catalog.listing(provider).offers
        except NotCataloguedError:
            continue
        for offer in offers:
            if offer.instance_type is not None and offer.instance_type.casefold() == instance_type.casefold():
                return offer
    return None


def _rented(request: LaunchRequest, catalog: Catalog, listing: Listing) -> list[Offer]:
    problems: list[FieldProblem] = []
    if request.instance_type is not None:
        wanted = _of_type(request, request.instance_type, catalog, listing, problems)
    else:
        wanted = _of_gpu(request, listing, problems)
    local = _in_regions(request, listing, wanted, problems)
    allowed = [offer for offer in local if _allows(request, offer)]
    if local and not allowed:
        price = min(offer.price_per_hour for offer in local)
        problems.append(
            FieldProblem(
                "use_spot",
                f"no spot price is known for {_name(request)} there; on-demand costs from {price:.10g} USD an hour: "
                "set `use_spot` to false, or `spot_fallback` to true",
                ["false"],
            )
        )
    _check_price(request, allowed or [offer for offer in wanted if _allows(request, offer)], problems)
    if problems:
        raise CatalogMismatch(problems)
    return allowed


def _name(request: LaunchRequest) -> str:
    return request.instance_type or request.gpu or ""


def _allows(request: LaunchRequest, offer: Offer) -> bool:
    return request.use_spot if offer.use_spot else not request.use_spot or request.spot_fallback


def _of_type(
    request: LaunchRequest, wanted: str, catalog: Catalog, listing: Listing, problems: list[FieldProblem]
) -> list[Offer]:
    """The offers of a machine type; a problem is noted when there is none."""
    provider, known = request.provider, listing.instance_types
    found = _canonical(wanted, known)
    if found is not None:
        same = [offer for offer in listing.offers if offer.instance_type == found]
        specs = sorted({_spec(offer.gpu, offer.gpu_count) for offer in same})
        if len(specs) > 1:
            message = f"{found} is rented with any of these GPUs: {', '.join(specs)}; set `gpu` instead"
            problems.append(FieldProblem("instance_type", message, []))
            return []
        return same
    retired = _canonical(wanted, listing.excluded)
    style = _foreign_style(request, catalog)
    if retired is not None:
        problems.append(
            FieldProblem(
                "instance_type", f"{retired} is not offered: {listing.excluded[retired]}", nearest(wanted, known)
            )
        )
    elif style is not None:
        gpu = _gpu_by_type(wanted, catalog)
        cousins = _by_price((offer for offer in listing.offers if gpu in (None, offer.gpu)), "instance_type")
        problems.append(FieldProblem("instance_type", f"{style}; take a type of {provider}", cousins[:3]))
    else:
        message = f"{provider} has no machine type {wanted} with a GPU in this catalog"
        problems.append(FieldProblem("instance_type", message, nearest(wanted, known)))
    return []


def _of_gpu(request: LaunchRequest, listing: Listing, problems: list[FieldProblem]) -> list[Offer]:
    """The offers with exactly the GPUs asked for; a problem is noted when there is none."""
    provider, wanted, count = request.provider, request.gpu_name or "", request.gpu_count
    known = listing.gpus
    found = _canonical(wanted, known)
    if found is None:
        message = f"{provider} has no GPU {wanted} in this catalog"
        problems.append(FieldProblem("gpu", message, nearest(wanted, known) or list(known)))
        return []
    same = [offer for offer in listing.offers if offer.gpu == found]
    exact = [offer for offer in same if offer.gpu_count == count]
    if not exact:
        counts = sorted({offer.gpu_count for offer in same}, key=lambda offered: (abs(offered - count), offered))
        family = found.split("-")[0]
        siblings = {
            offer.gpu for offer in listing.offers if offer.gpu_count == count and offer.gpu.split("-")[0] == family
        }
        message = f"{provider} offers {found} by {', '.join(map(str, sorted(counts)))} on a machine, not by {count}"
        near = [*(_spec(found, offered) for offered in counts), *(_spec(gpu, count) for gpu in sorted(siblings))]
        problems.append(FieldProblem("gpu", message, near))
    return exact


def _in_regions(
    request: LaunchRequest, listing: Listing, wanted: list[Offer], problems: list[FieldProblem]
) -> list[Offer]:
    """Those of the wanted offers that are in the regions asked for; problems are noted for regions that won't do.

    Of several regions some may lack the machine, as long as one has it; an unknown region is always a problem.
    """
    if not request.regions:
        return wanted
    known = listing.regions
    having = _by_price(wanted, "region")
    asked: list[str] = []
    for region in request.regions:
        found = _canonical(region, known)
        if found is None:
            message = f"{request.provider} has no region {region} with a GPU in this catalog"
            problems.append(FieldProblem("region", message, nearest(region, having or known) or having or list(known)))
        else:
            asked.append(found)
    local = [offer for offer in wanted if offer.region in asked]
    if wanted and asked and not local:
        message = f"{_name(request)} is not offered in {', '.join(asked)}"
        problems.append(FieldProblem("region", message, having))
    return local


def _check_price(request: LaunchRequest, offers: Sequence[Offer], problems: list[FieldProblem]) -> None:
    if request.max_hourly_cost is None or not offers:
        return
    cheapest = min(offers, key=lambda offer: offer.price_per_hour)
    if cheapest.price_per_hour > request.max_hourly_cost:
        problems.append(
            FieldProblem(
                "max_hourly_cost",
                f"the cheapest offer, {cheapest.key}, costs {cheapest.price_per_hour:.10g} USD an hour",
                [f"{cheapest.price_per_hour:.10g}"],
            )
        )
