"""A world whose telemetry is kept in memory, by OpenTelemetry's own exporters."""

import logging
from typing import Any, cast

from opentelemetry.instrumentation.logging.handler import LoggingHandler
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import format_trace_id

from shared.observability.recording import LineFilter, Recording
from shared.redaction import Redactor, redact_all_logging
from tests.functional.world import World


class Ear:
    """Keeps spans, metrics and lines; `close` takes the handler off the log again."""

    def __init__(self, redactor: Redactor) -> None:
        self.spans = InMemorySpanExporter()
        traces = TracerProvider(shutdown_on_exit=False)
        traces.add_span_processor(SimpleSpanProcessor(self.spans))
        self.reader = InMemoryMetricReader()
        meters = MeterProvider([self.reader], shutdown_on_exit=False)
        self.lines = InMemoryLogRecordExporter()
        provider = LoggerProvider(shutdown_on_exit=False)
        provider.add_log_record_processor(LineFilter(redactor))
        provider.add_log_record_processor(SimpleLogRecordProcessor(self.lines))
        self.handler = LoggingHandler(logger_provider=provider)
        self.logger = logging.getLogger("gpulaunch")
        self.logger.addHandler(self.handler)
        self.logger.setLevel(logging.INFO)
        self.factory = logging.getLogRecordFactory()
        redact_all_logging(redactor)
        self.recording = Recording(traces, meters, redactor)

    def text(self) -> str:
        metrics = self.reader.get_metrics_data()
        told = [metrics.to_json() if metrics else ""]
        told += [span.to_json() for span in self.spans.get_finished_spans()]
        return "\n".join(told + [line.to_json() for line in self.lines.get_finished_logs()])

    def close(self) -> None:
        self.logger.removeHandler(self.handler)
        self.logger.setLevel(logging.NOTSET)
        logging.setLogRecordFactory(self.factory)


class Listening(World):
    def __post_init__(self) -> None:
        super().__post_init__()
        self.ear = Ear(self.adapters.redactor)
        self.rebuild(telemetry=self.ear.recording)

    def spans(self) -> list[ReadableSpan]:
        """In the order in which they ended."""
        return list(self.ear.spans.get_finished_spans())

    def points(self) -> dict[str, list[Any]]:
        data = self.ear.reader.get_metrics_data()
        assert data is not None
        return {
            metric.name: list(metric.data.data_points)
            for resource in data.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
        }

    def metrics(self) -> dict[str, set[tuple[Any, float]]]:
        """Reason and value of each counter's points."""
        return {
            name: {(point.attributes.get("reason"), float(point.value)) for point in points if hasattr(point, "value")}
            for name, points in self.points().items()
        }

    def lines(self) -> list[dict[str, Any]]:
        return [
            {
                **cast("dict[str, Any]", dict(line.log_record.attributes or {})),
                "body": line.log_record.body,
                "trace": format_trace_id(line.log_record.trace_id or 0),
            }
            for line in self.ear.lines.get_finished_logs()
        ]
