"""Quota: what an account may use of something in a region, and uses."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal


@dataclass(frozen=True)
class QuotaUsage:
    """One line of a region's quota."""

    name: str
    """As the cloud spells it: `cores`, `lowPriorityCores`, `StandardNVADSA10v5Family`."""
    used: int
    limit: int

    @property
    def free(self) -> int:
        """What is left; 0 where a limit was lowered under what is used."""
        return max(0, self.limit - self.used)


@dataclass(frozen=True)
class RegionUsage:
    """A region's quota at one time."""

    region: str
    at: datetime
    lines: tuple[QuotaUsage, ...]


@dataclass(frozen=True)
class QuotaNeed:
    """What one machine takes of one line of a region's quota."""

    name: str
    amount: int
    unit: Literal["cores", "machines"]
