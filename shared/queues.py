"""Names of the queues; apart from the messages, so that starting the app does not wait for their models."""

LAUNCHES = "gpulaunch-launches"
"""Steps that bring an instance forward."""
TEARDOWNS = "gpulaunch-teardowns"
"""Steps that delete nodes; a separate queue, so that they never wait behind launches."""
PROBES = "gpulaunch-health"
"""Slices of live instances to probe."""
ALERTS = "gpulaunch-alerts"
"""Alerts to webhooks; made and polled only where a webhook is configured, since every poll costs."""
QUEUES = (LAUNCHES, TEARDOWNS, PROBES)
