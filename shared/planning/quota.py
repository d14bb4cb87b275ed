"""Which offers a region's quota rules out; pure.

Azure counts on-demand machines by cores of their family and by cores of the region, spot machines by the region's
low-priority cores, and both as machines. What is not known rules nothing out: Azure itself has the last word.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from gpulaunch.models.offers import Offer
from shared.domain.quota import RegionUsage, Usage

CORES, SPOT_CORES, MACHINES = "cores", "lowPriorityCores", "virtualMachines"

_FAMILIES: tuple[tuple[str, str], ...] = (
    # Families of GPU machines as `az vm list-skus` and `az vm list-usage` name them. Sources: the table of families in
    # SkyPilot 0.14.1 (catalog/data_fetchers/fetch_azure.py, made from list-skus), and the tables "Azure VM series,
    # family name" of Red Hat OpenShift's "Installing on Azure". Sizes as in SkyPilot's catalog v8.
    (r"NC(6|12|24r?)_Promo", "standardNCPromoFamily"),
    (r"NC(6|12|24r?)", "standardNCFamily"),
    (r"NC\d+r?s_v2", "standardNCSv2Family"),
    (r"NC\d+r?s_v3", "standardNCSv3Family"),
    (r"NC\d+as_T4_v3", "Standard NCASv3_T4 Family"),
    (r"NC\d+ads_A10_v4", "StandardNCADSA10v4Family"),
    (r"NC\d+ads_A100_v4", "StandardNCADSA100v4Family"),
    (r"NC\d+adi?s_H100_v5", "StandardNCadsH100v5Family"),
    (r"NCC\d+ads_H100_v5", "StandardNCCads2023Family"),
    (r"ND\d+r?s", "standardNDSFamily"),
    (r"ND40rs_v2", "standardNDSv2Family"),
    (r"ND96asr_v4", "Standard NDASv4_A100 Family"),
    (r"ND96amsr_A100_v4", "standardNDAMSv4_A100Family"),
    (r"ND\d+isr_H100_v5", "standardNDSH100v5Family"),
    (r"ND\d+isr_H200_v5", "standardNDISRH200V5Family"),
    (r"NG\d+adm?s_V620_v1", "StandardNGADSV620v1Family"),
    (r"NV(6|12|24)_Promo", "standardNVPromoFamily"),
    (r"NV(6|12|24)", "standardNVFamily"),
    (r"NV\d+s_v2", "standardNVSv2Family"),
    (r"NV\d+s_v3", "standardNVSv3Family"),
    (r"NV\d+as_v4", "standardNVSv4Family"),
    (r"NV\d+adm?s_A10_v5", "StandardNVADSA10v5Family"),
    (r"NV\d+adm?s_V710_v5", "StandardNVadsV710v5Family"),
)
_PATTERNS = tuple((re.compile(f"Standard_{size}", re.IGNORECASE), family) for size, family in _FAMILIES)


@dataclass(frozen=True)
class Need:
    """So much of one line of a region's quota."""

    name: str
    amount: int


def family_of(instance_type: str) -> str | None:
    """The quota family of a machine type; None when it is not known here."""
    return next((family for pattern, family in _PATTERNS if pattern.fullmatch(instance_type)), None)


def plain(name: str) -> str:
    """A quota's name without the stray spaces and the letter case that differ between Azure's own answers."""
    return "".join(name.split()).casefold()


def needs_of(offer: Offer) -> list[Need]:
    """What a machine of an offer takes of its region's quota; as far as the catalog knows its cores and its family."""
    if offer.instance_type is None:
        return []
    needs = [Need(MACHINES, 1)]
    if offer.vcpus is None:
        return needs
    cores = int(offer.vcpus)
    if offer.use_spot:
        return [*needs, Need(SPOT_CORES, cores)]
    family = family_of(offer.instance_type)
    return [*([] if family is None else [Need(family, cores)]), Need(CORES, cores), *needs]


def shortage(offer: Offer, usage: RegionUsage) -> str | None:
    """Why the region's quota does not allow one more machine of an offer; None when nothing is known against it."""
    lines = by_name(usage.lines)
    for need in needs_of(offer):
        line = lines.get(plain(need.name))
        if line is not None and line.free < need.amount:
            what = "machines" if need.name == MACHINES else "cores"
            return (
                f"no quota: {usage.region} has {line.free} of {line.limit} {what} free in {need.name}, "
                f"{offer.instance_type} needs {need.amount}"
            )
    return None


def excluded(offers: Iterable[Offer], usages: Mapping[str, RegionUsage]) -> dict[str, str]:
    """The offers that the quota rules out: reason by `Offer.key`. Regions without a usage rule nothing out."""
    reasons: dict[str, str] = {}
    for offer in offers:
        usage = usages.get(offer.region)
        reason = None if usage is None else shortage(offer, usage)
        if reason is not None:
            reasons[offer.key] = reason
    return reasons


def by_name(lines: Iterable[Usage]) -> dict[str, Usage]:
    """The lines of a quota by their plain names."""
    return {plain(line.name): line for line in lines}


def held(offers: Iterable[Offer]) -> dict[str, int]:
    """What machines of these offers hold of the quota, by plain name."""
    sums: dict[str, int] = {}
    for offer in offers:
        for need in needs_of(offer):
            sums[plain(need.name)] = sums.get(plain(need.name), 0) + need.amount
    return sums
