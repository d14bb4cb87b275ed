"""Enforce the hard cap: terminate what runs on a budget that is used up."""

import logging
from datetime import datetime

from gpulaunch.models.instances import Phase
from shared.billing.budget import Budgets, Running, over_budget
from shared.control.records import Records
from shared.control.sweep.base import TaskRun, Walk
from shared.domain.costs import micro_so_far
from shared.errors import StaleRecordError
from shared.lifecycle.observations import TerminationRequested
from shared.storage.base import InstanceStore, Versioned

log = logging.getLogger("gpulaunch.sweep")


class BudgetCap:
    """Terminates instances whose month's budget is really spent; one read more, none without a budget."""

    name = "over_budget"

    def __init__(self, store: InstanceStore, records: Records, budgets: Budgets) -> None:
        self._store = store
        self._records = records
        self._budgets = budgets

    def begin(self, now: datetime) -> TaskRun | None:
        """Start a run."""
        return _Run(self, now) if self._budgets.any and self._budgets.end_at_cap else None

    def enforce(self, running: list[Running]) -> int:
        """Begin to terminate those over budget; how many."""
        ended = 0
        for instance_id, failure in over_budget(self._store.ledger().ledger, running, self._budgets).items():
            try:
                self._records.change(instance_id, TerminationRequested(failure))
            except StaleRecordError:
                log.warning("%s kept changing; the next sweep terminates it: %s", instance_id, failure.message)
            else:
                ended += 1
        return ended


class _Run(TaskRun):
    def __init__(self, task: BudgetCap, now: datetime) -> None:
        self._task = task
        self._now = now
        self._running: list[Running] = []

    def see(self, found: Versioned) -> None:
        record = found.record
        if record.reservation is not None:
            accrued = micro_so_far(record, self._now)
            terminating = record.phase is Phase.TERMINATING
            self._running.append(
                Running(instance_id=record.instance_id, held=record.reservation, accrued=accrued, ending=terminating)
            )

    def finish(self, walk: Walk) -> int:  # noqa: ARG002 - records that were not seen are capped by the next sweep
        return self._task.enforce(self._running) if self._running else 0
