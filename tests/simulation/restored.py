"""A table that is restored from a copy some minutes old, or emptied, while nodes run.

Nearly nothing that is promised of a deployment can hold then: records, events and money are those of earlier. What
holds is what matters most: no node in use is deleted unless a person confirms it, and no node runs unseen.
"""

from random import Random
from typing import TYPE_CHECKING

from gpulaunch.models.instances import Phase
from shared.control.garbage_report import GARBAGE, GarbageReport
from shared.domain.instance import instance_of

if TYPE_CHECKING:
    from tests.simulation.simulator import Simulator

_SEEN_AFTER = 1200.0
"""Seconds after which every node without a record is in a report: five minutes after its creation it is marked, five
later it waits, and passes come every two minutes."""


class RestoredTable:
    """Nobody confirms anything here, so whatever is deleted as garbage was deleted unconfirmed."""

    def __init__(self, simulator: "Simulator") -> None:
        self.done = False
        self._simulator = simulator
        self._random = Random(f"restored table {simulator.seed}")
        self._copy: dict[str, tuple[str, dict[str, str]]] = {}
        self._endpoints: dict[str, tuple[str, dict[str, str]]] = {}
        self._in_use: set[str] = set()
        """Clusters of ready instances that the restored table has no record of."""
        if not simulator.chaos.rates.table_restored:
            return
        at = self._random.uniform(0.4, 1.0) * simulator.chaos.until
        if self._random.random() < 0.7:
            age = self._random.uniform(0.1, 0.9) * at
            simulator.scheduler.after(at - age, self._take_copy)
        simulator.scheduler.after(at, self._restore)

    def _take_copy(self) -> None:
        self._copy = self._simulator.table.copy()
        if self._simulator.endpoints is not None:
            self._endpoints = dict(self._simulator.endpoints.store.table.rows)

    def _restore(self) -> None:
        simulator, checks = self._simulator, self._simulator.checks
        if simulator.scheduler.stopped:
            return
        ready = {one.instance_id: one.attempts[-1].cluster_name for one in checks.records if one.phase is Phase.READY}
        simulator.table.put_back({key: found for key, found in self._copy.items() if not key.startswith("note|")})
        if simulator.endpoints is not None:
            simulator.endpoints.store.put_back(self._endpoints)
        self._in_use = {name for one, name in ready.items() if simulator.table.load(one) is None}
        kept = "emptied" if not self._copy else "restored"
        simulator.scheduler.note(f"the table is {kept}, with {len(self._in_use)} nodes in use that it does not know")
        self.done = True
        # What was right before need not be so any more.
        checks.__dict__["violated"] = simulator.witness.world.violated = simulator.scheduler.note

    def discarded(self, name: str) -> None:
        """The garbage collection deletes a node."""
        if self.done and name in self._in_use:
            self._violated(f"{name} was in use and was deleted unconfirmed after the table was restored")

    def judge(self) -> None:
        """Whether every node is known by a record or by the report of garbage."""
        simulator = self._simulator
        simulator.scheduler.run(simulator.scheduler.seconds + _SEEN_AFTER)
        markers = [one.text for one in simulator.table.markers(GARBAGE) if one.key == "report"]
        reports = [GarbageReport.model_validate_json(text) for text in markers]
        seen = {one.cluster_name for report in reports for one in (*report.waiting, *report.foreign)}
        for name in sorted(simulator.running() - seen):
            found = simulator.table.load(instance_of(name))
            if found is None:
                self._violated(f"{name} runs, has no record, and is in no report")

    def _violated(self, what: str) -> None:
        self._simulator.scheduler.note(f"VIOLATION: {what}")
        self._simulator.scheduler.stopped = True
        self._simulator.checks.violations.append(f"at {self._simulator.scheduler.seconds:.3f} s: {what}")
