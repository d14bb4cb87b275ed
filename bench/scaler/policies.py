"""What a scaler sees of the simulated load, and what it may ask for."""

from dataclasses import dataclass
from typing import Protocol

MOST_NODES = 30


class Load(Protocol):
    """The load now; seconds since the trace began."""

    @property
    def now(self) -> float: ...
    @property
    def running(self) -> int: ...
    @property
    def running_mean(self) -> float:
        """Over the last minute."""
        ...

    @property
    def held(self) -> int: ...
    @property
    def ready(self) -> int:
        """Nodes, without those that drain."""
        ...

    @property
    def start_ages(self) -> list[float]: ...
    @property
    def service_seconds(self) -> float | None:
        """EWMA of the requests that ran on nodes that were not crowded."""
        ...

    def arrivals(self, seconds: float) -> int: ...
    def completions(self, seconds: float) -> int: ...
    def take_starts(self) -> list[float]:
        """How long the starts took that have ended since this was last asked."""
        ...

    @property
    def total(self) -> int:
        """Nodes that are ready or start."""
        ...


@dataclass(frozen=True)
class Wish:
    nodes: int
    releasable: int | None = None
    """How many starts may be given up for fewer nodes; None: all."""


class Policy(Protocol):
    @property
    def interval(self) -> float:
        """Seconds between two looks."""
        ...

    @property
    def wakes_at_zero(self) -> bool:
        """Whether it looks at once at a request that finds no node at all."""
        ...

    @property
    def nudge_interval(self) -> float | None:
        """Seconds between two further looks while requests are held, the first at once; None: there are none."""
        ...

    def look(self, load: Load, *, called: bool) -> Wish | None:
        """Decide; `called`: not at its interval, but for a request that waits. None: no change is asked for."""
        ...
