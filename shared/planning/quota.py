"""Which offers a region's quota excludes; pure. What is not known excludes nothing: the cloud itself has the last word.

What a machine takes of which line is the cloud's to say (`CloudCompute.quota_needs`).
"""

from collections.abc import Callable, Iterable, Mapping, Sequence

from gpulaunch.models.offers import Offer
from shared.domain.quota import QuotaNeed, QuotaUsage, RegionUsage

NeedsOf = Callable[[Offer], Sequence[QuotaNeed]]


def plain(name: str) -> str:
    """A quota's name without the stray spaces and the letter case that differ between Azure's own answers."""
    return "".join(name.split()).casefold()


def shortage(offer: Offer, needs: Iterable[QuotaNeed], usage: RegionUsage) -> str | None:
    """Why the region's quota does not allow one more machine of an offer; None when nothing is known against it."""
    lines = by_name(usage.lines)
    for need in needs:
        line = lines.get(plain(need.name))
        if line is not None and line.free < need.amount:
            return (
                f"no quota: {usage.region} has {line.free} of {line.limit} {need.unit} free in {need.name}, "
                f"{offer.instance_type} needs {need.amount}"
            )
    return None


def excluded(offers: Iterable[Offer], usages: Mapping[str, RegionUsage], needs_of: NeedsOf) -> dict[str, str]:
    """The offers that the quota excludes: reason by `Offer.key`. Regions without a usage exclude nothing."""
    reasons: dict[str, str] = {}
    for offer in offers:
        usage = usages.get(offer.region)
        reason = None if usage is None else shortage(offer, needs_of(offer), usage)
        if reason is not None:
            reasons[offer.key] = reason
    return reasons


def by_name(lines: Iterable[QuotaUsage]) -> dict[str, QuotaUsage]:
    return {plain(line.name): line for line in lines}


def held(offers: Iterable[Offer], needs_of: NeedsOf) -> dict[str, int]:
    """What machines of these offers hold of the quota, by plain name."""
    sums: dict[str, int] = {}
    for offer in offers:
        for need in needs_of(offer):
            sums[plain(need.name)] = sums.get(plain(need.name), 0) + need.amount
    return sums
