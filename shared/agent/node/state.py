"""What the agent knows of its node, shared by its threads."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

from shared.agent.node.clock import NodeClock
from shared.agent.node.log import Log

INSTALLING = "installing"
LOADING = "loading_model"
STARTING = "starting_server"
SERVING = "serving"
STOPPING = "stopping"
FAILED = "failed"


class State:
    """The node's status; threads write it, the reporter or the status server reads it."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._lock = threading.Lock()
        self.phase, self.detail, self.failure = INSTALLING, "", ""
        self.fetched: int = 0
        self.total: int | None = None
        self.port: int | None = None
        self.version: str | None = None
        self.notice: str | None = None
        self.seconds_left: float | None = None
        self.exit_code: int | None = None
        self.tail: Callable[[], list[str]] = list
        self.evidence: Sequence[str] = ()
        """The log lines that show a failure's cause, or what a job said."""
        self.changed = threading.Event()

    def enter(self, phase: str, detail: str = "", failure: str = "") -> None:
        """Go to a phase; a failed node stays failed until it stops."""
        with self._lock:
            if self.phase in (phase, STOPPING) or (self.phase == FAILED and phase != STOPPING):
                return
            self.phase, self.detail, self.failure = phase, self._log.clean(detail), failure
        self._log(f"{phase}{': ' if detail else ''}{detail}")
        self.changed.set()

    def add_fetched(self, count: int) -> None:
        """Count bytes of the model that arrived (negative: that have to be fetched again)."""
        with self._lock:
            self.fetched += count

    def add_total(self, total: int, fetched: int) -> None:
        """Count what is to be fetched in all, and what of it is here already."""
        with self._lock:
            self.total, self.fetched = (self.total or 0) + total, self.fetched + fetched

    def warn(self, notice: str, seconds_left: float | None = None) -> None:
        """The node is about to end; the first reason counts."""
        with self._lock:
            if self.notice is not None:
                return
            self.notice, self.seconds_left = notice, seconds_left
        self._log(f"notice: {notice}")
        self.changed.set()

    def finish_job(self, exit_code: int, output: Sequence[str] = ()) -> None:
        """The job ended; its last lines are what the log is to show."""
        self.evidence = self.evidence or output
        self.exit_code = exit_code
        self._log(f"the job exited with {exit_code}")
        self.changed.set()

    def status(self, lines: int) -> dict[str, Any]:
        """The status to report, with so many log lines; unknown values are left out."""
        status: dict[str, Any] = {
            "phase": self.phase,
            "detail": self.detail,
            "failure": self.failure or None,
            "fetched_bytes": self.fetched if self.total is not None else None,
            "total_bytes": self.total,
            "port": self.port,
            "notice": self.notice,
            "job": None if self.exit_code is None else {"exit_code": self.exit_code},
            "log_tail": [self._log.clean(line) for line in self.evidence or self.tail()[-lines:]] if lines else None,
        }
        return {name: value for name, value in status.items() if value not in (None, "", [])}


class Lease:
    """How long the node may live without hearing from the control plane."""

    def __init__(self, clock: NodeClock, seconds: float) -> None:
        self._clock = clock
        self.over = False
        """The control plane ended this attempt."""
        self.renew(seconds)

    def renew(self, seconds: float) -> None:
        """Extend the lease to so many seconds from now."""
        self.seconds = seconds
        self._until = self._clock.ticks() + seconds

    @property
    def lost(self) -> bool:
        return self._clock.ticks() >= self._until
