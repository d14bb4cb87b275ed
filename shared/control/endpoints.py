"""What users do with endpoints: create, change, pause, roll out, delete, list. Replicas follow by steps."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from gpulaunch.models.decisions import ScalingDecision
from gpulaunch.models.endpoints import EndpointSpec
from gpulaunch.models.key_usage import KeyUsage, month_of
from gpulaunch.models.problems import FieldError
from shared.autoscaling.observed import replica_of
from shared.autoscaling.scaling import explained
from shared.clock import Clock, Ids
from shared.control.launch import LaunchPreparation
from shared.control.records import while_stale
from shared.control.replicas import ask_for_step
from shared.control.traffic import Traffic, traffic_of
from shared.domain.endpoint import (
    EndpointRecord,
    new_endpoint,
    paused,
    resumed,
    with_new_generation,
    with_spec,
)
from shared.domain.errors import (
    EndpointChangedError,
    EndpointDeletingError,
    EndpointExistsError,
    EndpointNotFoundError,
    InvalidFieldsError,
)
from shared.domain.instance import InstanceRecord
from shared.domain.request import StoredRequest
from shared.errors import AlreadyExistsError, StaleRecordError
from shared.storage.base import InstanceStore, Queues, UnreadableRecordError
from shared.storage.endpoints import EndpointStore, UnreadableEndpoint, VersionedEndpoint

Change = Callable[[EndpointRecord], EndpointRecord]


@dataclass(frozen=True)
class EndpointWithReplicas:
    """An endpoint with the records of its slots' instances, as far as they exist and can be read."""

    record: EndpointRecord
    instances: dict[str, InstanceRecord]


@dataclass(frozen=True)
class EndpointQueries:
    endpoints: EndpointStore
    store: InstanceStore

    def find(self, name: str) -> EndpointWithReplicas:
        """An endpoint.

        Raises:
            EndpointNotFoundError: There is none of that name.
            UnreadableRowError: Its row cannot be read.
        """
        found = self.endpoints.load(name)
        if found is None:
            raise EndpointNotFoundError(name)
        return self.with_replicas(found.record)

    def all(self) -> list[EndpointWithReplicas | UnreadableEndpoint]:
        """All endpoints, by name."""
        found = self.endpoints.all()
        return [one if isinstance(one, UnreadableEndpoint) else self.with_replicas(one.record) for one in found]

    def key_usage(self, now: datetime) -> dict[str, KeyUsage]:
        """What keys have used this month, by the key's id, as far as gateways have written it."""
        return self.endpoints.key_usage(month_of(now))

    def traffic(self, record: EndpointRecord, now: datetime) -> Traffic:
        """What gateways do for an endpoint at this moment."""
        return traffic_of(record, self.endpoints.gateways().values(), now)

    def decisions(self, name: str) -> tuple[EndpointWithReplicas, list[ScalingDecision]]:
        """An endpoint and the latest decisions about its number of replicas, latest first.

        Raises:
            EndpointNotFoundError: There is none of that name.
            UnreadableRowError: Its row cannot be read.
        """
        return self.find(name), self.endpoints.decisions(name)

    def reason(self, found: EndpointWithReplicas, now: datetime) -> str:
        """Why the endpoint has as many replicas as it has, in words; empty where people decide."""
        if found.record.scaling is None or found.record.is_off:
            return ""
        replicas = {name: replica_of(one) for name, one in found.instances.items()}
        return explained(found.record, replicas, self.endpoints.gateways(), now)

    def with_replicas(self, record: EndpointRecord) -> EndpointWithReplicas:
        instances: dict[str, InstanceRecord] = {}
        for slot in record.slots:
            try:
                found = self.store.load(slot.instance_id)
            except UnreadableRecordError:
                continue
            if found is not None:
                instances[slot.instance_id] = found.record
        return EndpointWithReplicas(record, instances)


@dataclass(frozen=True)
class Endpoints:
    endpoints: EndpointStore
    preparation: LaunchPreparation
    queues: Queues
    clock: Clock
    ids: Ids
    sleep: Callable[[float], None]

    def create(self, name: str, spec: EndpointSpec) -> tuple[EndpointRecord, bool]:
        """Create an endpoint; the same again is answered with the one that is there. Whether it is new.

        Raises:
            RefusalError: Its launch would be refused, or the name belongs to an endpoint that differs.
        """
        self._check(spec)
        now = self.clock.now()
        # An id of its own: one of the same name, later, shares no replica's id.
        made = new_endpoint(name, self.ids.instance_id(now).replace("inst-", "ep-"), spec, now)
        try:
            self.endpoints.create(made)
        except AlreadyExistsError:
            found = self.endpoints.load(name)
            if found is None:
                raise StaleRecordError(f"endpoint {name} has just been deleted") from None
            if found.record.deleting:
                raise EndpointDeletingError(name) from None
            if with_spec(found.record, spec, now) is not found.record:
                raise EndpointExistsError(name) from None
            return found.record, False
        ask_for_step(self.queues, name)
        return made, True

    def put(self, name: str, spec: EndpointSpec, shown: str = "") -> tuple[EndpointRecord, bool]:
        """Create an endpoint, or make an existing one as asked for. Whether it is new.

        Raises:
            RefusalError: Its launch would be refused, or it is being deleted.
            EndpointChangedError: Its revision is not the one `shown`, or there is none any more.
        """
        if self.endpoints.load(name) is None:
            if shown:
                raise EndpointChangedError(name)
            try:
                return self.create(name, spec)
            except EndpointExistsError:
                pass  # somebody else has just created it
        return self.respecify(name, lambda _: spec, shown), False

    def respecify(self, name: str, wanted: Callable[[EndpointRecord], EndpointSpec], shown: str = "") -> EndpointRecord:
        """Make an endpoint as `wanted` says about what it is now.

        Raises:
            RefusalError: Its launch would be refused, there is none of that name, or it is being deleted.
            EndpointChangedError: Its revision is not the one `shown`.
        """

        def change(record: EndpointRecord) -> EndpointRecord:
            spec = wanted(record)
            if StoredRequest.of(spec.launch) != record.wanted.template:
                self._check(spec)
            return with_spec(record, spec, self.clock.now())

        return self._change(name, change, shown)

    def pause(self, name: str, shown: str = "") -> EndpointRecord:
        """Drain all replicas and keep the name."""
        return self._change(name, lambda record: paused(record, self.clock.now()), shown)

    def resume(self, name: str, shown: str = "") -> EndpointRecord:
        """Start replicas again, also of a generation that was stopped."""
        return self._change(name, lambda record: resumed(record, self.clock.now()), shown)

    def roll_out(self, name: str, shown: str = "") -> EndpointRecord:
        """Replace all replicas by new ones of the same launch, one after another."""

        def change(record: EndpointRecord) -> EndpointRecord:
            template = record.wanted.template
            return with_new_generation(record, template, self.clock.now(), "the same launch again")

        return self._change(name, change, shown)

    def delete(self, name: str, shown: str = "") -> EndpointRecord:
        """Drain all replicas, then forget the endpoint; harmless when repeated."""

        def change(record: EndpointRecord) -> EndpointRecord:
            if record.deleting:
                return record
            return record.model_copy(update={"deleting": True}).noted(self.clock.now(), "Deletion requested.")

        return self._change(name, change, shown, deleting=True)

    def change(self, name: str, change: Change) -> EndpointRecord:
        """Apply a change to the newest state of an endpoint.

        Raises:
            RefusalError: There is none of that name, or it is being deleted.
        """
        return self._change(name, change)

    def _check(self, spec: EndpointSpec) -> None:
        """Refuse a launch that no replica could make.

        Raises:
            RefusalError: As for a launch; fields are named as in the endpoint.
        """
        try:
            self.preparation.prepare(spec.launch)
        except InvalidFieldsError as error:
            raise InvalidFieldsError([_within_launch(one) for one in error.errors]) from error

    def _change(self, name: str, change: Change, shown: str = "", *, deleting: bool = False) -> EndpointRecord:
        """Apply a change to the newest state of an endpoint, whoever else changes it.

        Raises:
            EndpointChangedError: Its revision is not the one `shown`, and the change is not made yet.
            StaleRecordError: Others kept changing it.
        """
        return while_stale(self.sleep)(self._once, name, change, shown, deleting)

    def _once(self, name: str, change: Change, shown: str, deleting: bool) -> EndpointRecord:
        found = self.endpoints.load(name)
        if found is None:
            raise EndpointNotFoundError(name)
        if found.record.deleting and not deleting:
            raise EndpointDeletingError(name)
        changed = change(found.record)
        if changed is not found.record:
            if shown not in ("", found.record.revision):
                raise EndpointChangedError(name)
            self.endpoints.commit(VersionedEndpoint(found.record, found.etag), changed)
        ask_for_step(self.queues, name)
        return changed


def _within_launch(error: FieldError) -> FieldError:
    return error.model_copy(update={"field": f"launch.{error.field}".removesuffix(".body")})
