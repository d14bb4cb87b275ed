"""Workers of an earlier and of a later version, which take turns with those of this one.

They run this version's code; what differs is what they write. A later version's documents and messages have more in
them, which this one has to keep and to ignore. An earlier version's lack what was added since.
"""

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from shared.storage import rows
from tests.simulation.chaos import Chaos

if TYPE_CHECKING:
    from tests.simulation.storage import Table

OTHER: Final = "worker 1"
"""The worker that is of another version, if one is."""
_LATER: Final[dict[str, Any]] = {"rack": {"row": 3}}
"""Of a record."""
_LATER_OF_AN_ATTEMPT: Final[dict[str, Any]] = {"zone": "2"}
LATER_REASON: Final = "gpu_on_fire"
"""Why an attempt failed, in the words of a later version."""
_ADDED: Final = ("submitted_again", "release_found", "alerted_at", "alert_event", "fetched_bytes", "total_bytes")
"""Fields of attempts that an earlier version does not have."""


class Versions:
    def __init__(self, chaos: Chaos, table: Callable[[], "Table"], violated: Callable[[str], None]) -> None:
        self._chaos = chaos
        self._table = table
        self._violated = violated
        self._newer = chaos.rates.newer > 0
        self._older = chaos.rates.older > 0
        self._zones: dict[str, set[int]] = {}
        """By instance that a later version wrote: the attempts that it wrote."""
        self._begun: dict[str, set[int]] = {}
        """Attempts by instance that this version wrote first."""

    def written(self, instance_id: str) -> None:
        """A record was written: turn it into what its writer's version would have written, or check it."""
        if not self._newer and not self._older:
            return
        for ended in (False, True):
            key = rows.record_key(instance_id, ended)
            found = self._table().row(key)
            if found is not None and "doc" in found[1]:
                document: dict[str, Any] = json.loads(found[1]["doc"])
                if self._newer:
                    self._of_later_version(instance_id, document)
                else:
                    self._of_earlier_version(instance_id, document)
                self._table().edit(key, {**found[1], "doc": json.dumps(document, ensure_ascii=False)})

    def endpoint_written(self, name: str, row: rows.TableRow) -> rows.TableRow:
        """The row of an endpoint as its writer's version would have written it."""
        if not self._newer:
            return row
        document: dict[str, Any] = json.loads(row["doc"])
        slots: list[dict[str, Any]] = document["slots"]
        if self._is_other():
            self._chaos.scheduler.note(f"{name} is written by a later version")
            document.update(_LATER)
            for slot in slots:
                slot.update(_LATER_OF_AN_ATTEMPT)
            self._zones[name] = {slot["number"] for slot in slots}
        elif (zones := self._zones.get(name)) is not None:
            kept = document.get("rack") == _LATER["rack"]
            if not kept or any(one["number"] in zones and one.get("zone") != "2" for one in slots):
                self._violated(f"{name} lost what a later version wrote")
        return {**row, "doc": json.dumps(document, ensure_ascii=False)}

    def endpoint_removed(self, key: str) -> None:
        self._zones.pop(key, None)

    def sent(self, body: bytes) -> bytes:
        """A message as its sender's version would send it."""
        if not self._newer or not self._is_other():
            return body
        return json.dumps({**json.loads(body), "priority": 1}).encode()

    def _is_other(self) -> bool:
        task = self._chaos.scheduler.current
        return task is not None and task.process.name == OTHER

    def _of_later_version(self, instance_id: str, document: dict[str, Any]) -> None:
        attempts: list[dict[str, Any]] = document["attempts"]
        if self._is_other():
            if instance_id not in self._zones:
                self._chaos.scheduler.note(f"{instance_id[-4:]} is written by a later version")
            document.update(_LATER)
            for attempt in attempts:
                attempt.update(_LATER_OF_AN_ATTEMPT)
            for attempt in attempts[:-1]:
                if attempt["failure"] is not None:
                    attempt["failure"]["reason"] = LATER_REASON
            self._zones[instance_id] = {attempt["number"] for attempt in attempts}
            return
        zones = self._zones.get(instance_id)
        if zones is None:
            return
        kept = document.get("rack") == _LATER["rack"]
        if not kept or any(one["number"] in zones and one.get("zone") != "2" for one in attempts):
            self._violated(f"{instance_id[-4:]} lost what a later version wrote")

    def _of_earlier_version(self, instance_id: str, document: dict[str, Any]) -> None:
        begun = self._begun.setdefault(instance_id, set())
        attempts: list[dict[str, Any]] = document["attempts"]
        if not self._is_other():
            begun.update(attempt["number"] for attempt in attempts)
            return
        for attempt in attempts:
            if attempt["number"] in begun:
                continue
            for name in _ADDED:
                if not attempt.get(name):
                    attempt.pop(name, None)
            # Booked by what this version's code knows, it stays so.
            if attempt["gone_at"] is None and attempt.pop("billed_from", None) is not None:
                self._chaos.scheduler.note(f"{instance_id[-4:]} is written by an earlier version")
