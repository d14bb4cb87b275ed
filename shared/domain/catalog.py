"""What the program needs of a catalog: which machines can be rented where, and for how much.

The snapshot in the project is one catalog; SkyPilot's own, kept for a day, stands before it (`live.py`).

CatalogError
├── NotCataloguedError   the catalog has no prices for that provider
└── CatalogMismatch      a request asks for what is not to be had; one entry per problem
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

from gpulaunch.errors import GpulaunchError
from gpulaunch.models.offers import Offer, PriceSource
from gpulaunch.models.requests import ProviderName
from shared.domain.cloud import CloudsByProvider

ANY_REGION = "*"
"""Region of an offer on your own machines when the request names none.

A region is there the ssh host of a Slurm cluster (`slurm/<host>`) or a Kubernetes context; `slurm/*` is SkyPilot's own
spelling for "choose one", so the offer's provider and region can be handed on as they are.
"""


class CatalogError(GpulaunchError):
    pass


class NotCataloguedError(CatalogError):
    """The catalog has no prices for a provider, so no launch on it can be planned. The message says what to do."""

    def __init__(self, message: str, nearest: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.nearest = list(nearest)
        """Providers that the catalog does have."""


@dataclass(frozen=True)
class FieldProblem:
    field: str
    """The field's name in the request's body."""
    message: str
    nearest: list[str]
    """Values of that field that would do, the most alike first; empty when none is alike."""


class CatalogMismatch(CatalogError):  # noqa: N818 - it says that two things don't match, which is all that is wrong
    """A request asks for what the catalog does not have; carries all problems, not only the first."""

    def __init__(self, problems: Sequence[FieldProblem]) -> None:
        super().__init__("; ".join(f"{problem.field}: {problem.message}" for problem in problems))
        self.problems = list(problems)


@dataclass(frozen=True)
class Prices:
    source: PriceSource
    as_of: str
    """One line for people."""


@dataclass(frozen=True, kw_only=True)
class Listing:
    """What one provider offers. All names are sorted; regions and machine types are empty for your own machines."""

    prices: Prices
    notes: Sequence[str]
    """What to know about the prices, and how they differ from their source; sentences for people."""
    offers: Sequence[Offer]
    """Spot and on-demand apart, priced in USD per hour for the whole node. For your own machines: one offer per GPU
    with count 1 and region ANY_REGION, which stands for any region and count."""
    excluded: Mapping[str, str]
    """Machine types that exist, or did, and that are not offered at all, each with the reason."""

    @cached_property
    def regions(self) -> Sequence[str]:
        return sorted({offer.region for offer in self.offers} - {ANY_REGION})

    @cached_property
    def instance_types(self) -> Sequence[str]:
        return sorted({offer.instance_type for offer in self.offers if offer.instance_type is not None})

    @cached_property
    def gpus(self) -> Sequence[str]:
        return sorted({offer.gpu for offer in self.offers})


class Catalog(Protocol):
    """Offers and prices by provider."""

    @property
    def clouds(self) -> CloudsByProvider: ...

    def listing(self, provider: ProviderName) -> Listing:
        """What a provider offers now.

        Raises:
            NotCataloguedError: The catalog has no prices for it.
        """
        ...
