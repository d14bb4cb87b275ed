"""Endpoints: advance each by a step, and terminate replicas that no endpoint has a slot for."""

import logging
from dataclasses import dataclass, field
from datetime import datetime

from gpulaunch.models.instances import Phase
from shared.autoscaling.observed import replica_of
from shared.control.replicas import ReplicaKeeper
from shared.control.sweep.base import TaskRun, Walk, each
from shared.domain.endpoint import EndpointRecord
from shared.domain.instance import InstanceRecord
from shared.errors import UnreadableRowError
from shared.storage.base import Versioned
from shared.storage.endpoints import EndpointStore, UnreadableEndpoint, VersionedEndpoint

log = logging.getLogger("gpulaunch.sweep")


@dataclass(frozen=True)
class EndpointReplicas:
    """One read of all endpoints; further ones only for replicas that the walk has not seen."""

    name = "endpoints"

    endpoints: EndpointStore
    keeper: ReplicaKeeper

    def begin(self, now: datetime) -> TaskRun:  # noqa: ARG002
        return _Run(self)

    def advance(self, replicas: dict[str, InstanceRecord]) -> int:
        # Read after the walk: whatever replica was seen there had its slot before it was launched.
        found = self.endpoints.all()
        listed = {one.record.name: one.record for one in found if isinstance(one, VersionedEndpoint)}
        unreadable = {one.name: one.why for one in found if isinstance(one, UnreadableEndpoint)}
        strays = [one for one in replicas.values() if one.replica_of not in unreadable and _is_stray(one, listed)]
        readable = [one for one in found if isinstance(one, VersionedEndpoint)]
        reports = self.keeper.reports()

        def advance(one: InstanceRecord | VersionedEndpoint) -> bool:
            if isinstance(one, InstanceRecord):
                return self._end_stray(one)
            self.keeper.advance(one, replicas, reports)
            return True

        done = each([*strays, *readable], advance, _name)
        if unreadable:
            names = ", ".join(f"{name} ({why})" for name, why in unreadable.items())
            raise UnreadableRowError(f"endpoints cannot be read, their replicas are left as they are: {names}")
        return done

    def _end_stray(self, record: InstanceRecord) -> bool:
        """Terminate a replica whose slot was given up while a slow step was about to launch it.

        One that serves is in use although its slot, or its endpoint's row, was lost: it is left until it is idle.
        """
        name = str(record.replica_of)
        again = self.endpoints.load(name)
        if again is not None and not _is_stray(record, {name: again.record}):
            return False
        extra = {"event": "stray_replica", "instance_id": record.instance_id}
        if replica_of(record).load > 0:
            log.error("%s fills no slot of endpoint %s and is in use; DELETE it", record.instance_id, name, extra=extra)
            return False
        log.warning("%s fills no slot of endpoint %s", record.instance_id, name, extra=extra)
        self.keeper.terminate(record.instance_id, f"The endpoint {name} has no slot for it.")
        return True


def _name(one: InstanceRecord | VersionedEndpoint) -> str:
    return one.instance_id if isinstance(one, InstanceRecord) else f"endpoint {one.record.name}"


def _is_stray(record: InstanceRecord, listed: dict[str, EndpointRecord]) -> bool:
    endpoint = listed.get(str(record.replica_of))
    slots = () if endpoint is None else endpoint.slots
    return record.phase is not Phase.TERMINATING and all(slot.instance_id != record.instance_id for slot in slots)


@dataclass
class _Run(TaskRun):
    task: EndpointReplicas
    _replicas: dict[str, InstanceRecord] = field(default_factory=dict[str, InstanceRecord], init=False)

    def see(self, found: Versioned) -> None:
        if found.record.replica_of is not None:
            self._replicas[found.instance_id] = found.record

    def finish(self, walk: Walk) -> int:  # noqa: ARG002 - replicas that were not seen are read one by one
        return self.task.advance(self._replicas)
