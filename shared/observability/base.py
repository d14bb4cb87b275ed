"""The telemetry interface, its names, and an implementation that discards everything.

This module imports nothing of OpenTelemetry. Attribute names are those of the log's custom dimensions too, so that one
query joins spans, log lines and metrics: `instance_id`, `attempt`, `phase`, `mode`, `provider`, `reason`.
"""

from collections.abc import Generator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

Value = str | int | float | bool | None
"""What an attribute may be; None is left out."""


@dataclass(frozen=True)
class Metric:
    """A counter or a histogram."""

    name: str
    unit: str
    description: str


LAUNCHES = Metric("gpulaunch.launches", "{launch}", "Launches accepted, by mode and provider.")
PHASES = Metric("gpulaunch.phases", "{phase}", "Phases entered, by phase, mode and provider.")
PHASE_SECONDS = Metric("gpulaunch.phase.duration", "s", "How long a phase lasted, told when it is left.")
READY_SECONDS = Metric("gpulaunch.ready.duration", "s", "From acceptance to the first time that an instance is ready.")
FAILURES = Metric("gpulaunch.failures", "{attempt}", "Attempts that failed, by reason, provider and region.")
COST = Metric("gpulaunch.cost", "USD", "What attempts have cost, booked when nothing is left of their node.")


class Span(Protocol):
    """A span that is open."""

    def note(self, **attributes: Value) -> None:
        """Add attributes."""
        ...


class Telemetry(Protocol):
    """Takes in what happens. Never raises, never waits for a network."""

    def span(self, name: str, parent: str | None = None, **attributes: Value) -> AbstractContextManager[Span]:
        """A span around a block.

        `parent` is a traceparent (W3C), the launch's; the current span stays the parent if it is of the same trace.
        """
        ...

    def finished(
        self,
        name: str,
        parent: str | None,
        begin: datetime,
        end: datetime,
        failed: str | None = None,
        **attributes: Value,
    ) -> None:
        """A span of something that is over; `failed` says why it failed."""
        ...

    def traceparent(self) -> str | None:
        """The current span's traceparent, to be kept; None: there is none."""
        ...

    def count(self, metric: Metric, amount: float = 1, **attributes: Value) -> None:
        """Add to a counter."""
        ...

    def measure(self, metric: Metric, value: float, **attributes: Value) -> None:
        """Add a value to a histogram."""
        ...


class Silent:
    """A telemetry sink that discards everything."""

    @contextmanager
    def span(self, name: str, parent: str | None = None, **attributes: Value) -> Generator[Span]:  # noqa: ARG002
        """See Telemetry."""
        yield self

    def note(self, **attributes: Value) -> None:
        """See Span."""

    def finished(
        self,
        name: str,
        parent: str | None,
        begin: datetime,
        end: datetime,
        failed: str | None = None,
        **attributes: Value,
    ) -> None:
        """See Telemetry."""

    def traceparent(self) -> str | None:
        """See Telemetry."""
        return None

    def count(self, metric: Metric, amount: float = 1, **attributes: Value) -> None:
        """See Telemetry."""

    def measure(self, metric: Metric, value: float, **attributes: Value) -> None:
        """See Telemetry."""


SILENT = Silent()
