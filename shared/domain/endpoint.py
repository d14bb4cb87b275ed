"""What is stored about an endpoint: what is asked of it, its generations, and a slot for each replica.

A slot is the right to one instance, whose id is derived from it. Slots are allotted in the endpoint's row under its
ETag, before anything is launched, so that however often a step is repeated, no replica is started twice.
"""

import hashlib
from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum

from pydantic import Field
from ulid import ULID

from gpulaunch.models.base import Kept, UtcTime
from gpulaunch.models.endpoints import EndpointSpec
from gpulaunch.models.routes import FIRST_START_SECONDS, EndpointKey, SlotRoute
from shared.domain.instance import Failure
from shared.domain.request import StoredRequest
from shared.domain.scaling import Peak, ScalerState, Scaling
from shared.domain.text import MESSAGE_UNITS, shorten

ENDPOINT_SCHEMA = 1
"""Version of the stored shape. A reader takes every version up to its own, and never writes one of a later version."""
MOST_EVENTS = 30
"""Events kept in the row; the log has all of them."""


class SlotState(StrEnum):
    ACTIVE = "active"
    """Its instance is started, and serves once it is ready."""
    DRAINING = "draining"
    """It gets no new requests, and is released once its last ones are done."""
    RELEASING = "releasing"
    """Its instance is terminated; the slot is dropped when that has ended."""


class Slot(Kept):
    number: int
    """From 1, never used again."""
    generation: int
    instance_id: str
    allotted_at: UtcTime
    state: SlotState = SlotState.ACTIVE
    since: UtcTime
    """When it came into its state."""
    version: int = 0
    """The endpoint's `routes_version` with which it came into its state."""
    served_at: UtcTime | None = None
    """When its instance was first seen ready."""
    route: SlotRoute | None = None
    """How the gateway reaches its node, while that is ready."""


class Generation(Kept):
    """A version of what replicas are launched with."""

    number: int
    """From 1."""
    template: StoredRequest
    created_at: UtcTime
    proven_at: UtcTime | None = None
    """When a replica of it was ready for the first time."""
    failed_starts: int = 0
    """Replicas in a row that failed before any was ready."""
    stopped: Failure | None = None
    """Why none of it is started any more."""


class EndpointEvent(Kept):
    at: UtcTime
    message: str


class EndpointRecord(Kept):
    schema_version: int = ENDPOINT_SCHEMA
    name: str
    endpoint_id: str
    """Unlike that of any other endpoint, those of the same name included."""
    created_at: UtcTime
    updated_at: UtcTime
    replicas: int
    """How many are to serve: as people ask, or as the scaler has decided."""
    scaling: Scaling | None = None
    """Within which bounds the scaler decides; None: people do."""
    scaler: ScalerState = ScalerState()
    start_seconds: float = FIRST_START_SECONDS
    """From a slot's allotment until it serves, as the last starts took; recent ones weigh more."""
    drain_seconds: int
    paused: bool = False
    deleting: bool = False
    generations: list[Generation] = Field(min_length=1)
    """Ascending; the last one is wanted. Of the others, the newest proven one is kept."""
    slots: list[Slot] = []
    """Ascending by number."""
    next_slot: int = 1
    routes_version: int = 0
    """Counts the changes of slots' states; gateways report which one they follow."""
    failures: int = 0
    """Starts in a row that failed or were refused."""
    failure: str = ""
    """What the last one of them failed with; empty when the latest start succeeded."""
    retry_at: UtcTime | None = None
    """No replica is started before that."""
    events: list[EndpointEvent] = []
    keys: list[EndpointKey] = []
    authority: str = ""
    """What vouches for its nodes' certificates, PEM."""

    @property
    def wanted(self) -> Generation:
        return self.generations[-1]

    @property
    def is_off(self) -> bool:
        """Whether no replica is to serve, whatever the load."""
        return self.paused or self.deleting

    @property
    def target(self) -> int:
        """How many replicas are to serve now."""
        return 0 if self.is_off else self.replicas

    @property
    def revision(self) -> str:
        """Names what is asked of this endpoint: it changes with what people change, and with nothing else."""
        count = self.replicas if self.scaling is None else repr(self.scaling)
        asked = (self.endpoint_id, count, self.drain_seconds, self.paused, self.deleting, self.wanted.number)
        return hashlib.sha256(repr(asked).encode()).hexdigest()[:32]

    def generation(self, number: int) -> Generation | None:
        return next((one for one in self.generations if one.number == number), None)

    def noted(self, now: datetime, message: str) -> "EndpointRecord":
        """The same with one more event."""
        events = [*self.events, EndpointEvent(at=now, message=shorten(message, MESSAGE_UNITS))][-MOST_EVENTS:]
        return self.model_copy(update={"events": events, "updated_at": now})

    def with_slots(self, slots: Sequence[Slot]) -> "EndpointRecord":
        return self.model_copy(update={"slots": list(slots)})

    def with_generation(self, changed: Generation) -> "EndpointRecord":
        """The same with one generation changed."""
        generations = [changed if one.number == changed.number else one for one in self.generations]
        return self.model_copy(update={"generations": generations})


def new_endpoint(name: str, endpoint_id: str, spec: EndpointSpec, now: datetime) -> EndpointRecord:
    first = Generation(number=1, template=StoredRequest.of(spec.launch), created_at=now)
    made = EndpointRecord(
        name=name,
        endpoint_id=endpoint_id,
        created_at=now,
        updated_at=now,
        replicas=_asked(spec, 0),
        scaling=scaling_of(spec),
        drain_seconds=spec.drain_seconds,
        generations=[first],
    )
    return made.noted(now, f"Endpoint created with {_bounds(spec)}.")


def with_spec(endpoint: EndpointRecord, spec: EndpointSpec, now: datetime) -> EndpointRecord:
    """The endpoint with everything as asked for; the same object if nothing changes. Another launch is a generation."""
    template = StoredRequest.of(spec.launch)
    if template != endpoint.wanted.template:
        endpoint = with_new_generation(endpoint, template, now, f"{template.model_name} as asked for")
    scaling, replicas = scaling_of(spec), _asked(spec, endpoint.replicas)
    if (scaling, replicas) != (endpoint.scaling, endpoint.replicas):
        if endpoint.scaling is None:
            # What people have asked for so far counts as called for until now.
            endpoint = endpoint.model_copy(update={"scaler": ScalerState(steady=[Peak(replicas=replicas)])})
        endpoint = endpoint.model_copy(update={"scaling": scaling, "replicas": replicas})
        endpoint = _tried_anew(endpoint).noted(now, f"{_bounds(spec)} asked for.")
    if spec.drain_seconds != endpoint.drain_seconds:
        endpoint = endpoint.model_copy(update={"drain_seconds": spec.drain_seconds})
        endpoint = endpoint.noted(now, f"Drain time set to {spec.drain_seconds} s.")
    return endpoint


def with_new_generation(endpoint: EndpointRecord, template: StoredRequest, now: datetime, why: str) -> EndpointRecord:
    """The endpoint with one more generation, which is wanted from now on."""
    number = endpoint.wanted.number + 1
    proven = [one for one in endpoint.generations if one.proven_at is not None][-1:]
    added = Generation(number=number, template=template, created_at=now)
    changed = endpoint.model_copy(update={"generations": [*proven, added]})
    return _tried_anew(changed).noted(now, f"Generation {number}: {why}.")


def paused(endpoint: EndpointRecord, now: datetime) -> EndpointRecord:
    """The endpoint without replicas; the same object if it is paused already."""
    return endpoint if endpoint.paused else endpoint.model_copy(update={"paused": True}).noted(now, "Paused.")


def resumed(endpoint: EndpointRecord, now: datetime) -> EndpointRecord:
    """The endpoint with everything tried anew that was paused, stopped or put off."""
    again = endpoint.wanted.model_copy(update={"stopped": None, "failed_starts": 0})
    changed = _tried_anew(endpoint.with_generation(again)).model_copy(update={"paused": False})
    return endpoint if changed == endpoint else changed.noted(now, "Resumed.")


def _tried_anew(endpoint: EndpointRecord) -> EndpointRecord:
    return endpoint.model_copy(update={"failures": 0, "failure": "", "retry_at": None})


def replica_id(endpoint_id: str, generation: int, slot: int, now: datetime) -> str:
    """The id of a slot's instance; the time in it makes instances sort by age, the rest is the slot's alone."""
    digest = hashlib.sha256(f"gpulaunch/replica/1|{endpoint_id}|{generation}|{slot}".encode()).digest()
    milliseconds = int(now.timestamp() * 1000)
    return f"inst-{ULID.from_bytes(milliseconds.to_bytes(6, 'big') + digest[:10])}"


def scaling_of(spec: EndpointSpec) -> Scaling | None:
    """The bounds that are asked for; None: a fixed number of replicas."""
    if spec.max_replicas is None:
        return None
    numbers = spec.numbers
    return Scaling.model_validate({**numbers, "preset": numbers.pop("scaling")})


def _asked(spec: EndpointSpec, now: int) -> int:
    """How many replicas there are to be at first, when there were to be so many until now."""
    scaling = scaling_of(spec)
    if scaling is None:
        return spec.most_replicas
    return min(max(now, scaling.min_replicas), scaling.max_replicas)


def _bounds(spec: EndpointSpec) -> str:
    scaling = scaling_of(spec)
    if scaling is None:
        return _count(_asked(spec, 0))
    return f"{scaling.min_replicas} to {_count(scaling.max_replicas)} ({scaling.preset})"


def _count(replicas: int) -> str:
    return "1 replica" if replicas == 1 else f"{replicas} replicas"
