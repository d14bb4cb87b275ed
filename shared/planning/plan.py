"""The order in which offers are tried, and the cost. Pure.

Rules of the order:
0. Of an endpoint's replicas, at most two share an offer while others have fewer: one eviction wave takes one offer.
1. Offers that failed lately come last; they are kept, because an old refusal is better than nothing to try.
2. Spot before on-demand. Without `use_spot` there is no spot offer; with it and without `spot_fallback` there is no
   on-demand offer, except on your own machines, which have no spot.
3. Cheapest first; at the same price, regions in the order in which the request lists them.
"""

from collections import Counter
from collections.abc import Collection, Sequence
from decimal import ROUND_CEILING, Decimal

from gpulaunch.models.offers import Offer
from gpulaunch.models.requests import LaunchRequest
from gpulaunch.models.responses import Estimate
from shared.domain.catalog import Prices
from shared.domain.instance import OFFERS_PER_ROUND

MAX_OFFERS = OFFERS_PER_ROUND
"""All of a plan is tried, so its places are those of a round."""
FALLBACK_PLACES = 4
"""Places of a full plan kept for on-demand offers, so that many spot offers do not crowd out the fallback; also for
those that failed lately only if nothing better is left."""

SHARED = 2
"""Replicas of one endpoint on an offer before a more expensive one is preferred: SkyServe's rule, which kept more nodes
through eviction waves than the cheapest offer alone at a tenth more."""

_CENT = Decimal("0.01")
_MINUTES_PER_HOUR = 60


def _is_asked(offer: Offer, request: LaunchRequest) -> bool:
    regions = {region.casefold() for region in request.regions}
    # Without machine types these are your own machines, which have no spot.
    kind = request.use_spot if offer.use_spot else not request.use_spot or request.spot_fallback
    return (
        (not regions or offer.region.casefold() in regions)
        and (kind or (offer.instance_type is None and not offer.use_spot))
        and (request.max_hourly_cost is None or offer.price_per_hour <= request.max_hourly_cost)
    )


def plan(
    offers: Sequence[Offer],
    request: LaunchRequest,
    failed: Collection[str] = (),
    excluded: Collection[str] = (),
    crowd: Counter[str] | None = None,
) -> list[Offer]:
    """The offers to try, in order, at most MAX_OFFERS; empty when the request rules all of them out.

    `failed` are the keys of offers that failed lately; `excluded` those not to be tried for other reasons, such as
    missing quota; `crowd` says how many replicas of the same endpoint are on an offer, by its key.
    """
    sharing = crowd or Counter[str]()
    order = {region.casefold(): place for place, region in reversed(list(enumerate(request.regions)))}

    def rank(offer: Offer) -> tuple[bool, int, float, int, str]:
        place = order.get(offer.region.casefold(), len(order))
        return (not offer.use_spot, sharing[offer.key] // SHARED, offer.price_per_hour, place, offer.key)

    distinct = {offer.key: offer for offer in offers if offer.key not in excluded and _is_asked(offer, request)}
    ranked = sorted(distinct.values(), key=rank)
    spot = [offer for offer in ranked if offer.use_spot and offer.key not in failed]
    on_demand = [offer for offer in ranked if not offer.use_spot and offer.key not in failed]
    tired = [offer for offer in ranked if offer.key in failed]
    tired_on_demand = [offer for offer in tired if not offer.use_spot]
    fallback_places = min(FALLBACK_PLACES, len(on_demand) + len(tired_on_demand))
    planned = (spot[: MAX_OFFERS - fallback_places] + on_demand)[:MAX_OFFERS]
    missing = max(0, fallback_places - len(on_demand))
    first = tired_on_demand[:missing]
    chosen = [*first, *(offer for offer in tired if offer not in first)][: MAX_OFFERS - len(planned)]
    return planned + sorted(chosen, key=rank)


def estimate(planned: Sequence[Offer], lifetime_minutes: int, prices: Prices) -> Estimate:
    """What a launch over these offers may cost. Amounts are rounded up to the cent, once, at the end.

    The worst case is the highest price of the plan for the whole lifetime: attempts follow one another, so that one
    node at a time is paid for; the minutes until a failed attempt's node is deleted are part of that time.

    Raises:
        ValueError: there is no offer, or the lifetime is not positive.
    """
    if not planned:
        raise ValueError("an estimate needs at least one offer")
    if lifetime_minutes <= 0:
        raise ValueError("a lifetime is at least one minute")
    highest = max(offer.price_per_hour for offer in planned)
    worst = Decimal(str(highest)) * lifetime_minutes / _MINUTES_PER_HOUR
    return Estimate(
        hourly_usd=planned[0].price_per_hour,
        worst_case_usd=float(worst.quantize(_CENT, rounding=ROUND_CEILING)),
        lifetime_minutes=lifetime_minutes,
        prices_as_of=prices.as_of,
        prices_source=prices.source,
    )
