"""The log: a line for each request, written together a few times a second.

To make a record of the logging module and to write it at once costs as much as everything else that the gateway itself
does for a request.
"""

import asyncio
import logging
import sys
import time
from typing import TextIO

TOGETHER_SECONDS = 0.2
"""For which lines are collected. Lines of a process that is killed are lost for so long."""


class Lines(logging.StreamHandler[TextIO]):
    """Writes to standard error what is logged anywhere, and lines. Outside a loop, and at the end, at once."""

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
