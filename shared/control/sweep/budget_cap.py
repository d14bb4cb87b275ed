"""Enforce the hard cap: terminate what runs on a budget that is used up."""

import logging
from dataclasses import dataclass, field
from datetime import datetime

from gpulaunch.models.instances import Phase
from shared.billing.budget import Budgets, Running, over_budget
from shared.control.records import Records
from shared.control.sweep.base import TaskRun, Walk, each
from shared.domain.costs import micro_so_far
from shared.errors import StaleRecordError
from shared.lifecycle.observations import TerminationRequested
from shared.storage.base import InstanceStore, Versioned

log = logging.getLogger("gpulaunch.sweep")


@dataclass(frozen=True)
class BudgetCap:
    """Terminates instances whose month's budget is really spent; one read more, none without a budget."""

    name = "over_budget"

    store: InstanceStore
    records: Records
    budgets: Budgets

    def begin(self, now: datetime) -> TaskRun | None:
        return _Run(self, now) if self.budgets.any and self.budgets.end_at_cap else None

    def enforce(self, running: list[Running]) -> int:
        """Begin to terminate those over budget; how many."""
        over = over_budget(self.store.ledger().ledger, running, self.budgets)

        def end(instance_id: str) -> bool:
            try:
                return self.records.change(instance_id, TerminationRequested(over[instance_id])) is not None
            except StaleRecordError:
                log.warning("%s kept changing; the next sweep terminates it", instance_id)
                return False

        return each(over, end, str)


@dataclass
class _Run(TaskRun):
    task: BudgetCap
    now: datetime
    _running: list[Running] = field(default_factory=list[Running], init=False)

    def see(self, found: Versioned) -> None:
        record = found.record
        if record.reservation is not None:
            accrued = micro_so_far(record, self.now)
            terminating = record.phase is Phase.TERMINATING
            self._running.append(
                Running(instance_id=record.instance_id, held=record.reservation, accrued=accrued, ending=terminating)
            )

    def finish(self, walk: Walk) -> int:  # noqa: ARG002 - records that were not seen are capped by the next sweep
        return self.task.enforce(self._running) if self._running else 0
