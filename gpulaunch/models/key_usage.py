"""What keys have used in a month: rows that gateways write, and the control plane shows."""

from collections.abc import Iterable
from datetime import UTC, datetime

from gpulaunch.models.base import Kept, UtcTime

USAGE_AREA = "usage"
"""Row keys are `usage|<month>|<key_id>`; the document is as that of an endpoint's row."""


class Use(Kept):
    """Requests that were let through, and tokens of prompts and answers."""

    requests: int = 0
    tokens: int = 0


class GatewayUse(Use):
    """What one gateway let through since the beginning of the month, or since it was counted among `ended`."""

    at: UtcTime
    """When it was written."""


class KeyUsage(Kept):
    """What a key has used in a month. Each gateway writes its own part, as a total: a repeated write is harmless."""

    key_id: str
    ended: Use = Use()
    """Of gateways that are silent for long."""
    gateways: dict[str, GatewayUse] = {}
    """By the gateway's id."""

    @property
    def total(self) -> Use:
        return summed([self.ended, *self.gateways.values()])


def summed(uses: Iterable[Use]) -> Use:
    found = list(uses)
    return Use(requests=sum(one.requests for one in found), tokens=sum(one.tokens for one in found))


def month_of(now: datetime) -> str:
    """The month in UTC, as row keys have it: 2026-01."""
    utc = now if now.tzinfo is UTC else now.astimezone(UTC)
    return f"{utc.year:04}-{utc.month:02}"
