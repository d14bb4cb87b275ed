"""What is stored about an instance: its record, its attempts and its events."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Literal, NotRequired

from pydantic import ConfigDict, Field, with_config
from typing_extensions import TypedDict

from gpulaunch.models.base import Kept, Known, UtcTime
from gpulaunch.models.instances import EventType, Mode, Phase, Reason
from gpulaunch.models.offers import Offer
from shared.domain.model import ModelFacts
from shared.domain.money import Reservation
from shared.domain.node import NodePhase
from shared.domain.request import StoredJobResult, StoredRequest
from shared.domain.text import SHORT_UNITS, shorten

SCHEMA = 1
"""Version of the stored shape. A reader takes every version up to its own, and never writes a record of a later one."""
REPORT_UNITS = 300_000
"""Stored size, in UTF-16 units, above which a record takes no more reports; a row holds 500,000."""

OFFERS_PER_ROUND = 12
"""Offers that a plan has at most, and that one round tries: a launch, or the recovery from a loss. At some minutes an
attempt more could not be tried within anyone's patience, and it bounds what a model that fails everywhere can cost."""

RELEASE_ALERT = "release"
"""`EventData.alert` of a node that is not confirmed deleted in time; the sweep sends these."""


def cluster_prefix(instance_id: str) -> str:
    """What the names of all of an instance's clusters begin with, and of no other's: ids are of one length."""
    return f"gl-{instance_id.removeprefix('inst-').lower()}-"


def cluster_name(instance_id: str, number: int) -> str:
    """The name of an attempt's cluster: 32 characters, all of one length, so that none is a prefix of another.

    Azure takes 42 for this name and SkyPilot's `-<8 hex of the user>` after it.
    """
    return f"{cluster_prefix(instance_id)}{number:02d}"


def instance_of(cluster_name: str) -> str:
    """The instance id in a cluster's name; not a valid id if the name is not one of ours."""
    return f"inst-{cluster_name[3:29].upper()}"


def attempt_of(cluster_name: str) -> int:
    """The attempt's number in a cluster's name, which has to be one of ours."""
    return int(cluster_name[30:])


class AttemptState(StrEnum):
    """Where an attempt stands. Only `gone` means that nothing is left of it."""

    SUBMITTING = "submitting"
    """Intent written; the provider may or may not have heard of it."""
    SUBMITTED = "submitted"
    """The provider took it; a node may exist."""
    RELEASING = "releasing"
    """Given up; its node is being deleted."""
    GONE = "gone"
    """The provider has confirmed that nothing is left."""


class Failure(Kept):
    reason: Reason
    message: str

    def shortened(self, units: int) -> "Failure":
        return self.model_copy(update={"message": shorten(self.message, units)})


def _billed_by_earlier_version(row: dict[str, Any]) -> datetime | None:
    """Earlier versions counted from `node_up_at`, so what has ended keeps its booked cost."""
    moment: datetime | None = row["started_at"] if row["gone_at"] is None else row["node_up_at"]
    return moment


class Attempt(Kept):
    """One try to provision on one offer."""

    number: int
    """From 1."""
    offer: Offer
    cluster_name: str
    """Deterministic and unique: `gl-<ulid>-<number>`."""
    state: AttemptState = AttemptState.SUBMITTING
    submit_lease_until: UtcTime
    """Until then only the step that wrote this may submit, and absence of a node proves nothing."""
    started_at: UtcTime
    submitted_again: bool = False
    """A submission without an answer was repeated: a machine of the first may have existed."""
    request_id: str | None = None
    """The provider's id of the launch, when it gave one."""
    node_phase: Annotated[NodePhase | str | None, Field(union_mode="left_to_right")] = None
    """As text where a later version wrote one that this version does not know."""
    listed: bool = False
    """The provider's records have shown its node."""
    calls_us: bool = False
    """The node tells of its changes by itself."""
    proves: bool = False
    """Its agent answers a challenge; those of earlier versions are sent their token."""
    tls: bool = False
    """Its vLLM answers by TLS with the attempt's certificate; those of earlier versions by plain HTTP."""
    heard_at: UtcTime | None = None
    """When its agent was last heard, as far as it was written down; None: never, or by an earlier version."""
    detail: str = ""
    fetched_bytes: int | None = None
    total_bytes: int | None = None
    address: str | None = None
    """Host name or IP address of the node, once known."""
    port: int | None = None
    """vLLM's port."""
    node_up_at: UtcTime | None = None
    """When the node was first seen running."""
    ready_at: UtcTime | None = None
    failure: Failure | None = None
    drains_until: UtcTime | None = None
    """Its machine is being evicted, and is left alone until then: requests that it works on may end."""
    release_since: UtcTime | None = None
    release_tries: int = 0
    alerted_at: UtcTime | None = None
    """When an alert last said that its release takes too long."""
    alert_event: int | None = None
    """Number of that alert's event."""
    release_found: bool = False
    """A release found something to delete, or may have."""
    gone_at: UtcTime | None = None
    billed_from: UtcTime | None = Field(default_factory=_billed_by_earlier_version)
    """From here it costs money: `started_at` until the cloud says when it created the machine; None: it never did."""
    job: StoredJobResult | None = None

    def shortened(self) -> "Attempt":
        """The same without its detail and with little of its failure's message."""
        failure = None if self.failure is None else self.failure.shortened(SHORT_UNITS)
        return self.model_copy(update={"detail": "", "failure": failure})


class Health(Kept):
    """What the last probes of a ready node said."""

    state: Literal["healthy", "unhealthy"] = "healthy"
    since: UtcTime
    failures: int = 0
    """Probes in a row without a good answer."""
    told_at: UtcTime | None = None
    """When an event last said that it does not answer."""
    untold: int = 0
    """How often it failed and came back since, without an event of its own."""
    message: str = ""
    idle_since: UtcTime | None = None
    """Since when vLLM reports neither running nor waiting requests; None: busy or unknown."""
    running_requests: float | None = None
    waiting_requests: float | None = None
    finished_requests: float | None = None
    """vLLM's count of finished requests when `idle_since` was set; a higher one later means that it was not idle."""

    work_mark: float | None = None
    """vLLM's count of tokens at `work_at`."""
    work_at: UtcTime | None = None
    """When a busy node was last seen to have made progress, as far as it was written down; None: it was idle."""

    def fail(self, since: datetime, failures: int, message: str) -> "Health":
        """The same after another failed probe; what is known of its load stays."""
        changes = {"state": "unhealthy", "since": since, "failures": failures, "message": message}
        return self.model_copy(update=changes)


class InstanceRecord(Kept):
    schema_version: int = SCHEMA
    instance_id: str
    replica_of: str | None = None
    """Name of the endpoint whose slot it fills; None: it was launched by itself."""
    generation: int | None = None
    """Of that endpoint."""
    epoch: int = 1
    """Goes up whenever messages under way lose their meaning (termination, recovery)."""
    request: StoredRequest
    mode: Mode
    mode_reason: str = ""
    """Why this mode, for people."""
    phase: Annotated[Phase, Known] = Phase.QUEUED
    """A record in a phase of a later version is unreadable: the phase decides what is to be done."""
    phase_since: UtcTime
    created_at: UtcTime
    updated_at: UtcTime
    deadline_at: UtcTime
    """The node is ended then, whatever it does."""
    due_at: UtcTime | None
    """When the next step is expected; the sweep re-sends a step that is overdue. None: nothing is due."""
    offers: list[Offer]
    """The planned offers, in the order in which they are tried."""
    next_offer: int = 0
    """Index into `offers` of the next one to try."""
    tried_in_round: int = 0
    """Offers tried since the launch or the last recovery; a round ends when every offer had its turn."""
    attempts: list[Attempt] = []
    recoveries: int = 0
    health: Health | None = None
    ending: Failure | None = None
    """Why it ends or ended; set on entering `terminating`."""
    ends_as: Literal["terminated", "failed"] | None = None
    """Which final phase follows `terminating`."""
    ended_at: UtcTime | None = None
    poisoned: int = 0
    """Messages that the host gave up since a step was last done."""
    poison_ids: list[str] = []
    """Their ids: one that storage did not delete is read again."""
    model: ModelFacts | None = None
    """What was found of the model while validating; None: nothing was inspected, as for a simulation."""
    log_tail: list[str] = []
    """The last log lines of the node, redacted."""
    event_count: int = 0
    """Events written so far; the next one carries this number."""
    estimated_hourly_usd: float
    worst_case_usd: float
    reservation: Reservation | None = None
    """What it holds of the ledger until it ends; None: it was accepted where nothing is counted."""
    traceparent: str | None = None
    """The launch's span (W3C), parent of all telemetry of the instance; None without telemetry."""

    @property
    def attempt(self) -> Attempt | None:
        return self.attempts[-1] if self.attempts else None

    @property
    def ended(self) -> bool:
        return self.phase.ended

    @property
    def is_full(self) -> bool:
        """Whether it has grown so much that its node's reports are refused: the rest of the row is for its end."""
        return len(self.model_dump_json().encode("utf-16-le")) // 2 > REPORT_UNITS

    def shortened(self) -> "InstanceRecord":
        """The same without its log and details and with short texts, for a row that has no room for more."""
        health = self.health
        return self.model_copy(
            update={
                "log_tail": [],
                "mode_reason": shorten(self.mode_reason, SHORT_UNITS),
                "attempts": [attempt.shortened() for attempt in self.attempts],
                "health": health and health.model_copy(update={"message": shorten(health.message, SHORT_UNITS)}),
                "ending": self.ending and self.ending.shortened(SHORT_UNITS),
            }
        )


_Move = TypedDict("_Move", {"from": NotRequired[str], "to": NotRequired[str]})
"""Of `phase`; its own, since `from` is a keyword of Python."""


@with_config(ConfigDict(extra="allow"))
class EventData(_Move, total=False):
    """More facts of an event, by its type; keys of a later version are kept."""

    # accepted
    mode: str
    mode_reason: str
    offers: list[str]
    left_out: dict[str, str]
    """Offers that are not tried: reason by key."""
    # attempt_started, and in part attempt_failed
    cluster_name: str
    region: str
    instance_type: str | None
    gpu: str
    use_spot: bool
    price_per_hour: float
    offer: str
    # alert
    tries: int
    """Of a node's release."""
    alert: str
    """`budget`, with the facts below; `release`, of a node that is not confirmed deleted in time."""
    month: str
    scope: str
    threshold_percent: int
    budget_micro_usd: int
    used_micro_usd: int


class Event(Kept):
    """One line of an instance's timeline."""

    sequence: int
    """From 0, without gaps."""
    at: UtcTime
    type: EventType
    phase: Phase
    """The phase after the event."""
    message: str
    reason: Reason | None = None
    attempt: int | None = None
    duration_seconds: float | None = None
    """For `phase`: how long the phase before lasted; for `attempt_failed`: how long the attempt took."""
    data: EventData = {}
