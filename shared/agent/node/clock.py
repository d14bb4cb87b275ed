"""Time on the node, replaceable in tests."""

from __future__ import annotations

import threading
import time
from datetime import datetime, timezone


class NodeClock:
    """The wall clock for deadlines; the boot clock, which keeps running in a suspended VM, for leases."""

    def now(self) -> float:
        return time.time()

    def ticks(self) -> float:
        return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))

    def wait(self, event: threading.Event, seconds: float) -> bool:
        """Wait at most so long for the event; return whether it is set."""
        return event.wait(seconds)


def parse_time(text: str) -> float:
    moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
    return (moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)).timestamp()
