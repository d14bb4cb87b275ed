"""How rows of a price list become offers, and what is corrected on the way.

The source is stored as it came; every departure from it is one of the rules here, and applies to live lists as well.
Which machine types of a cloud they concern is said in the cloud's folder (`CatalogCorrections`).

gpu-count      a count that the real machine does not have is replaced.
no-spot-price  a spot price that is not below the on-demand price gives no spot offer.
no-price       a row without an on-demand price gives no offer.
no-gpu         a machine without a GPU gives no offer.
part-of-a-gpu  a machine with a fraction of a GPU gives no offer: vLLM needs a whole one.
retired        a machine type that its cloud has retired gives no offer.
"""

from dataclasses import dataclass, replace

from shared.domain.cloud import CatalogCorrections


@dataclass(frozen=True, kw_only=True)
class CatalogRow:
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
class ExcludedRow:
    instance_type: str
    rule: str
    why: str
    """For people."""


def correct(row: CatalogRow, corrections: CatalogCorrections) -> CatalogRow | ExcludedRow:
    name = row.instance_type
    if not row.gpu:
        return ExcludedRow(name, "no-gpu", "it has no GPU")
    for retirement in corrections.retired:
        if retirement.types.match(name):
            return ExcludedRow(name, "retired", f"the {retirement.series} series was retired on {retirement.date}")
    if name in corrections.fractions:
        return ExcludedRow(name, "part-of-a-gpu", too_small(corrections.fractions[name]))
    count = corrections.gpu_counts.get(name, row.gpu_count)
    if count < 1 or count != int(count):
        return ExcludedRow(name, "part-of-a-gpu", f"it has {count:g} {row.gpu}, and vLLM needs whole GPUs")
    if row.price is None:
        return ExcludedRow(name, "no-price", f"the source gives no price for it in {row.region}")
    spot = row.spot_price if row.spot_price is not None and row.spot_price < row.price else None
    return replace(row, gpu_count=int(count), spot_price=spot)


def too_small(fraction: str) -> str:
    """Why a machine with a fraction of a GPU is not offered."""
    return f"it has {fraction}, and vLLM needs a whole GPU"
