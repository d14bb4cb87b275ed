"""Time and identity, injected wherever they are needed so that tests and simulations decide them."""

from datetime import UTC, datetime
from typing import Protocol

from ulid import ULID


class Clock(Protocol):
    """A source of the current time."""

    def now(self) -> datetime:
        """The current time, timezone-aware, in UTC."""
        ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        """The current time in UTC."""
        return datetime.now(UTC)


class Ids(Protocol):
    """A source of instance ids."""

    def instance_id(self, now: datetime) -> str:
        """A new id `inst-<ulid>`; ids made later sort later."""
        ...


class UlidIds:
    """Instance ids from ULIDs: 48 bits of time, 80 bits of randomness."""

    def instance_id(self, now: datetime) -> str:
        """A new id `inst-<ulid>` of the given moment."""
        return f"inst-{ULID.from_datetime(now)}"
