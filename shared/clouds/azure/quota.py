"""What a machine takes of Azure's quota; pure.

Azure counts on-demand machines by cores of their family and by cores of the region, spot machines by the region's
low-priority cores, and both as machines: https://learn.microsoft.com/azure/quotas/per-vm-quota-requests and
https://learn.microsoft.com/azure/quotas/spot-quota.
"""

import re
from collections.abc import Sequence

from gpulaunch.models.offers import Offer
from shared.domain.quota import QuotaNeed

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


def family_of(instance_type: str) -> str | None:
    """The quota family of a machine type; None when it is not known here."""
    return next((family for pattern, family in _PATTERNS if pattern.fullmatch(instance_type)), None)


def needs_of(offer: Offer) -> Sequence[QuotaNeed]:
    """What a machine of an offer takes of its region's quota, as far as the catalog knows its cores and its family."""
    if offer.instance_type is None:
        return []
    machine = QuotaNeed(MACHINES, 1, "machines")
    if offer.vcpus is None:
        return [machine]
    cores = int(offer.vcpus)
    if offer.use_spot:
        return [machine, QuotaNeed(SPOT_CORES, cores, "cores")]
    family = family_of(offer.instance_type)
    of_family = [] if family is None else [QuotaNeed(family, cores, "cores")]
    return [*of_family, QuotaNeed(CORES, cores, "cores"), machine]


def concerns_gpus(name: str) -> bool:
    """Whether a line of the quota can matter to a GPU machine; a region has hundreds of others."""
    plain = name.replace(" ", "").casefold()
    return plain in (CORES, SPOT_CORES.casefold(), MACHINES.casefold()) or plain.startswith(
        ("standardnc", "standardnd", "standardng", "standardnv")
    )
