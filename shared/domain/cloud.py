"""What a cloud is like, as far as planning, the catalog and the pages care: values from its folder in `shared/clouds`.

Pure rooms do not import that folder; the catalog hands them these values.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from gpulaunch.models.requests import ProviderName


@dataclass(frozen=True, kw_only=True)
class CloudTraits:
    title: str
    """Its name for people: `Azure`."""
    rents_machines: bool
    """It rents machines by type at list prices. Otherwise the machines are the user's own: no machine types, no spot,
    price 0, regions of any name."""
    account_setting: str | None = None
    """The setting that names our account, where the cloud itself can be asked: `AZURE_SUBSCRIPTION_ID`."""
    region_word: str = "Region"
    """What the cloud calls the place that `region` names."""
    shared_nodes: bool = False
    """Other people's jobs run on the same nodes: ports are chosen per launch and none can be opened."""
    type_style: re.Pattern[str] | None = None
    """How the cloud writes its machine types; tells a type that was given with the wrong provider."""
    gpu_by_type: Mapping[str, str] = field(default_factory=dict[str, str])
    """Prefixes of well-known machine types and the GPU in them, under the name that Azure's catalog has for it."""


CloudsByProvider = Mapping[ProviderName, CloudTraits]


@dataclass(frozen=True)
class Retirement:
    """A series of machine types that a cloud no longer offers."""

    types: re.Pattern[str]
    series: str
    date: str
    """ISO date on which the series ended."""


@dataclass(frozen=True, kw_only=True)
class CatalogCorrections:
    """What is wrong in the source of one cloud's prices; `shared.catalog.corrections` applies it."""

    gpu_counts: Mapping[str, int] = field(default_factory=dict[str, int])
    """Machine types whose number of GPUs is wrong in the source."""
    fractions: Mapping[str, str] = field(default_factory=dict[str, str])
    """Machine types with a fraction of a GPU, and which, for people."""
    retired: tuple[Retirement, ...] = ()
