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
from shared.catalog.corrections import CatalogRow, ExcludedRow, correct, not_offered
from shared.catalog.gpu_memory import gpu_memory_gib
from shared.clouds.registry import CLOUDS, TRAITS
from shared.domain.catalog import ANY_REGION, NotCataloguedError, Prices
from shared.domain.cloud import CloudsByProvider

DATA = Path(__file__).parent / "data"


def _number(text: str) -> float | None:
    return float(text) if text else None


def read_rows(lines: Iterable[str]) -> list[CatalogRow]:
    """The rows of a `vms.csv` of SkyPilot's catalog v8, uncorrected."""
    return [
        CatalogRow(
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


def _offers_of(provider: ProviderName, row: CatalogRow) -> list[Offer]:
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


@dataclass(frozen=True, kw_only=True)
class Listing:
    """What one provider has; never changes."""

    offers: tuple[Offer, ...]
    regions: tuple[str, ...]
    instance_types: tuple[str, ...]
    gpus: tuple[str, ...]
    excluded: Mapping[str, str]


def rented_listing(provider: ProviderName, rows: Iterable[CatalogRow]) -> Listing:
    """Offers of a cloud from the rows of its `vms.csv`, corrected."""
    offers: list[Offer] = []
    corrections = CLOUDS[provider].corrections
    reasons = not_offered(corrections)
    for row in rows:
        corrected = correct(row, corrections)
        if isinstance(corrected, ExcludedRow):
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
    """Offers on your own machines: one GPU each, in any region, at `prices` by GPU, where "" is any GPU."""
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
        self._listings: dict[ProviderName, Listing] = {}

    @cached_property
    def _facts(self) -> dict[str, Any]:
        return json.loads((self._data / "snapshot.json").read_text("utf-8"))

    @cached_property
    def _gpus(self) -> list[str]:
        with (self._data / "common" / "accelerators.csv").open(encoding="utf-8", newline="") as file:
            names = [row["AcceleratorName"] for row in csv.DictReader(file)]
        # A TPU is not a GPU, and the vLLM that the nodes install does not run on one.
        return [name for name in names if not name.startswith("tpu-")]

    def _catalogued(self) -> list[ProviderName]:
        """Clouds that rent machines, where the folder has their prices, and then the user's own infrastructure."""
        first = sorted(self.clouds, key=lambda name: not self.clouds[name].rents_machines)
        return [name for name in first if not self.clouds[name].rents_machines or self._machines(name).exists()]

    def _machines(self, provider: ProviderName) -> Path:
        return self._data / provider / "vms.csv"

    def _read(self, provider: ProviderName) -> Listing:
        if not self.clouds[provider].rents_machines:
            return own_listing(provider, self._gpus, self._own_prices(provider))
        with self._machines(provider).open(encoding="utf-8", newline="") as file:
            return rented_listing(provider, read_rows(file))

    def _own_prices(self, provider: ProviderName) -> dict[str, float]:
        prices = self._data / provider / "pricing.csv"
        if not prices.exists():
            return {}
        with prices.open(encoding="utf-8", newline="") as file:
            everywhere = [row for row in csv.DictReader(file) if not row["Region"]]
        return {row["AcceleratorName"]: float(row["PricePerAccelerator"]) for row in everywhere}

    def _listing(self, provider: ProviderName) -> Listing:
        found = self._listings.get(provider)
        if found is not None:
            return found
        known = self._catalogued()
        if provider in known:
            return self._listings.setdefault(provider, self._read(provider))
        rented = ", ".join(name for name in known if self.clouds[name].rents_machines)
        own = " or ".join(name for name in known if not self.clouds[name].rents_machines)
        raise NotCataloguedError(
            provider,
            f"this catalog has no {provider} prices, so a launch there cannot be planned or its cost bounded; "
            f"set provider to {rented}, or to {own} for your own machines",
            nearest=known,
        )

    @property
    def clouds(self) -> CloudsByProvider:
        """See Catalog."""
        return TRAITS

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
        if not self.clouds[provider].rents_machines:
            return (f"Your own machines are counted at price 0; any GPU and any region is accepted on {provider}.",)
        return (*self._facts["notes"], *self._facts["corrections"].values())


@cache
def snapshot() -> SnapshotCatalog:
    """The snapshot in the project; one for the process."""
    return SnapshotCatalog()
