"""The order in which offers are tried, and the cost. Pure.

Rules of the order:
1. Offers that failed lately come last; they are kept, because an old refusal is better than nothing to try.
2. Spot before on-demand. Without `use_spot` there is no spot offer; with it and without `spot_fallback` there is no
   on-demand offer, except on your own machines, which have no spot.
3. Cheapest first; at the same price, regions in the order in which the request lists them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import ROUND_CEILING, Decimal

from gpulaunch.models.base import Stored
from gpulaunch.models.offers import Offer
from gpulaunch.models.requests import LaunchRequest

MAX_OFFERS = 16
"""A plan is never longer: at some minutes an attempt, more could not be tried within the patience of anyone."""
FALLBACK_PLACES = 4
"""Places of a full plan kept for on-demand offers, so that many spot offers do not crowd out the fallback."""

_CENT = Decimal("0.01")
_MINUTES_PER_HOUR = 60


@dataclass(frozen=True)
class RecentFailure:
    key: str
    """`Offer.key`."""
    until: datetime
    """From then on the offer is tried in its usual turn again."""
    reason: str
    """Why, for people."""


@dataclass(frozen=True)
class Demotion:
    """An offer that is not where the order of prices would have it."""

    offer: Offer
    planned: bool
    """True: kept, but tried last; False: excluded from the plan."""
    reason: str
    """Why, for people."""


@dataclass(frozen=True)
class Plan:
    """The offers in the order in which they are tried, and what was demoted or excluded."""

    offers: list[Offer]
    demotions: list[Demotion]


class CostEstimate(Stored):
    """What a launch may cost, in USD, from the listed prices.

    Prices per hour stand as listed, not rounded. Amounts are rounded up to the cent, once, at the end.
    """

    hourly_usd: float
    """Price per hour of the offer that is tried first."""
    highest_hourly_usd: float
    """Highest price per hour in the plan."""
    lifetime_minutes: int
    worst_case_usd: float
    """The highest price, from acceptance to the end of the longest lifetime."""
    as_of: str
    """How old the prices are."""


def _exclusion(offer: Offer, request: LaunchRequest) -> str | None:
    if request.regions and offer.region.casefold() not in {region.casefold() for region in request.regions}:
        return f"region {offer.region} was not asked for"
    if offer.use_spot and not request.use_spot:
        return "spot was not asked for"
    # Without machine types these are your own machines.
    rented = offer.instance_type is not None
    if rented and request.use_spot and not request.spot_fallback and not offer.use_spot:
        return "on-demand was ruled out (spot_fallback is false)"
    if request.max_hourly_cost is not None and offer.price_per_hour > request.max_hourly_cost:
        return f"{offer.price_per_hour:.10g} USD an hour is above max_hourly_cost {request.max_hourly_cost:.10g}"
    return None


def draw_up(
    offers: Sequence[Offer],
    request: LaunchRequest,
    recent_failures: Sequence[RecentFailure] = (),
    now: datetime | None = None,
    excluded: Mapping[str, str] | None = None,
) -> Plan:
    """Plan the offers; report what was demoted or excluded, and why.

    Args:
        recent_failures: recent refusals; of two for one offer the one that holds longer counts.
        now: refusals whose `until` has come by then no longer count; None: all count.
        excluded: offers excluded for other reasons, such as missing quota: reason by `Offer.key`.
    """
    held = {
        failure.key: failure
        for failure in sorted(recent_failures, key=lambda failure: failure.until)
        if now is None or failure.until > now
    }
    order = {region.casefold(): place for place, region in reversed(list(enumerate(request.regions)))}

    def rank(offer: Offer) -> tuple[bool, float, int, str]:
        place = order.get(offer.region.casefold(), len(order))
        return (not offer.use_spot, offer.price_per_hour, place, offer.key)

    fresh: list[Offer] = []
    tired: list[Offer] = []
    demotions: list[Demotion] = []
    for offer in sorted({offer.key: offer for offer in offers}.values(), key=rank):
        reason = (excluded or {}).get(offer.key) or _exclusion(offer, request)
        if reason is not None:
            demotions.append(Demotion(offer, planned=False, reason=reason))
        elif offer.key in held:
            tired.append(offer)
        else:
            fresh.append(offer)

    spot = [offer for offer in fresh if offer.use_spot]
    on_demand = [offer for offer in fresh if not offer.use_spot]
    spot_places = MAX_OFFERS - min(FALLBACK_PLACES, len(on_demand))
    planned = (spot[:spot_places] + on_demand)[:MAX_OFFERS]
    kept = tired[: MAX_OFFERS - len(planned)]
    demotions += [Demotion(offer, planned=True, reason=held[offer.key].reason) for offer in kept]
    room = f"a plan has {MAX_OFFERS} offers at most"
    chosen = {offer.key for offer in [*planned, *kept]}
    demotions += [Demotion(offer, planned=False, reason=room) for offer in fresh + tired if offer.key not in chosen]
    return Plan(offers=planned + kept, demotions=demotions)


def plan(
    offers: Sequence[Offer],
    request: LaunchRequest,
    recent_failures: Sequence[RecentFailure] = (),
    now: datetime | None = None,
) -> list[Offer]:
    """The offers to try, in order, at most MAX_OFFERS; empty when the request rules all of them out."""
    return draw_up(offers, request, recent_failures, now).offers


def estimate(planned: Sequence[Offer], lifetime_minutes: int, as_of: str) -> CostEstimate:
    """What a launch over these offers may cost.

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
    return CostEstimate(
        hourly_usd=planned[0].price_per_hour,
        highest_hourly_usd=highest,
        lifetime_minutes=lifetime_minutes,
        worst_case_usd=float(worst.quantize(_CENT, rounding=ROUND_CEILING)),
        as_of=as_of,
    )
