"""The telemetry interface and its names; discards everything until something is configured.

This module imports nothing of OpenTelemetry. Attribute names are those of the log's custom dimensions too, so that one
query joins spans, log lines and metrics: `instance_id`, `attempt`, `phase`, `mode`, `provider`, `reason`.
"""

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

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
PHASE_SECONDS = Metric("gpulaunch.phase.duration", "s", "How long a phase lasted, recorded when it is left.")
READY_SECONDS = Metric("gpulaunch.ready.duration", "s", "From acceptance to the first time that an instance is ready.")
FAILURES = Metric("gpulaunch.failures", "{attempt}", "Attempts that failed, by reason, provider and region.")
COST = Metric("gpulaunch.cost", "USD", "What attempts have cost, booked when nothing is left of their node.")
COUNTERS = (LAUNCHES, PHASES, FAILURES, COST)
HISTOGRAMS = (PHASE_SECONDS, READY_SECONDS)


class Span:
    """An open span; this one discards what it is given."""

    def note(self, **attributes: Value) -> None:
        """Add attributes."""


class Telemetry:
    """Takes in what happens, never raises and never waits for a network. This one discards it; `Recording` exports."""

    @contextmanager
    def span(self, name: str, parent: str | None = None, **attributes: Value) -> Generator[Span]:  # noqa: ARG002
        """A span around a block.

        `parent` is a traceparent (W3C), the launch's; the current span stays the parent if it is of the same trace.
        """
        yield Span()

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

    def traceparent(self) -> str | None:
        """The current span's traceparent, to be stored; None: there is none."""
        return None

    def count(self, metric: Metric, amount: float = 1, **attributes: Value) -> None:
        """Add to a counter."""

    def measure(self, metric: Metric, value: float, **attributes: Value) -> None:
        """Add a value to a histogram."""


SILENT = Telemetry()
