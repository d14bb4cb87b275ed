"""The model behind docs/scale.md: what launches and nodes take, against what Azure and SkyPilot give. Pure.

Counts come from tests/functional/test_counts.py and the lifecycle's own limits, prices and limits from the pages that
docs/scale.md names. Rates are per second, money is USD.
"""

from dataclasses import dataclass, field

from shared.lifecycle.timeouts import Timeouts

MONTH_SECONDS = 730 * 3600.0
SWEEP_SECONDS = 30.0
HEARTBEAT_SECONDS = 60.0
"""A serving node with a lease of 15 minutes tells of itself so often."""
PROGRESS_SECONDS = 5.0
"""A node that fetches its model tells of it so often (shared/agent/node/report.py)."""


@dataclass(frozen=True)
class Counts:
    """Storage operations of one launch, from acceptance to its end, without faults."""

    table_requests: int
    entities: int
    """Rows read and written; what a partition's rate is given in."""
    sends: int
    calls: int = 0
    """Of the node, on its way."""

    @property
    def queue_requests(self) -> int:
        """Each message is put, taken and deleted."""
        return 3 * self.sends


SIMULATED = Counts(table_requests=21, entities=35, sends=8)
"""One creation (2 rows), 9 loads, 11 commits with 12 events and one move among them."""


def looks(seconds: float, limits: Timeouts) -> int:
    """How often a phase of that length is looked at."""
    count, elapsed = 0, 0.0
    while elapsed < seconds:
        elapsed += limits.poll(elapsed)
        count += 1
    return count


def real_launch(
    provisioning: float = 180.0, on_node: float = 480.0, fetching: float = 360.0, limits: Timeouts | None = None
) -> Counts:
    """A launch on Azure: seconds until its node runs, from there until it is ready, of those until its model is there.

    A look is a load, a commit of one row and a message; the node's word is a call, a load and a commit. It has a word
    for each of its three phases, beside those of the model's progress.
    """
    limits = limits or Timeouts()
    number = looks(provisioning, limits) + int(on_node / limits.reporting_poll)
    calls = int(fetching / PROGRESS_SECONDS) + 3
    both = 2 * (number + calls)
    return Counts(SIMULATED.table_requests + both, SIMULATED.entities + both, SIMULATED.sends + number, calls)


@dataclass(frozen=True)
class Given:
    """Published targets and prices."""

    partition_entities: float = 2000.0
    queue_messages: float = 2000.0
    account_operations: float = 20_000.0
    sky_long_workers: int = 2
    """Of an API server with 2 vCPU and 4 GiB; each is taken by one launch until its node is up."""
    provisioning_seconds: float = 180.0
    sweep_walk_per_second: float = 1600.0
    """Live records that one instance walks over, as measured."""
    table_price: float = 0.00036 / 10_000
    queue_price: float = 0.004 / 10_000
    execution_price: float = 0.40 / 1e6
    memory_price: float = 0.000026
    """Per GB and second, billed for at least one second an execution."""
    free_executions: float = 250_000
    free_memory: float = 100_000
    """GB-seconds a month."""
    instance_gb: float = 0.5


@dataclass(frozen=True)
class Bound:
    """One limit and where it is met."""

    what: str
    per_minute: float | None = None
    """Launches, with no other load; None: not bounded by it."""
    nodes: float | None = None
    """Ready nodes, with no launches; None: not bounded by it."""


def bounds(launch: Counts, given: Given | None = None) -> list[Bound]:
    """Where each limit is met, the first one first: by launches, then by nodes."""
    given = given or Given()
    # Each sweep reads a node's record twice (the walk, and its slice), each heartbeat once; few of them are written.
    per_node = 2 / SWEEP_SECONDS + 1 / HEARTBEAT_SECONDS + 1 / Timeouts().heard_every
    found = [
        Bound(
            "SkyPilot API server: launches that run at once",
            per_minute=60 * given.sky_long_workers / given.provisioning_seconds,
        ),
        Bound(
            "one partition of Table Storage",
            per_minute=60 * given.partition_entities / launch.entities,
            nodes=given.partition_entities / per_node,
        ),
        Bound("queue of launches", per_minute=60 * given.queue_messages / launch.queue_requests),
        Bound(
            "storage account",
            per_minute=60 * given.account_operations / (launch.entities + launch.queue_requests),
            nodes=given.account_operations / per_node,
        ),
        Bound("one sweep within its 30 s", nodes=given.sweep_walk_per_second * SWEEP_SECONDS),
    ]
    far = float("inf")
    return sorted(found, key=lambda one: (far if one.per_minute is None else one.per_minute, one.nodes or far))


@dataclass(frozen=True)
class Costs:
    """What things cost at list prices, before free grants, USD."""

    given: Given = field(default_factory=Given)

    def executions(self, number: float) -> float:
        """So many executions, each below a second."""
        return number * (self.given.execution_price + self.given.instance_gb * self.given.memory_price)

    def launches(self, launch: Counts, number: int = 1000) -> tuple[float, float]:
        """Storage and executions of so many launches; one execution for the launch, the end, every message and call."""
        storage = launch.table_requests * self.given.table_price + launch.queue_requests * self.given.queue_price
        return number * storage, self.executions(number * (2 + launch.sends + launch.calls))

    def node_month(self, fleet: int = 100) -> tuple[float, float]:
        """Storage and executions of one of `fleet` ready nodes for a month: heartbeats, and its share of the sweeps."""
        sweeps, beats = MONTH_SECONDS / SWEEP_SECONDS, MONTH_SECONDS / HEARTBEAT_SECONDS
        written = MONTH_SECONDS / Timeouts().heard_every
        storage = (beats + written + sweeps * 2 / fleet) * self.given.table_price
        return storage, self.executions(beats + sweeps / fleet)

    def idle_month(self) -> tuple[float, float, float]:
        """Storage, executions, and executions after the free grants, of a control plane with nothing to do."""
        sweeps = MONTH_SECONDS / SWEEP_SECONDS
        # Beside the walk: status each minute; markers and clouds every second minute; three poison queues every tenth.
        tables = sweeps * (1 + 1 / 2 + 2 / 4)
        queues = sweeps * 3 / 20
        storage = tables * self.given.table_price + queues * self.given.queue_price
        left = max(0.0, sweeps - self.given.free_executions) * self.given.execution_price
        left += max(0.0, sweeps * self.given.instance_gb - self.given.free_memory) * self.given.memory_price
        return storage, self.executions(sweeps), left
