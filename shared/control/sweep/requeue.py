"""Send overdue steps again: lost messages, deadlines, idle times, budgets of single instances."""

from datetime import datetime

from gpulaunch.models.instances import Phase
from shared.control.step_queue import StepQueue
from shared.control.sweep.base import TaskRun, Walk, is_overdue
from shared.lifecycle.transition import NextStep
from shared.storage.base import Versioned


class Requeue:
    """Sends a message for every overdue step."""

    name = "resent"

    def __init__(self, steps: StepQueue) -> None:
        self._steps = steps

    def begin(self, now: datetime) -> TaskRun:
        """Start a run."""
        return _Run(self._steps, now)


class _Run(TaskRun):
    def __init__(self, steps: StepQueue, now: datetime) -> None:
        self._steps = steps
        self._now = now
        self._sent = 0

    def see(self, found: Versioned) -> None:
        record = found.record
        if is_overdue(record, self._now):
            terminating = record.phase is Phase.TERMINATING
            self._steps.send(record, NextStep("teardown" if terminating else "advance", 0.0))
            self._sent += 1

    def finish(self, walk: Walk) -> int:  # noqa: ARG002
        return self._sent
