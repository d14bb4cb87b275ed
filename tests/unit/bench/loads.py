"""A load that a test sets, in place of the simulation's."""

from dataclasses import dataclass, field


@dataclass
class StillLoad:
    now: float = 0.0
    running: int = 0
    held: int = 0
    ready: int = 0
    start_ages: list[float] = field(default_factory=list[float])
    running_mean: float = 0.0
    service_seconds: float | None = None
    came: int = 0
    """In any window."""
    ended: int = 0
    starts: list[float] = field(default_factory=list[float])

    @property
    def total(self) -> int:
        return self.ready + len(self.start_ages)

    def arrivals(self, seconds: float) -> int:
        return self.came

    def completions(self, seconds: float) -> int:
        return self.ended

    def take_starts(self) -> list[float]:
        taken, self.starts = self.starts, []
        return taken
