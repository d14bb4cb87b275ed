"""Telemetry by OpenTelemetry's interface, whatever it is exported to, and the filter for its log records.

Every text passes the redactor: spans and metrics leave the process by other ways than the log's.
"""

import threading
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.metrics import Counter, Histogram, MeterProvider
from opentelemetry.sdk._logs import LogRecordProcessor, ReadWriteLogRecord
from opentelemetry.trace import SpanContext, Status, StatusCode, TracerProvider
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from gpulaunch.version import VERSION
from shared.observability.base import Metric, Span, Value
from shared.redaction import Redactor

_SCOPE = "gpulaunch"
_ON_LINES = ("instance_id", "attempt", "phase")
"""What each line of the log inherits from the span that it is written in."""
_W3C = TraceContextTextMapPropagator()


class Recording:
    """Spans and metrics for the given providers."""

    def __init__(self, traces: TracerProvider, meters: MeterProvider, redactor: Redactor) -> None:
        self._tracer = traces.get_tracer(_SCOPE, VERSION)
        self._meter = meters.get_meter(_SCOPE, VERSION)
        self._redactor = redactor
        self._counters: dict[str, Counter] = {}
        self._histograms: dict[str, Histogram] = {}
        self._lock = threading.Lock()

    @contextmanager
    def span(self, name: str, parent: str | None = None, **attributes: Value) -> Generator[Span]:
        """See Telemetry. An error that passes is noted by its kind alone: its text may hold anything."""
        with self._tracer.start_as_current_span(
            name,
            _placed(parent),
            attributes=self.clean(attributes),
            record_exception=False,
            set_status_on_exception=False,
        ) as inner:
            try:
                yield _Open(inner, self)
            except Exception as error:
                inner.set_status(Status(StatusCode.ERROR, type(error).__name__))
                raise

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
        # Below the launch itself, not below the step that happens to tell of it: phases stand side by side.
        span = self._tracer.start_span(
            name, _extracted(parent), attributes=self.clean(attributes), start_time=_nanoseconds(begin)
        )
        if failed is not None:
            span.set_status(Status(StatusCode.ERROR, self._redactor.text(failed)))
        span.end(_nanoseconds(end))

    def traceparent(self) -> str | None:
        """See Telemetry."""
        carrier: dict[str, str] = {}
        _W3C.inject(carrier)
        return carrier.get("traceparent")

    def count(self, metric: Metric, amount: float = 1, **attributes: Value) -> None:
        """See Telemetry."""
        with self._lock:
            if metric.name not in self._counters:
                self._counters[metric.name] = self._meter.create_counter(metric.name, metric.unit, metric.description)
        self._counters[metric.name].add(amount, self.clean(attributes))

    def measure(self, metric: Metric, value: float, **attributes: Value) -> None:
        """See Telemetry."""
        with self._lock:
            if metric.name not in self._histograms:
                made = self._meter.create_histogram(metric.name, metric.unit, metric.description)
                self._histograms[metric.name] = made
        self._histograms[metric.name].record(value, self.clean(attributes))

    def clean(self, attributes: Mapping[str, Value]) -> dict[str, str | int | float | bool]:
        """The attributes that have a value, texts redacted."""
        return {
            name: self._redactor.text(value) if isinstance(value, str) else value
            for name, value in attributes.items()
            if value is not None
        }


class _Open:
    def __init__(self, span: trace.Span, recording: Recording) -> None:
        self._span, self._recording = span, recording

    def note(self, **attributes: Value) -> None:
        """See Span."""
        self._span.set_attributes(self._recording.clean(attributes))


class LineFilter(LogRecordProcessor):
    """Each line of the log gets the instance, attempt and phase of the span it is written in, and loses its secrets.

    The text itself is redacted where it is made; what stands beside it, tracebacks above all, is redacted here.
    """

    def __init__(self, redactor: Redactor) -> None:
        self._redactor = redactor

    def on_emit(self, log_record: ReadWriteLogRecord) -> None:
        """Before the record goes to the exporter."""
        line = log_record.log_record
        inherited: Mapping[str, Any] = getattr(trace.get_current_span(), "attributes", None) or {}
        given = dict(line.attributes or {})
        kept: dict[str, Any] = {name: inherited[name] for name in _ON_LINES if name in inherited}
        for name, value in given.items():
            if value is not None:
                kept[name] = self._redactor.text(value) if isinstance(value, str) else value
        line.attributes = kept

    def shutdown(self) -> None:
        """Nothing is held back."""

    def force_flush(self, timeout_millis: int = 30_000) -> bool:  # noqa: ARG002 - OpenTelemetry's interface
        """Nothing is held back."""
        return True


def _placed(parent: str | None) -> Context | None:
    """Where a span belongs: below the current one if that is of the launch's trace, else below the launch."""
    wanted = _extracted(parent)
    if wanted is None:
        return None
    here: SpanContext = trace.get_current_span().get_span_context()
    there: SpanContext = trace.get_current_span(wanted).get_span_context()
    return None if here.is_valid and here.trace_id == there.trace_id else wanted


def _extracted(parent: str | None) -> Context | None:
    # An empty context: nothing of the current one may be taken over.
    return None if parent is None else _W3C.extract({"traceparent": parent}, Context())


def _nanoseconds(moment: datetime) -> int:
    return round(moment.timestamp() * 1_000_000) * 1000
