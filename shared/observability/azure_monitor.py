"""Telemetry to Azure Monitor (Application Insights), by Microsoft's distribution of OpenTelemetry."""

import logging
import os
from typing import Any, cast

import azure.monitor.opentelemetry as distribution
from opentelemetry import metrics, trace

from gpulaunch.version import VERSION
from shared.observability.recording import LineFilter, Recording
from shared.redaction import Redactor

_LIBRARIES = ("azure_sdk", "django", "fastapi", "flask", "httpx", "httpx2", "psycopg2", "requests", "urllib", "urllib3")
"""Instrumented by the distribution unless told otherwise: a span for each request of a library, with its address."""
_SWITCHES = {
    # The distribution's own statistics and remote settings, and the look for a machine's metadata: three hosts more.
    "APPLICATIONINSIGHTS_STATSBEAT_DISABLED_ALL": "true",
    "APPLICATIONINSIGHTS_SDKSTATS_DISABLED": "true",
    "APPLICATIONINSIGHTS_CONTROLPLANE_DISABLED": "true",
    "OTEL_EXPERIMENTAL_RESOURCE_DETECTORS": "azure_functions",
    "OTEL_SERVICE_NAME": "gpulaunch",
    "OTEL_RESOURCE_ATTRIBUTES": f"service.version={VERSION}",
}
"""Only the environment can say these; what an operator has set there stays."""


def connect(connection: str, redactor: Redactor, *, on_console: bool) -> Recording:
    """Begin to export; for the life of the process, once.

    Nothing is sent here, and a wrong or unreachable address costs telemetry only. The identity is the one of
    APPLICATIONINSIGHTS_AUTHENTICATION_STRING. `on_console`: our lines go on to the root logger too; on Azure that
    would be the host, which puts them into Application Insights a second time, without their dimensions.
    """
    for name, value in _SWITCHES.items():
        os.environ.setdefault(name, value)
    cast("Any", distribution).configure_azure_monitor(
        connection_string=connection,
        logger_name="gpulaunch",
        log_record_processors=[LineFilter(redactor)],
        instrumentation_options={name: {"enabled": False} for name in _LIBRARIES},
        enable_live_metrics=False,
        enable_performance_counters=False,
        # A launch is a few dozen spans: each is kept, or there would be stories with holes.
        sampling_ratio=1.0,
    )
    ours = logging.getLogger("gpulaunch")
    ours.setLevel(logging.INFO)
    ours.propagate = on_console
    # The exporter tells its own troubles to the root logger; below a warning that is a line for each request.
    logging.getLogger("azure.monitor").setLevel(logging.WARNING)
    return Recording(cast("Any", trace.get_tracer_provider()), cast("Any", metrics.get_meter_provider()), redactor)
