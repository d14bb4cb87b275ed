"""The log: a line for each request, in batches, a few times a second.

A record of the logging module, written at once, costs as much as all else that the gateway itself does for a request.
"""

import asyncio
import logging
import sys
import time
from typing import TextIO

TOGETHER_SECONDS = 0.2
"""For which lines are collected. A process that is killed loses those of its last moments."""


class Lines(logging.StreamHandler[TextIO]):
    """Writes log records and lines to standard error; outside a loop, and when closed, immediately."""

    def __init__(self, stream: TextIO | None = None) -> None:
        super().__init__(stream or open(sys.stderr.fileno(), "w", encoding="utf-8", errors="replace", closefd=False))  # noqa: SIM115 - open as long as the process
        self._later: asyncio.TimerHandle | None = None
        self._second, self._shown = 0, ""

    def line(self, text: str) -> None:
        """Log a line of the gateway, as the logging module would."""
        now = time.time()
        if int(now) != self._second:
            self._second = int(now)
            self._shown = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(now))
        self.stream.write(f"{self._shown},{int(now * 1000) % 1000:03} INFO gpulaunch.gateway {text}\n")
        self.flush()

    def flush(self) -> None:
        if self._later is not None:
            return
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            super().flush()
            return
        self._later = loop.call_later(TOGETHER_SECONDS, self._write)

    def close(self) -> None:
        """Write what waits, also when the loop has ended before."""
        self._write()
        super().close()

    def _write(self) -> None:
        self._later = None
        super().flush()
