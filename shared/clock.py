"""Time and identity, injected wherever they are needed so that tests and simulations decide them."""

from datetime import UTC, datetime
from typing import Protocol

from ulid import ULID


class Clock(Protocol):
    def now(self) -> datetime: ...


class SystemClock:
    def now(self) -> datetime:
        return datetime.now(UTC)


class Ids(Protocol):
    def instance_id(self, now: datetime) -> str:
        """A new id `inst-<ulid>`; ids made later sort later."""
        ...


class UlidIds:
    """Instance ids from ULIDs: 48 bits of time, 80 bits of randomness."""

    def instance_id(self, now: datetime) -> str:
        return f"inst-{ULID.from_datetime(now)}"
