"""Names of the queues; apart from the messages, so that starting the app does not wait for their models."""

LAUNCHES = "gpulaunch-launches"
"""Steps that bring an instance forward."""
TEARDOWNS = "gpulaunch-teardowns"
"""Steps that take nodes away; a queue of its own, so that they never wait behind launches."""
HEALTH = "gpulaunch-health"
"""Slices of live instances to probe."""
QUEUES = (LAUNCHES, TEARDOWNS, HEALTH)
