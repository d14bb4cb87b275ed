"""Tells the control plane that requests wait for an endpoint, so that it need not find out by looking."""

from collections.abc import Callable

QUEUE = "gpulaunch-launches"
"""Where the control plane takes the next steps of endpoints from."""
EVERY_SECONDS = 10.0
"""Between two messages about one endpoint: more would change nothing, a start takes minutes."""

Nudge = Callable[[str], None]
"""Asks for the next step of the endpoint of that name; may raise AzureError. Without it the next sweep makes it."""
