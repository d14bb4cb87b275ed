"""Run the launch's job once against the node's own endpoint."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from typing import Any

from shared.agent.node.clock import NodeClock
from shared.agent.node.config import Config
from shared.agent.node.process import Child, tail
from shared.agent.node.serve import local_address
from shared.agent.node.state import State
from shared.agent.node.tls import job_environment

_LINES = 100
"""Of its output, as many as a record keeps."""


class JobRun:
    """The user's command; a restarted agent does not run it again."""

    def __init__(self, config: Config, clock: NodeClock, state: State) -> None:
        self._config, self._clock, self._state = config, clock, state
        self._child: Child | None = None
        self._until: float | None = None
        self._result = config.work / "job.result"
        self._output = config.work / "job.log"

    def advance(self, assignment: Mapping[str, Any], environ: Mapping[str, str]) -> None:
        """Start the job unless it has run, and notice its end."""
        job = assignment.get("job")
        if not job or self._state.exit_code is not None:
            return
        if self._child is None:
            if self._result.exists():
                self._state.finish_job(int(self._result.read_text()), tail(self._output, _LINES))
                return
            minutes = job.get("timeout_minutes")
            self._until = None if minutes is None else self._clock.ticks() + minutes * 60
            address = {
                "OPENAI_BASE_URL": f"{local_address(self._state.port, assignment)}/v1",
                "OPENAI_API_KEY": assignment["api_key"],
            }
            work = self._config.work
            trusted = job_environment(assignment.get("tls"), work, environ)
            self._child = Child(job["command"], {**environ, **trusted, **address}, self._output, signal.SIGKILL, work)
        code = self._child.poll()
        if code is None and self._until is not None and self._clock.ticks() >= self._until:
            self._child.stop(5)
            code = 124
        if code is not None:
            self._child.signal_group(signal.SIGKILL)
            self._result.write_text(str(code))
            self._state.finish_job(code, tail(self._output, _LINES))

    def stop(self) -> None:
        if self._child is not None and self._child.poll() is None:
            self._child.stop(5)
