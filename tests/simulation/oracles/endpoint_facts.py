"""What the oracles see of endpoints: rows as plain text and numbers, and who uses which node as the world knows it."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from tests.simulation.oracles.facts import Oracle, Record, World


class Slot(Protocol):
    @property
    def number(self) -> int: ...
    @property
    def generation(self) -> int: ...
    @property
    def instance_id(self) -> str: ...
    @property
    def state(self) -> str: ...
    @property
    def route(self) -> object | None: ...


class Generation(Protocol):
    @property
    def number(self) -> int: ...


class Endpoint(Protocol):
    @property
    def name(self) -> str: ...
    @property
    def endpoint_id(self) -> str: ...
    @property
    def replicas(self) -> int: ...
    @property
    def drain_seconds(self) -> int: ...
    @property
    def paused(self) -> bool: ...
    @property
    def deleting(self) -> bool: ...
    @property
    def generations(self) -> Sequence[Generation]: ...
    @property
    def slots(self) -> Sequence[Slot]: ...


@dataclass(eq=False)
class Key:
    """A key of an endpoint, as its user knows it."""

    endpoint: str
    secret: str
    made: datetime
    """When it was answered."""
    key_id: str
    revoking: datetime | None = None
    """When its end was first asked for: by itself, or with its endpoint."""
    revoked: datetime | None = None
    """When that was answered."""


@dataclass(eq=False)
class Request:
    """One request of a client, in the ledger that the simulation keeps."""

    number: int
    key: Key
    gateway: str
    began: datetime
    hold_seconds: float | None
    """For which the client lets it wait; None: as long as gateways do."""
    seconds: float
    """For which a node works on it."""
    is_stream: bool
    tried: list[str] = field(default_factory=list[str])
    """Clusters that it was sent to."""
    got: list[str] = field(default_factory=list[str])
    """Those of them that got it."""
    errors: list[str] = field(default_factory=list[str])
    """Those of them that answered with an error."""
    begun: list[str] = field(default_factory=list[str])
    """Those of them that began to answer."""
    excuse: str = ""
    """What the world did to it, if anything: why it may have failed."""
    outcome: str = ""
    """`served`, `broken`, `left` by its client, `gateway died`, or `refused`; empty while it is under way."""
    status: int = 0
    code: str = ""


@dataclass(kw_only=True)
class Gateway:
    """A gateway's process, as the world knows it, and what it counts."""

    name: str
    began: datetime
    read_began: datetime | None = None
    """When the last reading of the table began that was answered."""
    first_read: datetime | None = None
    """When one was answered for the first time."""
    read_at: datetime | None = None
    """When the last one was."""
    broken: int = 0
    """Answers that broke off after their first byte, by the ledger."""
    counted_broken: Callable[[], int] = int
    in_flight: Callable[[], Mapping[str, int]] = dict
    """Requests under way as it counts them, by instance."""
    held: Callable[[], int] = int


@dataclass(kw_only=True)
class Service:
    """Endpoints, their gateways, and who uses them."""

    step_began: Callable[[], datetime]
    """When whoever writes now began to read."""
    reads_old: bool
    """Whether reads may give the version before."""
    nodes_of: Callable[[str], Mapping[str, int]]
    """Requests of gateways under way on the nodes of an instance, by gateway."""
    under_way: Callable[[str], Collection[str]]
    """Instances on whose nodes a gateway has requests."""
    troubled: Callable[[str], datetime | None]
    """When the world last did something to an instance's node that its callers notice; None: never, or it is gone."""
    has_room: Callable[[str, str], bool]
    """Whether an instance's node, which lives, could work on one more request of a gateway."""
    used_since: Callable[[str], datetime | None]
    """Since when clients have used an instance by its own address without a pause; None: they don't."""
    rows: dict[str, Endpoint] = field(default_factory=dict[str, Endpoint])
    """By name, as they stand."""
    broken_launches: set[tuple[str, int]] = field(default_factory=set[tuple[str, int]])
    """Endpoint's id and generation of launches that no node can serve."""
    resumes: dict[str, datetime] = field(default_factory=dict[str, datetime])
    """When an endpoint's stopped generation was last asked to be tried again, by name."""
    gateways: list[Gateway] = field(default_factory=list[Gateway])
    """Those that run."""
    requests: dict[int, Request] = field(default_factory=dict[int, Request])
    """Those under way, by number."""

    def uses(self, instance_id: str) -> int:
        return sum(self.nodes_of(instance_id).values())


class EndpointOracle(Oracle):
    """Judges a promise about endpoints. Each method is called right after what it is named for."""

    def __init__(self, world: World, service: Service) -> None:
        super().__init__(world)
        self.service = service

    def endpoint_changed(self, before: Endpoint | None, after: Endpoint | None) -> None:
        """A row was written; None: it was not there, or is there no more."""

    def routed(self, request: Request, instance_id: str) -> None:
        """A gateway chose a node of an instance for a request."""

    def request_ended(self, request: Request) -> None: ...


def target(endpoint: Endpoint) -> int:
    """How many replicas are asked for now."""
    return 0 if endpoint.paused or endpoint.deleting else endpoint.replicas


def with_state(endpoint: Endpoint, *states: str) -> list[Slot]:
    return [one for one in endpoint.slots if one.state in states]


def by_instance(world: World) -> dict[str, Record]:
    """The records of replicas, by instance id."""
    return {one.instance_id: one for one in world.records() if one.replica_of is not None}


def short(instance_id: str) -> str:
    return instance_id[-4:]
