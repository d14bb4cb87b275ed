"""Bring an endpoint's replicas to what they should be: observe, decide (pure), write, then launch and terminate.

The row with the slots is written before anything is launched or terminated, so every step can be repeated: a slot's
instance has one id, whose record exists once, and terminating twice changes nothing.
"""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from gpulaunch.models.instances import Phase, Reason
from shared.autoscaling.observed import MISSING, NO_GATEWAYS, UNREADABLE, Gateways, Replica, replica_of
from shared.autoscaling.replicas import decide, put_off, to_launch, to_terminate
from shared.autoscaling.scaling import rescaled
from shared.clock import Clock
from shared.control.launch import Launcher, ReplicaLaunch
from shared.control.records import Records
from shared.control.routes import RouteMaker
from shared.control.termination import Terminator
from shared.domain.endpoint import EndpointRecord, Slot, SlotState
from shared.domain.errors import InstanceNotFoundError, RefusalError
from shared.domain.instance import Event, Failure, InstanceRecord
from shared.domain.messages import EndpointMessage
from shared.domain.provider import LaunchRefusedError
from shared.errors import AlreadyExistsError, StaleRecordError, StoreUnavailableError, UnreadableRowError
from shared.lifecycle.observations import TerminationRequested
from shared.queues import LAUNCHES
from shared.storage.base import InstanceStore, Queues, UnreadableRecordError
from shared.storage.endpoints import EndpointStore, VersionedEndpoint

log = logging.getLogger("gpulaunch.endpoints")

_TRIES = 8
"""Against users and steps that change the same endpoint at once."""
SILENT = timedelta(hours=2)
"""After which a gateway that does not report is dead: it reports itself as not ready after ten minutes, and no drain
takes longer than an hour, so this never shortens one."""
KnownRecords = Mapping[str, InstanceRecord]
"""Records that were just read, by instance id."""


@dataclass
class ReportsOnce:
    """The gateways' reports as of one moment, read when they are first needed: for all endpoints of a sweep at once."""

    endpoints: EndpointStore
    _read: Gateways | None = field(default=None, init=False)

    def at(self, now: datetime) -> Gateways:
        """The reports; those of gateways that are long dead are forgotten meanwhile."""
        if self._read is None:
            self._read = self.endpoints.gateways()
            if any(one is not None and one.at < now - SILENT for one in self._read.values()):
                self.endpoints.forget_gateways(now - SILENT)
        return self._read


def _needs_reports(endpoint: EndpointRecord) -> bool:
    """Whether a step needs what gateways report: the load of what scales, and who still uses what drains."""
    scales = endpoint.scaling is not None and not endpoint.is_off
    return scales or any(slot.state is SlotState.DRAINING for slot in endpoint.slots)


@dataclass(frozen=True)
class ReplicaKeeper:
    endpoints: EndpointStore
    store: InstanceStore
    launcher: Launcher
    terminator: Terminator
    records: Records
    clock: Clock
    routes: RouteMaker

    def reconcile(self, name: str, known: KnownRecords | None = None, reports: ReportsOnce | None = None) -> None:
        """Advance an endpoint by one step. Safe to repeat; does nothing if the endpoint does not exist.

        `known` saves reads of records that the caller has just read, `reports` those of gateways.

        Raises:
            StoreUnavailableError: Storage did not answer; the next step goes on.
        """
        for _ in range(_TRIES):
            try:
                found = self.endpoints.load(name)
            except UnreadableRowError as error:
                # For a version that can read it; the sweep reports it, and its replicas are left as they are.
                log.error("a step is dropped: %s", error)  # noqa: TRY400 - the error says all there is
                return
            if found is None or self._advance(found, known or {}, reports or self.reports()):
                return
            known = {}
        log.info("endpoint %s kept changing; the next sweep goes on", name)

    def advance(self, found: VersionedEndpoint, known: KnownRecords, reports: ReportsOnce | None = None) -> None:
        """The same for an endpoint that was just read."""
        reports = reports or self.reports()
        if not self._advance(found, known, reports):
            self.reconcile(found.record.name, reports=reports)

    def reports(self) -> ReportsOnce:
        """The gateways' reports, to be read once, by whoever needs them first."""
        return ReportsOnce(self.endpoints)

    def _advance(self, found: VersionedEndpoint, known: KnownRecords, reports: ReportsOnce) -> bool:
        """One step; False: somebody else changed the endpoint meanwhile, and nothing was done."""
        before, now = found.record, self.clock.now()
        replicas = {slot.instance_id: self._observed(slot.instance_id, known) for slot in before.slots}
        gateways = reports.at(now) if _needs_reports(before) else NO_GATEWAYS
        scaled, decision = rescaled(before, replicas, gateways, now)
        decided = self.routes.routed(decide(scaled, replicas, now, gateways), replicas)
        try:
            if decided.deleting and not decided.slots:
                self.endpoints.remove(found)
                log.info("endpoint %s is deleted", before.name, extra={"event": "endpoint_deleted"})
                return True
            if decided is not before:
                found = VersionedEndpoint(decided, self.endpoints.commit(found, decided, decision))
                _log(before, decided)
        except StaleRecordError:
            return False
        for slot in to_terminate(decided, replicas, now):
            self._terminate(decided, slot)
        self._launch(found, to_launch(decided, replicas, now), replicas)
        return True

    def _observed(self, instance_id: str, known: KnownRecords) -> Replica:
        if instance_id in known:
            return replica_of(known[instance_id])
        try:
            found = self.store.load(instance_id)
        except UnreadableRecordError as error:
            return Replica(phase=Phase.TERMINATED) if error.unreadable.ended else UNREADABLE
        return MISSING if found is None else replica_of(found.record)

    def _launch(self, found: VersionedEndpoint, slots: Sequence[Slot], replicas: Mapping[str, Replica]) -> None:
        """Launch slots one after another; a refusal puts off the rest."""
        endpoint = found.record
        active = {slot.instance_id for slot in endpoint.slots if slot.state is SlotState.ACTIVE}
        crowd = Counter(one.offer_key for name, one in replicas.items() if name in active and one.offer_key is not None)
        for slot in slots:
            generation = endpoint.generation(slot.generation)
            if generation is None:
                continue  # the next decision releases it
            replica = ReplicaLaunch(
                instance_id=slot.instance_id, endpoint=endpoint.name, generation=slot.generation, crowd=crowd.copy()
            )
            try:
                answer = self.launcher.launch(generation.template, replica=replica)
            except AlreadyExistsError:
                continue  # another step was first
            except (RefusalError, LaunchRefusedError) as error:
                self._put_off(found, f"A start was refused: {error}")
                return
            crowd[answer.offers[0].key] += 1

    def _put_off(self, found: VersionedEndpoint, why: str) -> None:
        decided = put_off(found.record, why, self.clock.now())
        try:
            self.endpoints.commit(found, decided)
            _log(found.record, decided)
        except StaleRecordError:
            log.info("%s; endpoint %s was changed meanwhile", why, found.record.name)

    def _terminate(self, endpoint: EndpointRecord, slot: Slot) -> None:
        if self.terminate(slot.instance_id, f"Released by its endpoint {endpoint.name}.") or not endpoint.deleting:
            return
        try:
            self.terminator.terminate(slot.instance_id)
        except (StaleRecordError, InstanceNotFoundError) as error:
            log.info("%s is terminated by the next sweep: %s", slot.instance_id, error)

    def terminate(self, instance_id: str, why: str) -> bool:
        """Begin to terminate a replica, for a reason that its record shows.

        False: its record cannot be read, perhaps only since it was decided to end it, and its node is left as it is.
        """
        reason = Failure(reason=Reason.USER_REQUEST, message=why)
        try:
            self.records.change(instance_id, TerminationRequested(reason))
        except UnreadableRecordError:
            return False
        except (StaleRecordError, InstanceNotFoundError) as error:
            log.info("%s is terminated by the next sweep: %s", instance_id, error)
        return True


@dataclass(frozen=True)
class ReplicaNews:
    """Asks for the next step of an endpoint when one of its replicas gets ready, is lost or ends."""

    queues: Queues

    def committed(self, before: InstanceRecord, after: InstanceRecord, events: Sequence[Event]) -> None:  # noqa: ARG002
        changed = (before.phase is Phase.READY) != (after.phase is Phase.READY) or before.ended != after.ended
        if after.replica_of is not None and changed:
            ask_for_step(self.queues, after.replica_of)


def ask_for_step(queues: Queues, endpoint: str) -> None:
    """Send the message for an endpoint's next step; if storage refuses it, the sweep makes the step."""
    try:
        queues.send(LAUNCHES, EndpointMessage(endpoint=endpoint))
    except StoreUnavailableError as error:
        log.warning("the next step of endpoint %s is left to the sweep: %s", endpoint, error)


def _log(before: EndpointRecord, after: EndpointRecord) -> None:
    for event in after.events:
        if event not in before.events:
            log.info("endpoint %s: %s", after.name, event.message, extra={"event": "endpoint", "endpoint": after.name})
