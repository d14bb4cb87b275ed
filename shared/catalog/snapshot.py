"""The catalog that comes with the project: a snapshot of prices, read from `data/` once and on first use.

The folder has the layout of SkyPilot's own catalog (v8), files unchanged; `snapshot.json` says where they come from and
which corrections are applied (`corrections.py`).
"""

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

from gpulaunch.models.offers import Offer
from gpulaunch.models.requests import ProviderName
from shared.catalog.corrections import LeftOut, Row, correct, not_offered
from shared.catalog.gpu_memory import gpu_memory_gib
from shared.domain.catalog import ANY_REGION, OWN_INFRASTRUCTURE, NotCataloguedError, Prices

DATA = Path(__file__).parent / "data"


def _number(text: str) -> float | None:
    return float(text) if text else None


def read_rows(lines: Iterable[str]) -> list[Row]:
    """The rows of a `vms.csv` of SkyPilot's catalog v8, uncorrected."""
    return [
        Row(
            instance_type=row["InstanceType"],
            gpu=row["AcceleratorName"],
            gpu_count=_number(row["AcceleratorCount"]) or 0,
            vcpus=_number(row["vCPUs"]),
            memory_gib=_number(row["MemoryGiB"]),
            price=_number(row["Price"]),
            spot_price=_number(row["SpotPrice"]),
            region=row["Region"],
        )
        for row in csv.DictReader(lines)
    ]


def _offers_of(provider: ProviderName, row: Row) -> list[Offer]:
    """The on-demand offer of a corrected row and, where it has a spot price, the spot offer."""
    return [
        Offer(
            provider=provider,
            region=row.region,
            instance_type=row.instance_type,
            gpu=row.gpu,
            gpu_count=int(row.gpu_count),
            gpu_memory_gib=gpu_memory_gib(row.gpu, row.instance_type) or row.gpu_memory_gib,
            vcpus=row.vcpus,
            memory_gib=row.memory_gib,
            use_spot=use_spot,
            price_per_hour=price,
        )
        for use_spot, price in ((False, row.price), (True, row.spot_price))
        if price is not None
    ]


@dataclass(frozen=True)
class Listing:
    """What one provider has; never changes."""

    offers: tuple[Offer, ...]
    regions: tuple[str, ...]
    instance_types: tuple[str, ...]
    gpus: tuple[str, ...]
    excluded: Mapping[str, str]


def rented_listing(provider: ProviderName, rows: Iterable[Row]) -> Listing:
    """Offers of a cloud from the rows of its `vms.csv`, corrected."""
    offers: list[Offer] = []
    reasons = not_offered() if provider == "azure" else {}
    for row in rows:
        corrected = correct(row)
        if isinstance(corrected, LeftOut):
            reasons.setdefault(corrected.instance_type, corrected.why)
        else:
            offers += _offers_of(provider, corrected)
    types = {offer.instance_type for offer in offers if offer.instance_type is not None}
    return Listing(
        offers=tuple(offers),
        regions=tuple(sorted({offer.region for offer in offers})),
        instance_types=tuple(sorted(types)),
        gpus=tuple(sorted({offer.gpu for offer in offers})),
        excluded=MappingProxyType({name: why for name, why in sorted(reasons.items()) if name not in types}),
    )


def own_listing(provider: ProviderName, gpus: Iterable[str], prices: Mapping[str, float]) -> Listing:
    """Offers on infrastructure of one's own: one GPU each, in any region, at `prices` by GPU, where "" is any GPU."""
    names = tuple(sorted(set(gpus)))
    offers = tuple(
        Offer(
            provider=provider,
            region=ANY_REGION,
            instance_type=None,
            gpu=name,
            gpu_count=1,
            gpu_memory_gib=gpu_memory_gib(name),
            use_spot=False,
            price_per_hour=prices.get(name, prices.get("", 0.0)),
        )
        for name in names
    )
    return Listing(offers=offers, regions=(), instance_types=(), gpus=names, excluded=MappingProxyType({}))


class SnapshotCatalog:
    """The snapshot as a Catalog. Reading takes some milliseconds and happens once, at the first question."""

    def __init__(self, data: Path = DATA) -> None:
        self._data = data

    @cached_property
    def _facts(self) -> dict[str, Any]:
        return json.loads((self._data / "snapshot.json").read_text("utf-8"))

    @cached_property
    def _azure(self) -> Listing:
        with (self._data / "azure" / "vms.csv").open(encoding="utf-8", newline="") as file:
            return rented_listing("azure", read_rows(file))

    @cached_property
    def _own(self) -> dict[ProviderName, Listing]:
        with (self._data / "common" / "accelerators.csv").open(encoding="utf-8", newline="") as file:
            # A TPU is no GPU, and the vLLM that the nodes install does not run on one.
            gpus = [row["AcceleratorName"] for row in csv.DictReader(file)]
            gpus = [name for name in gpus if not name.startswith("tpu-")]
        with (self._data / "slurm" / "pricing.csv").open(encoding="utf-8", newline="") as file:
            everywhere = [row for row in csv.DictReader(file) if not row["Region"]]
        prices = {row["AcceleratorName"]: float(row["PricePerAccelerator"]) for row in everywhere}
        return {"slurm": own_listing("slurm", gpus, prices), "kubernetes": own_listing("kubernetes", gpus, {})}

    def _listing(self, provider: ProviderName) -> Listing:
        if provider == "azure":
            return self._azure
        if provider in OWN_INFRASTRUCTURE:
            return self._own[provider]
        raise NotCataloguedError(
            provider,
            f"there are no {provider} prices in this catalog, so no launch there can be planned or its cost bounded; "
            "say azure, or kubernetes or slurm for machines of your own",
            nearest=["azure", "kubernetes", "slurm"],
        )

    @property
    def as_of(self) -> str:
        """Which snapshot the prices are from; no day is known, so none is claimed."""
        return str(self._facts["as_of"])

    def prices(self, provider: ProviderName) -> Prices:  # noqa: ARG002 - one snapshot for all
        """Which snapshot the prices are from."""
        return Prices("snapshot", self.as_of)

    def offers(self, provider: ProviderName) -> Sequence[Offer]:
        """All offers; see Catalog. Raises NotCataloguedError for aws and gcp."""
        return self._listing(provider).offers

    def regions(self, provider: ProviderName) -> Sequence[str]:
        """Regions that have an offer, sorted. Raises NotCataloguedError for aws and gcp."""
        return self._listing(provider).regions

    def instance_types(self, provider: ProviderName) -> Sequence[str]:
        """Machine types that have an offer, sorted. Raises NotCataloguedError for aws and gcp."""
        return self._listing(provider).instance_types

    def gpus(self, provider: ProviderName) -> Sequence[str]:
        """GPUs that have an offer, sorted. Raises NotCataloguedError for aws and gcp."""
        return self._listing(provider).gpus

    def excluded(self, provider: ProviderName) -> Mapping[str, str]:
        """Machine types without any offer, each with the reason. Raises NotCataloguedError for aws and gcp."""
        return self._listing(provider).excluded

    def notes(self, provider: ProviderName) -> Sequence[str]:
        """What to know about the prices, corrections included. Raises NotCataloguedError for aws and gcp."""
        self._listing(provider)
        if provider != "azure":
            return (f"Machines of your own are counted at price 0; any GPU and any region is taken for {provider}.",)
        return (*self._facts["notes"], *self._facts["corrections"].values())


@cache
def snapshot() -> SnapshotCatalog:
    """The snapshot in the project; one for the process."""
    return SnapshotCatalog()
