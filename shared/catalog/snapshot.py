"""The catalog that comes with the project: a snapshot of prices, read from `data/` once and on first use.

The folder has the layout of SkyPilot's own catalog (v8), files unchanged; `snapshot.json` says where they come from and
which corrections are applied (`corrections.py`).
"""

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path

from gpulaunch.models.offers import Offer
from gpulaunch.models.requests import ProviderName
from shared.catalog.corrections import CatalogRow, ExcludedRow, correct, too_small
from shared.catalog.gpu_memory import gpu_memory_gib
from shared.clouds.registry import CLOUDS, TRAITS
from shared.domain.catalog import ANY_REGION, Listing, NotCataloguedError, Prices
from shared.domain.cloud import CloudsByProvider

DATA = Path(__file__).parent / "data"


def _number(text: str) -> float | None:
    return float(text) if text else None


def read_rows(table: Iterable[Mapping[str, str]]) -> list[CatalogRow]:
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
        for row in table
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


def rented_listing(provider: ProviderName, rows: Iterable[CatalogRow], prices: Prices, notes: Sequence[str]) -> Listing:
    """Offers of a cloud from the rows of its `vms.csv`, corrected."""
    offers: list[Offer] = []
    corrections = CLOUDS[provider].corrections
    # Some sources do not list the fractions at all; they are explained anyway.
    reasons = {name: too_small(fraction) for name, fraction in corrections.fractions.items()}
    for row in rows:
        corrected = correct(row, corrections)
        if isinstance(corrected, ExcludedRow):
            reasons.setdefault(corrected.instance_type, corrected.why)
        else:
            offers += _offers_of(provider, corrected)
    types = {offer.instance_type for offer in offers}
    excluded = {name: why for name, why in sorted(reasons.items()) if name not in types}
    return Listing(prices=prices, notes=notes, offers=offers, excluded=excluded)


class SnapshotCatalog:
    """The snapshot as a Catalog. Reading takes some milliseconds and happens once, at the first question."""

    clouds: CloudsByProvider = TRAITS

    def __init__(self, data: Path = DATA) -> None:
        self._data = data
        self._listings: dict[ProviderName, Listing] = {}

    def listing(self, provider: ProviderName) -> Listing:
        if provider not in self._listings:
            rents_machines = self.clouds[provider].rents_machines
            if rents_machines and not self._machines(provider).exists():
                raise self._not_catalogued(provider)
            facts = json.loads((self._data / "snapshot.json").read_text("utf-8"))
            # No day is known, so none is claimed.
            prices = Prices("snapshot", facts["as_of"])
            if rents_machines:
                rows = read_rows(_table(self._machines(provider)))
                listing = rented_listing(provider, rows, prices, [*facts["notes"], *facts["corrections"].values()])
            else:
                listing = self._own(provider, prices)
            self._listings.setdefault(provider, listing)
        return self._listings[provider]

    def _machines(self, provider: ProviderName) -> Path:
        return self._data / provider / "vms.csv"

    def _own(self, provider: ProviderName, prices: Prices) -> Listing:
        """One GPU each, in any region, at the price in `pricing.csv` where "" is any GPU."""
        given = self._data / provider / "pricing.csv"
        everywhere = [row for row in _table(given) if not row["Region"]] if given.exists() else []
        by_gpu = {row["AcceleratorName"]: float(row["PricePerAccelerator"]) for row in everywhere}
        names = {row["AcceleratorName"] for row in _table(self._data / "common" / "accelerators.csv")}
        offers = [
            Offer(
                provider=provider,
                region=ANY_REGION,
                instance_type=None,
                gpu=name,
                gpu_count=1,
                gpu_memory_gib=gpu_memory_gib(name),
                use_spot=False,
                price_per_hour=by_gpu.get(name, by_gpu.get("", 0.0)),
            )
            for name in sorted(names)
            # A TPU is not a GPU, and the vLLM that the nodes install does not run on one.
            if not name.startswith("tpu-")
        ]
        note = f"Your own machines are counted at price 0; any GPU and any region is accepted on {provider}."
        return Listing(prices=prices, notes=[note], offers=offers, excluded={})

    def _not_catalogued(self, provider: ProviderName) -> NotCataloguedError:
        own = [name for name, cloud in self.clouds.items() if not cloud.rents_machines]
        rented = [name for name in self.clouds if name not in own and self._machines(name).exists()]
        message = (
            f"this catalog has no {provider} prices, so a launch there cannot be planned or its cost bounded; "
            f"set provider to {', '.join(rented)}, or to {' or '.join(own)} for your own machines"
        )
        return NotCataloguedError(message, nearest=[*rented, *own])


def _table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@cache
def snapshot() -> SnapshotCatalog:
    """The snapshot in the project; one for the process."""
    return SnapshotCatalog()
