"""What is stored about an instance: its record, its attempts and its events."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Literal

from shared.models.base import Stored, UtcTime, kindly
from shared.models.ledger import Reservation
from shared.models.node import JobResult, NodePhase
from shared.models.offers import Offer
from shared.models.requests import LaunchRequest

Mode = Literal["real", "simulation"]
SCHEMA = 1
"""Version of the stored shape; a reader takes every version up to its own."""


class Phase(StrEnum):
    """Where an instance stands."""

    QUEUED = "queued"
    VALIDATING = "validating"
    PROVISIONING = "provisioning"
    INSTALLING = "installing"
    LOADING_MODEL = "loading_model"
    STARTING_SERVER = "starting_server"
    REGISTERING = "registering"
    READY = "ready"
    RECOVERING = "recovering"
    TERMINATING = "terminating"
    TERMINATED = "terminated"
    FAILED = "failed"

    @property
    def ended(self) -> bool:
        """Final: nothing runs and nothing will."""
        return self in (Phase.TERMINATED, Phase.FAILED)


class Reason(StrEnum):
    """Why an attempt failed or an instance ends; stable codes, shown in events and answers."""

    # why an offer failed
    NO_CAPACITY = "no_capacity"
    QUOTA_EXCEEDED = "quota_exceeded"
    PERMISSION_DENIED = "permission_denied"
    IMAGE_UNAVAILABLE = "image_unavailable"
    NETWORK_FAILED = "network_failed"
    SETUP_FAILED = "setup_failed"
    INVALID_TASK = "invalid_task"
    PROVISIONING_FAILED = "provisioning_failed"
    PROVISIONING_TIMEOUT = "provisioning_timeout"
    # why a node was given up
    INSTALL_FAILED = "install_failed"
    MODEL_FETCH_FAILED = "model_fetch_failed"
    SERVER_FAILED = "server_failed"
    PORT_TAKEN = "port_taken"
    INSTALL_TIMEOUT = "install_timeout"
    MODEL_TIMEOUT = "model_timeout"
    SERVER_TIMEOUT = "server_timeout"
    REGISTRATION_TIMEOUT = "registration_timeout"
    NODE_LOST = "node_lost"
    EVICTED = "evicted"
    UNHEALTHY = "unhealthy"
    # why an instance ends
    USER_REQUEST = "user_request"
    JOB_COMPLETED = "job_completed"
    IDLE = "idle"
    DEADLINE = "deadline"
    BUDGET = "budget"
    NO_OFFERS_LEFT = "no_offers_left"
    TOO_MANY_ATTEMPTS = "too_many_attempts"
    TOO_MANY_RECOVERIES = "too_many_recoveries"
    PROVIDER_UNAVAILABLE = "provider_unavailable"
    POISON_MESSAGE = "poison_message"


class AttemptState(StrEnum):
    """Where an attempt stands. Only `gone` means that nothing is left of it."""

    SUBMITTING = "submitting"
    """Intent written; the provider may or may not have heard of it."""
    SUBMITTED = "submitted"
    """The provider took it; a node may exist."""
    RELEASING = "releasing"
    """Given up; its node is being taken away."""
    GONE = "gone"
    """The provider says that nothing of it is left."""


class Failure(Stored):
    """Why something did not work."""

    reason: Reason
    message: str


class Attempt(Stored):
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
    request_id: str | None = None
    """The provider's id of the launch, when it gave one."""
    node_phase: NodePhase | None = None
    calls_us: bool = False
    """The node tells of its changes by itself."""
    detail: str = ""
    fetched_bytes: int | None = None
    total_bytes: int | None = None
    address: str | None = None
    """Host name or IP address of the node, once known."""
    port: int | None = None
    """vLLM's port."""
    node_up_at: UtcTime | None = None
    """When the node was first seen running: from here it costs money."""
    ready_at: UtcTime | None = None
    failure: Failure | None = None
    release_since: UtcTime | None = None
    release_tries: int = 0
    gone_at: UtcTime | None = None
    job: Annotated[JobResult | None, kindly(JobResult)] = None


class Health(Stored):
    """What the last probes of a ready node said."""

    state: Literal["healthy", "unhealthy"] = "healthy"
    since: UtcTime
    failures: int = 0
    """Probes in a row without a good answer."""
    message: str = ""
    idle_since: UtcTime | None = None
    """Since when vLLM reports neither running nor waiting requests; None: busy or unknown."""
    running_requests: float | None = None
    waiting_requests: float | None = None
    finished_requests: float | None = None
    """vLLM's count of finished requests when `idle_since` was set; a higher one later means that it was not idle."""


class InstanceRecord(Stored):
    """All that is known about one instance."""

    schema_version: int = SCHEMA
    instance_id: str
    epoch: int = 1
    """Goes up whenever messages under way lose their meaning (termination, recovery)."""
    request: Annotated[LaunchRequest, kindly(LaunchRequest)]
    mode: Mode
    mode_reason: str = ""
    """Why this mode, for people."""
    phase: Phase = Phase.QUEUED
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
    log_tail: list[str] = []
    """The last log lines of the node, redacted."""
    event_count: int = 0
    """Events written so far; the next one carries this number."""
    estimated_hourly_usd: float
    worst_case_usd: float
    reservation: Reservation | None = None
    """What it holds of the ledger until it ends; None: it was accepted where nothing is counted."""
    traceparent: str | None = None
    """The launch's span (W3C), below which everything that is told of the instance stands; None: nothing was told."""

    @property
    def attempt(self) -> Attempt | None:
        """The latest attempt."""
        return self.attempts[-1] if self.attempts else None

    @property
    def ended(self) -> bool:
        """Whether the instance is final."""
        return self.phase.ended


class EventType(StrEnum):
    """Kinds of events."""

    ACCEPTED = "accepted"
    PHASE = "phase"
    ATTEMPT_STARTED = "attempt_started"
    ATTEMPT_FAILED = "attempt_failed"
    ATTEMPT_GONE = "attempt_gone"
    NODE_NOTICE = "node_notice"
    HEALTH = "health"
    TERMINATION = "termination"
    ALERT = "alert"


class Event(Stored):
    """One line of an instance's story."""

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
    data: dict[str, Any] = {}
    """More facts, by kind: from and to for `phase`; region, instance_type, price_per_hour for attempts."""


def seconds_between(earlier: datetime, later: datetime) -> float:
    """Seconds from one point in time to a later one, never negative."""
    return max(0.0, (later - earlier).total_seconds())
