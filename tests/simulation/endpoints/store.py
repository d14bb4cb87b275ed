"""Endpoints' rows under faults, around the twin that the contract suite holds to the table's behaviour."""

from collections.abc import Callable
from datetime import datetime

from gpulaunch.models.decisions import ScalingDecision
from gpulaunch.models.gateways import GatewayReport
from gpulaunch.models.key_usage import KeyUsage
from shared.domain.endpoint import EndpointRecord
from shared.errors import UnreadableRowError
from shared.storage.endpoints import UnreadableEndpoint, VersionedEndpoint, endpoint_key
from shared.storage.rows import TableRow
from tests.simulation.chaos import Chaos
from tests.simulation.versions import Versions
from tests.twins.endpoints import MemoryEndpointStore

Watch = Callable[[EndpointRecord | None, EndpointRecord | None], None]
"""Told of each write: what stood there, and what stands there now."""


class FaultyEndpointStore:
    """An EndpointStore; see Chaos for what goes wrong."""

    def __init__(self, chaos: Chaos, watch: Watch, versions: Versions) -> None:
        self.table = MemoryEndpointStore()
        self._chaos = chaos
        self._watch = watch
        self._versions = versions
        self._older: dict[str, tuple[VersionedEndpoint, int]] = {}
        """What stood in a row before its last write, and when that was, in milliseconds."""

    def create(self, record: EndpointRecord) -> str:
        def effect() -> str:
            etag = self.table.create(record)
            self._written(record.name)
            self._watch(None, record)
            return etag

        return self._chaos.storage(f"create {record.name}", effect)

    def load(self, name: str) -> VersionedEndpoint | None:
        began = self._chaos.scheduler.milliseconds
        found = self._chaos.storage(f"load {name}", lambda: self.table.load(name))
        return None if found is None else self._perhaps_stale(found, began)

    def commit(self, before: VersionedEndpoint, record: EndpointRecord, decision: ScalingDecision | None = None) -> str:
        def effect() -> str:
            there = self.there(record.name)
            etag = self.table.commit(before, record, decision)
            self._written(record.name)
            if there is not None:
                self._older[record.name] = (there, self._chaos.scheduler.milliseconds)
            self._watch(None if there is None else there.record, record)
            return etag

        return self._chaos.storage(f"commit {record.name}", effect)

    def remove(self, before: VersionedEndpoint) -> None:
        def effect() -> None:
            there = self.there(before.record.name)
            self.table.remove(before)
            self._older.pop(before.record.name, None)
            self._versions.endpoint_removed(before.record.name)
            self._watch(None if there is None else there.record, None)

        self._chaos.storage(f"remove {before.record.name}", effect)

    def decisions(self, name: str) -> list[ScalingDecision]:
        return self._chaos.storage(f"decisions {name}", lambda: self.table.decisions(name))

    def all(self) -> list[VersionedEndpoint | UnreadableEndpoint]:
        began = self._chaos.scheduler.milliseconds
        found = self._chaos.storage("endpoints", self.table.all)
        return [one if isinstance(one, UnreadableEndpoint) else self._perhaps_stale(one, began) for one in found]

    def gateways(self) -> dict[str, GatewayReport | None]:
        return self._chaos.storage("gateways", self.table.gateways)

    def forget_gateways(self, before: datetime) -> None:
        self._chaos.storage("forget gateways", lambda: self.table.forget_gateways(before))

    def key_usage(self, month: str) -> dict[str, KeyUsage]:
        return self._chaos.storage("key usage", lambda: self.table.key_usage(month))

    def there(self, name: str) -> VersionedEndpoint | None:
        """What stands in a row, as nobody but the simulation sees it."""
        try:
            return self.table.load(name)
        except UnreadableRowError:
            return None

    def rows(self) -> list[tuple[str, TableRow]]:
        """ETag and row of each endpoint, as gateways read them."""
        first = endpoint_key("")
        return [found for key, found in sorted(self.table.rows.items()) if key.startswith(first)]

    def put_back(self, copy: dict[str, tuple[str, TableRow]]) -> None:
        """Replace all endpoints by an earlier copy's. Gateways' reports are in another table."""
        first = endpoint_key("")
        for key in [one for one in self.table.rows if one.startswith(first)]:
            del self.table.rows[key]
        again = {key: (f"{etag[:-1]}again{etag[-1:]}", row) for key, (etag, row) in copy.items()}
        self.table.rows.update({key: row for key, row in again.items() if key.startswith(first)})

    def _written(self, name: str) -> None:
        etag, row = self.table.rows[endpoint_key(name)]
        self.table.rows[endpoint_key(name)] = (etag, self._versions.endpoint_written(name, row))

    def _perhaps_stale(self, found: VersionedEndpoint, began: int) -> VersionedEndpoint:
        """The version before, if it stood there when the reading began: what is read is what people are answered."""
        older, replaced = self._older.get(found.record.name, (found, -1))
        if replaced < began or not self._chaos.strikes(self._chaos.rates.stale):
            return found
        self._chaos.scheduler.note(f"reads {found.record.name} as it was before")
        return older
