"""SkyPilot's live catalog as its API server lists it: read, checked, packed for a row of the table, shown for a day.

The server's list is believed as a whole or not at all where its shape is concerned; a single row that makes no sense is
left out, and what is wrong in the source is corrected as in the snapshot (`corrections.py`). Where a provider has no
list of the last day, the snapshot stands in for it.
"""

import base64
import json
import math
import re
import threading
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from typing import Final

from pydantic import TypeAdapter, ValidationError

from gpulaunch.models.requests import REGION, WORD, ProviderName
from shared.catalog.corrections import CatalogRow
from shared.catalog.snapshot import rented_listing
from shared.clock import Clock
from shared.clouds.registry import TRAITS
from shared.domain.catalog import Catalog, CatalogError, Listing, NotCataloguedError, Prices
from shared.domain.cloud import CloudsByProvider

RENTED: Final[tuple[ProviderName, ...]] = tuple(name for name, traits in TRAITS.items() if traits.rents_machines)
"""Clouds whose prices SkyPilot lists; the user's own machines have none."""
KEPT: Final = timedelta(days=1)
"""How old a list may be and still be shown."""
RENEWED: Final = timedelta(hours=20)
"""When it is asked for anew: four hours for a server that is busy or asleep before the old list is too old."""
_LOOK: Final = timedelta(minutes=5)
"""How often a process reads what another one has stored."""
_HIGHEST: Final = 1000.0
"""USD per hour: no machine with eight GPUs comes near it; the source has such prices for what can't be rented."""
_GPU_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9 _-]{0,39}")

_Item = tuple[
    str,  # cloud
    str | None,  # instance type; None for a TPU
    str,  # accelerator
    float,  # how many
    float | None,  # vCPUs
    float | None,  # memory of one accelerator, GiB
    float | None,  # memory of the machine, GiB
    float | None,  # price, USD per hour
    float | None,  # spot price
    str,  # region
]
_ITEMS: Final = TypeAdapter(dict[str, list[_Item]])


class ListingError(CatalogError):
    """What a server listed can't be believed, or it could not list anything."""


@dataclass(frozen=True)
class PriceList:
    """A provider's list as the server gave it, uncorrected, and when."""

    provider: ProviderName
    at: datetime
    rows: Sequence[CatalogRow]

    @cached_property
    def listing(self) -> Listing:
        asked = f"List prices of SkyPilot's live catalog for {self.provider}, asked {self.at:%Y-%m-%d %H:%M} UTC"
        notes = (
            f"Prices are those that SkyPilot lists for {self.provider}, asked once a day, the cheapest zone of each "
            "region.",
            "What is known to be wrong in them is corrected: counts, parts of a GPU, retired types, and spot prices "
            "that are not below the on-demand price.",
        )
        return rented_listing(self.provider, self.rows, Prices("live", asked), notes)


Load = Callable[[Mapping[ProviderName, PriceList]], Iterable[PriceList]]


def read_listing(provider: ProviderName, at: datetime, value: object) -> PriceList:
    """What `/list_accelerators` of one cloud returned, for all its regions.

    Raises ListingError when the shape is another one, or no row gives an offer: an empty one is ignored.
    """
    try:
        items = _ITEMS.validate_python(value)
    except ValidationError as error:
        raise ListingError(f"the list of {provider} has an unexpected shape: {error.errors()[0]['msg']}") from error
    rows = [row for group in items.values() for item in group if (row := _row(item)) is not None]
    listed = PriceList(provider, at, rows)
    if not listed.listing.offers:
        raise ListingError(f"the list of {provider} has no offer in it")
    return listed


def pack(value: object) -> str:
    """A server's list as text of a tenth of its size."""
    return base64.b64encode(zlib.compress(json.dumps(value, separators=(",", ":")).encode(), 9)).decode()


def unpack(text: str) -> object:
    try:
        return json.loads(zlib.decompress(base64.b64decode(text, validate=True)))
    except (ValueError, zlib.error) as error:
        raise ListingError(f"a stored list cannot be read: {error}") from error


def _row(item: _Item) -> CatalogRow | None:
    """The row of an item; None for a TPU, and for names that no cloud has."""
    _, instance_type, gpu, count, vcpus, gpu_memory, memory, price, spot_price, region = item
    if instance_type is None or gpu.startswith("tpu-"):
        return None
    if not (re.match(WORD, instance_type) and re.match(REGION, region) and _GPU_NAME.fullmatch(gpu)):
        return None
    return CatalogRow(
        instance_type=instance_type,
        gpu=gpu,
        gpu_count=count if math.isfinite(count) else 0,
        vcpus=_positive(vcpus),
        memory_gib=_positive(memory),
        price=_positive(price, _HIGHEST),
        spot_price=_positive(spot_price, _HIGHEST),
        region=region,
        gpu_memory_gib=_positive(gpu_memory),
    )


def _positive(number: float | None, most: float = math.inf) -> float | None:
    """A number that can be one of its kind; 0 and NaN stand for unknown in the source."""
    return number if number is not None and 0 < number < most else None


class LiveCatalog:
    """The live lists where there are any of the last day, else another catalog. Safe for several threads.

    `load` reads the lists that were stored, by whichever process, but those it is given; called at most every five
    minutes, by one caller at a time.
    """

    def __init__(self, fallback: Catalog, load: Load, clock: Clock) -> None:
        self._fallback = fallback
        self._load = load
        self._clock = clock
        self._lock = threading.Lock()
        self._looked_at: datetime | None = None
        self._lists: Mapping[ProviderName, PriceList] = {}

    def listed(self, provider: ProviderName) -> PriceList | None:
        """The provider's list, if there is one of the last day."""
        now = self._clock.now()
        # Whoever comes while another reads takes what there is.
        if (self._looked_at is None or now - self._looked_at >= _LOOK) and self._lock.acquire(blocking=False):
            try:
                self._lists = {**self._lists, **{one.provider: one for one in self._load(self._lists)}}
                self._looked_at = now
            finally:
                self._lock.release()
        found = self._lists.get(provider)
        return found if found is not None and now - found.at < KEPT else None

    def take(self, listed: PriceList) -> None:
        """Show a new list in this process at once."""
        with self._lock:
            self._lists = {**self._lists, listed.provider: listed}

    @property
    def clouds(self) -> CloudsByProvider:
        return self._fallback.clouds

    def listing(self, provider: ProviderName) -> Listing:
        found = self.listed(provider)
        if found is not None:
            return found.listing
        try:
            return self._fallback.listing(provider)
        except NotCataloguedError as error:
            message = f"{error}; SkyPilot's API server has given no {provider} prices in the last day"
            raise NotCataloguedError(message, error.nearest) from error
