"""Send overdue queues again: lost messages, deadlines, idle times, budgets of single instances."""

from dataclasses import dataclass, field
from datetime import datetime

from gpulaunch.models.instances import Phase
from shared.control.records import send_step
from shared.control.sweep.base import TaskRun, Walk, is_overdue
from shared.lifecycle.transition import NextStep
from shared.storage.base import Queues, Versioned


@dataclass(frozen=True)
class Requeue:
    name = "resent"

    queues: Queues

    def begin(self, now: datetime) -> TaskRun:
        return _Run(self.queues, now)


@dataclass
class _Run(TaskRun):
    queues: Queues
    now: datetime
    _sent: int = field(default=0, init=False)

    def see(self, found: Versioned) -> None:
        record = found.record
        if is_overdue(record, self.now):
            terminating = record.phase is Phase.TERMINATING
            send_step(self.queues, record, NextStep("teardown" if terminating else "advance", 0.0))
            self._sent += 1

    def finish(self, walk: Walk) -> int:  # noqa: ARG002
        return self._sent
