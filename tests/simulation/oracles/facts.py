"""What the oracles see: facts of the simulated world, and the program's records as plain text and numbers.

Nothing of this folder imports the program. A record is whatever has these fields; its phases, states and reasons are
compared with the strings that the documentation names.
"""

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Protocol

ENDED = ("terminated", "failed")
TRYING = ("submitting", "submitted")
"""States of an attempt that is not given up."""


class Failure(Protocol):
    @property
    def reason(self) -> str: ...
    @property
    def message(self) -> str: ...


class Offer(Protocol):
    @property
    def key(self) -> str: ...
    @property
    def use_spot(self) -> bool: ...
    @property
    def price_per_hour(self) -> float: ...


class Attempt(Protocol):
    @property
    def number(self) -> int: ...
    @property
    def offer(self) -> Offer: ...
    @property
    def cluster_name(self) -> str: ...
    @property
    def state(self) -> str: ...
    @property
    def started_at(self) -> datetime: ...
    @property
    def ready_at(self) -> datetime | None: ...
    @property
    def failure(self) -> Failure | None: ...
    @property
    def gone_at(self) -> datetime | None: ...
    @property
    def billed_from(self) -> datetime | None: ...
    @property
    def job(self) -> object | None: ...


class Request(Protocol):
    @property
    def name(self) -> str | None: ...
    @property
    def job(self) -> object | None: ...
    @property
    def idle_minutes(self) -> int | None: ...
    @property
    def max_lifetime_minutes(self) -> int | None: ...
    @property
    def budget_usd(self) -> float | None: ...


class Record(Protocol):
    @property
    def instance_id(self) -> str: ...
    @property
    def replica_of(self) -> str | None: ...
    @property
    def generation(self) -> int | None: ...
    @property
    def request(self) -> Request: ...
    @property
    def mode(self) -> str: ...
    @property
    def phase(self) -> str: ...
    @property
    def phase_since(self) -> datetime: ...
    @property
    def created_at(self) -> datetime: ...
    @property
    def ended_at(self) -> datetime | None: ...
    @property
    def offers(self) -> Sequence[Offer]: ...
    @property
    def attempts(self) -> Sequence[Attempt]: ...
    @property
    def ending(self) -> Failure | None: ...


class Event(Protocol):
    @property
    def type(self) -> str: ...
    @property
    def at(self) -> datetime: ...
    @property
    def data(self) -> Mapping[str, Any]: ...


class Node(Protocol):
    """What runs on a machine, as the world knows it."""

    @property
    def alive(self) -> bool: ...
    @property
    def serving(self) -> bool: ...
    @property
    def busy(self) -> bool: ...
    @property
    def failed_probes(self) -> int: ...
    @property
    def noticed(self) -> bool: ...
    @property
    def failing(self) -> bool: ...
    @property
    def job_done_at(self) -> float | None: ...
    @property
    def result_told_at(self) -> float | None: ...


@dataclass
class Life:
    """From when to when a machine ran."""

    began: datetime
    ended: datetime | None = None


@dataclass
class Machine:
    """The cloud's own meter of one cluster."""

    name: str
    spot: bool | None
    """None: simulated by the program itself, so nothing is paid for it."""
    lives: list[Life] = field(default_factory=list[Life])

    @property
    def runs(self) -> bool:
        return bool(self.lives) and self.lives[-1].ended is None

    @property
    def began(self) -> datetime:
        return self.lives[0].began


@dataclass(frozen=True, kw_only=True)
class Terms:
    """What the seed's deployment is set to: what it was given, not what it makes of that."""

    kind: str
    """push, pull or simulation."""
    asks_azure: bool
    attempts_per_round: int
    recoveries: int
    poisoned: int
    monthly_budget_usd: float | None = None
    ends_at_budget: bool = False
    max_instances: int | None = None
    sweep_seconds: float = 30.0
    """The timer; rarer in seeds that last for weeks."""
    clocks: timedelta = timedelta(0)
    """How much the clock of a worker may be wrong."""


@dataclass(frozen=True, kw_only=True)
class Alert:
    """What a receiver got; the first time only."""

    at: datetime
    body: Mapping[str, Any]


@dataclass(kw_only=True)
class World:
    """What has happened, and how to say that it must not have."""

    now: Callable[[], datetime]
    calm_at: datetime
    """From here on nothing goes wrong any more, so what has to happen has to happen in time."""
    terms: Terms
    violated: Callable[[str], None]
    records: Callable[[], Sequence[Record]]
    nodes: Mapping[str, Node]
    """By the name of the cluster; empty where the program simulates nodes itself."""
    lied: Collection[str]
    """Clusters of which the provider said wrongly that they are deleted, where only it can be asked."""
    neighbours: Callable[[], Collection[str]]
    """Clusters of another deployment."""
    alerts_may_be_lost: bool
    """Whether messages get lost in this seed before its receivers see them."""
    machines: dict[str, Machine] = field(default_factory=dict[str, Machine])
    deletes: dict[str, datetime] = field(default_factory=dict[str, datetime])
    """When a user first asked for an instance's end, answered or not."""
    given_up: Counter[str] = field(default_factory=Counter[str])
    """How many messages the host gave up, by instance."""
    alerts: dict[str, Alert] = field(default_factory=dict[str, Alert])
    """By the id that a receiver recognises repetitions by."""
    unreadable: dict[str, datetime] = field(default_factory=dict[str, datetime])
    """When the rows of instances were made unreadable."""
    readable_again: set[str] = field(default_factory=set[str])
    """Those of them whose rows are as they were, perhaps before anybody read them."""

    def calm_seconds(self, since: datetime) -> float:
        """How long something may have taken without anything going wrong, in seconds; negative before the calm."""
        return (self.now() - max(since, self.calm_at)).total_seconds()

    def runs(self, name: str) -> bool:
        machine = self.machines.get(name)
        return machine is not None and machine.runs


class Oracle:
    """Judges one promise. Each method is called right after what it is named for."""

    def __init__(self, world: World) -> None:
        self.world = world

    def created(self, record: Record, events: Sequence[Event]) -> None: ...

    def changed(self, before: Record, record: Record, events: Sequence[Event]) -> None: ...

    def machine_came(self, machine: Machine) -> None: ...

    def machine_ended(self, machine: Machine) -> None: ...

    def deletion_asked(self, name: str) -> None:
        """The program asks a provider or a cloud to delete a cluster, or what is left of it."""

    def node_told_to_end(self, name: str) -> None: ...

    def deletion_promised(self, instance_id: str) -> None:
        """A DELETE was answered with 202."""

    def launch_refused(self, status: int, asked: Mapping[str, Any], since: datetime) -> None:
        """A launch that was called at a moment is refused for want of room; `asked` is its body."""

    def shown(self, answer: Mapping[str, Any]) -> None:
        """An instance was shown to a user."""

    def launch_unanswered(self) -> None:
        """A launch was not answered, or with an error: it may have been accepted."""

    def key_answered(self, key: str, body: str, status: int, instance_id: str) -> None:
        """A launch with an Idempotency-Key was answered; without an instance the id is empty."""

    def reported(self, answer: Mapping[str, Any], begun: datetime) -> None:
        """The costs of all of the run were asked for, by day."""

    def alerted(self, alert: Alert) -> None: ...

    def look(self) -> None:
        """Some time has passed."""

    def waits(self) -> bool:
        """Whether something may still be on its way, for as long as a worker that died holds a message."""
        return False

    def close(self) -> None:
        """The run is over, everything has ended."""


def name(record: Record) -> str:
    return record.instance_id[-4:]


def lifetime_ends(record: Record, default_minutes: int) -> datetime:
    return record.created_at + timedelta(minutes=record.request.max_lifetime_minutes or default_minutes)
