"""Records that cannot be read for a time: each costs itself alone, and goes on where it was once it is as it was."""

import json
from random import Random
from typing import TYPE_CHECKING

from shared.storage import rows
from shared.storage.base import Versioned
from shared.storage.rows import TableRow

if TYPE_CHECKING:
    from tests.simulation.simulator import Simulator

EVERY = 60.0
LONGEST = 900.0
"""Longer than garbage is left alone."""


class UnreadableRows:
    def __init__(self, simulator: "Simulator") -> None:
        self._simulator = simulator
        self._chaos = simulator.chaos
        self._random = Random(f"unreadable rows {simulator.seed}")
        self._count = 0
        if self._chaos.rates.unreadable:
            simulator.scheduler.after(EVERY, self._perhaps)

    def _perhaps(self) -> None:
        if not self._chaos.on:
            return
        self._simulator.scheduler.after(EVERY, self._perhaps)
        live = [one.instance_id for one in self._simulator.checks.records if not one.ended]
        if live and self._random.random() < self._chaos.rates.unreadable:
            self._spoil(self._random.choice(live))

    def _spoil(self, instance_id: str) -> None:
        table, truth = self._simulator.table, self._simulator.truth
        key = rows.record_key(instance_id, ended=False)
        found = table.row(key)
        record = truth.load(instance_id)
        # A DELETE under way would end it for good, and it could not be restored.
        deleted = instance_id in self._simulator.witness.world.deletes
        endpoint = self._simulator.endpoints
        if record is not None and endpoint is not None and endpoint.is_deleting(record.record.replica_of):
            return
        if found is None or record is None or deleted or instance_id in truth.unreadable:
            return
        truth.unreadable[instance_id] = record
        etag, row = found
        others = {name: value for name, value in row.items() if not name.startswith("doc")}
        self._count += 1
        spoiled = f"{etag[:-1]}spoiled{self._count}{etag[-1:]}"
        table.edit(key, {**others, "doc": self._garbage(rows.document(row))}, spoiled)
        self._simulator.witness.world.unreadable[instance_id] = self._simulator.scheduler.now()
        self._simulator.witness.world.readable_again.discard(instance_id)
        self._simulator.scheduler.note(f"{instance_id[-4:]} cannot be read")
        left = self._chaos.until - self._simulator.scheduler.seconds
        seconds = min(self._random.choice((self._random.uniform(30, 200), LONGEST, LONGEST)), left)
        self._simulator.scheduler.after(seconds, lambda: self._restore(instance_id, record, row, spoiled))

    def _restore(self, instance_id: str, record: Versioned, row: TableRow, spoiled: str) -> None:
        key = rows.record_key(instance_id, ended=False)
        there = self._simulator.table.row(key)
        if there is None or there[0] != spoiled:
            self._simulator.checks.violated(f"{instance_id[-4:]} was written although it could not be read")
            return
        self._simulator.table.edit(key, row, f"{record.etag[:-1]}restored{self._count}{record.etag[-1:]}")
        del self._simulator.truth.unreadable[instance_id]
        self._simulator.truth.restored_at[instance_id] = self._simulator.scheduler.seconds
        self._simulator.witness.world.readable_again.add(instance_id)
        self._simulator.scheduler.note(f"{instance_id[-4:]} can be read again")

    def _garbage(self, text: str) -> str:
        spoiled = self._random.choice(("cut", "number", "null", "schema"))
        if spoiled == "cut":
            return text[: len(text) // 2]
        if spoiled == "null":
            return "null"
        document = json.loads(text)
        if spoiled == "schema":
            return json.dumps({**document, "schema_version": 9})
        return json.dumps({**document, "phase_since": 7, "attempts": "none"})
