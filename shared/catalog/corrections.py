"""What is wrong in the source of the Azure prices, and what is made of it.

The source is kept as it came; every departure from it is one of the rules here, and applies to a live catalog of the
same make as well:

gpu-count      a count that the real machine does not have is replaced.
no-spot-price  a spot price that is not below the on-demand price is no spot price: there is no spot offer.
no-price       a row without an on-demand price gives no offer.
no-gpu         a machine without a GPU gives no offer.
part-of-a-gpu  a machine with a part of a GPU gives no offer: vLLM needs a whole one.
retired        a machine type that Azure has retired gives no offer.
"""

import re
from dataclasses import dataclass, replace

GPU_COUNTS: dict[str, int] = {"Standard_ND96isr_H100_v5": 8}
"""GPUs of machines whose count is wrong in the source (12 there; Azure's page of the ND H100 v5 series says 8)."""

PARTS_OF_A_GPU: dict[str, str] = {
    "Standard_NV6ads_A10_v5": "a sixth of an A10",
    "Standard_NV12ads_A10_v5": "a third of an A10",
    "Standard_NV18ads_A10_v5": "half an A10",
    "Standard_NV4as_v4": "an eighth of a Radeon MI25",
    "Standard_NV8as_v4": "a quarter of a Radeon MI25",
    "Standard_NV16as_v4": "half a Radeon MI25",
}
"""Machines with a part of a GPU (Azure's pages of the NVadsA10 v5 and NVv4 series); some rows give them a whole one."""


@dataclass(frozen=True)
class Retirement:
    """A series of machine types that can't be had any more."""

    types: re.Pattern[str]
    series: str
    date: str
    """ISO date on which the series ended."""


RETIRED: tuple[Retirement, ...] = (
    Retirement(re.compile(r"^Standard_NC(6|12|24|24r)(_Promo)?$"), "NC (K80)", "2023-09-06"),
    Retirement(re.compile(r"^Standard_NV(6|12|24)(_Promo)?$"), "NV (M60)", "2023-09-06"),
    Retirement(re.compile(r"^Standard_NC(6|12|24|24r)s_v3$"), "NCv3 (V100)", "2025-09-30"),
    Retirement(re.compile(r"^Standard_NV(12|24|48)s_v3$"), "NVv3 (M60)", "2026-09-30"),
    Retirement(re.compile(r"^Standard_NV(4|8|16|32)as_v4$"), "NVv4 (Radeon MI25)", "2026-09-30"),
)
"""From Azure's page of retired sizes and the retirement page of each series."""


@dataclass(frozen=True)
class Row:
    """One row of `vms.csv`: a machine type in a region. Prices in USD per hour; None: the source gives none."""

    instance_type: str
    gpu: str
    """SkyPilot's name; empty: no GPU."""
    gpu_count: float
    """May be a fraction in the source."""
    vcpus: float | None
    memory_gib: float | None
    price: float | None
    spot_price: float | None
    region: str
    gpu_memory_gib: float | None = None
    """Memory of one GPU; the live list has it for AWS."""


@dataclass(frozen=True)
class LeftOut:
    """A row that gives no offer."""

    instance_type: str
    rule: str
    why: str
    """For people."""


def correct(row: Row) -> Row | LeftOut:
    """Apply the rules to one row."""
    name = row.instance_type
    if not row.gpu:
        return LeftOut(name, "no-gpu", "it has no GPU")
    for retirement in RETIRED:
        if retirement.types.match(name):
            return LeftOut(name, "retired", f"Azure retired the {retirement.series} series on {retirement.date}")
    if name in PARTS_OF_A_GPU:
        return LeftOut(name, "part-of-a-gpu", f"it has {PARTS_OF_A_GPU[name]}, and vLLM needs a whole GPU")
    count = GPU_COUNTS.get(name, row.gpu_count)
    if count < 1 or count != int(count):
        return LeftOut(name, "part-of-a-gpu", f"it has {count:g} {row.gpu}, and vLLM needs whole GPUs")
    if row.price is None:
        return LeftOut(name, "no-price", f"the source gives no price for it in {row.region}")
    spot = row.spot_price if row.spot_price is not None and row.spot_price < row.price else None
    return replace(row, gpu_count=int(count), spot_price=spot)


def not_offered() -> dict[str, str]:
    """Machine types known to have a part of a GPU, whether or not a source lists them, each with the reason."""
    return {name: f"it has {part}, and vLLM needs a whole GPU" for name, part in PARTS_OF_A_GPU.items()}
