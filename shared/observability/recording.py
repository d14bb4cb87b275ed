"""Telemetry by OpenTelemetry's interface, whatever it is exported to, and the filter for its log records.

Every text passes the redactor: spans and metrics leave the process by other ways than the log's.
"""

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.metrics import MeterProvider
from opentelemetry.sdk._logs import LogRecordProcessor, ReadWriteLogRecord
from opentelemetry.trace import SpanContext, Status, StatusCode, TracerProvider
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from gpulaunch.version import VERSION
from shared.observability.base import COUNTERS, HISTOGRAMS, Metric, Span, Telemetry, Value
from shared.redaction import Redactor

_SCOPE = "gpulaunch"
_ON_LINES = ("instance_id", "attempt", "phase")
"""What each line of the log inherits from the span that it is written in."""
_W3C = TraceContextTextMapPropagator()


class Recording(Telemetry):
    """Spans and metrics for the given providers."""

    def __init__(self, traces: TracerProvider, meters: MeterProvider, redactor: Redactor) -> None:
        self._tracer = traces.get_tracer(_SCOPE, VERSION)
        meter = meters.get_meter(_SCOPE, VERSION)
        self._counters = {one: meter.create_counter(one.name, one.unit, one.description) for one in COUNTERS}
        self._histograms = {one: meter.create_histogram(one.name, one.unit, one.description) for one in HISTOGRAMS}
        self._redactor = redactor

    @contextmanager
    def span(self, name: str, parent: str | None = None, **attributes: Value) -> Generator[Span]:
        """See Telemetry. An error that passes is noted by its kind alone: its text may hold anything."""
        with self._tracer.start_as_current_span(
            name,
            _placed(parent),
            attributes=_clean(attributes, self._redactor),
            record_exception=False,
            set_status_on_exception=False,
        ) as inner:
            try:
                yield _OpenSpan(inner, self._redactor)
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
        """See Telemetry. Below the launch itself, not below the step that reports it: phases stand side by side."""
        noted = _clean(attributes, self._redactor)
        span = self._tracer.start_span(name, _extracted(parent), attributes=noted, start_time=_nanoseconds(begin))
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
        self._counters[metric].add(amount, _clean(attributes, self._redactor))

    def measure(self, metric: Metric, value: float, **attributes: Value) -> None:
        """See Telemetry."""
        self._histograms[metric].record(value, _clean(attributes, self._redactor))


class _OpenSpan(Span):
    def __init__(self, span: trace.Span, redactor: Redactor) -> None:
        self._span, self._redactor = span, redactor

    def note(self, **attributes: Value) -> None:
        self._span.set_attributes(_clean(attributes, self._redactor))


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
        kept = {name: inherited[name] for name in _ON_LINES if name in inherited}
        line.attributes = kept | _clean(line.attributes or {}, self._redactor)

    def shutdown(self) -> None:
        """Nothing is held back."""

    def force_flush(self, timeout_millis: int = 30_000) -> bool:  # noqa: ARG002 - OpenTelemetry's interface
        """Nothing is held back."""
        return True


def _clean(attributes: Mapping[str, Any], redactor: Redactor) -> dict[str, Any]:
    """The attributes that have a value, texts redacted."""
    return {
        name: redactor.text(value) if isinstance(value, str) else value
        for name, value in attributes.items()
        if value is not None
    }


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
