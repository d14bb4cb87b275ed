"""What the program needs of a catalog: which machines can be rented where, and for how much.

The snapshot in the project is one catalog; SkyPilot's own, kept for a day, stands before it (`live.py`).

CatalogError
├── NotCataloguedError   the catalog has no prices for that provider
└── CatalogMismatch      a request asks for what is not to be had; one entry per problem
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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
    """Base of what a catalog can say no with."""


class NotCataloguedError(CatalogError):
    """The catalog has no prices for a provider, so no launch on it can be planned. The message says what to do."""

    def __init__(self, provider: ProviderName, message: str, nearest: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.provider = provider
        self.nearest = list(nearest)
        """Providers that the catalog does have."""


@dataclass(frozen=True)
class FieldProblem:
    """Why one field of a request can't be met."""

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
    """Where prices come from and how old they are; goes with every estimate."""

    source: PriceSource
    as_of: str
    """One line for people."""


class Catalog(Protocol):
    """Offers and prices. What it returns never changes; every method but `prices` raises NotCataloguedError."""

    @property
    def clouds(self) -> CloudsByProvider:
        """What each cloud is like."""
        ...

    def prices(self, provider: ProviderName) -> Prices:
        """Where a provider's prices come from."""
        ...

    def offers(self, provider: ProviderName) -> Sequence[Offer]:
        """All offers of a provider, spot and on-demand apart, price in USD per hour for the whole node.

        For your own machines: one offer per GPU with count 1 and region ANY_REGION, which stands for any
        region and count.
        """
        ...

    def regions(self, provider: ProviderName) -> Sequence[str]:
        """The provider's regions, sorted; empty for your own machines, where any name may be one."""
        ...

    def instance_types(self, provider: ProviderName) -> Sequence[str]:
        """The machine types on offer, sorted; empty for your own machines, which has none."""
        ...

    def gpus(self, provider: ProviderName) -> Sequence[str]:
        """Names of the GPUs on offer, sorted."""
        ...

    def excluded(self, provider: ProviderName) -> Mapping[str, str]:
        """Machine types that exist, or did, and that this catalog does not offer at all, each with the reason."""
        ...

    def notes(self, provider: ProviderName) -> Sequence[str]:
        """What to know about the provider's prices, and how they differ from their source; sentences for people."""
        ...
