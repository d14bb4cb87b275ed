"""Response models of the HTTP API."""

from typing import Any, Literal

from gpulaunch.models.base import Answer, Url, UtcTime, Wide
from gpulaunch.models.instances import EventType, Mode, Phase, Reason
from gpulaunch.models.model_view import ModelView
from gpulaunch.models.offers import Offer, PriceSource
from gpulaunch.models.requests import LaunchRequest


class Estimate(Answer):
    """Expected cost of a launch, in USD."""

    hourly_usd: float
    """Price per hour of the first planned offer."""
    worst_case_usd: float
    """Highest price among the planned offers for the whole lifetime, rounded up to the cent."""
    lifetime_minutes: int
    """The lifetime that `worst_case_usd` is for."""
    prices_as_of: str
    """Date or age of the prices."""
    prices_source: PriceSource = "snapshot"
    """Whether prices are of the project's snapshot or of SkyPilot's live catalog."""


class GpuMemory(Answer):
    """Estimated memory that the model needs on each GPU, and what the planned machines have; in GiB."""

    needed_gib: float
    """What weights, cache and activations need on each GPU."""
    has_gib: float
    """What each GPU of the planned machines has, at least."""
    gpu: str
    """The planned machines' GPU."""
    gpus_used: int
    """Number of the machine's GPUs that vLLM uses."""
    fits: bool
    """Whether it is enough."""
    basis: str
    """What the estimate is based on."""


class LaunchAnswer(Answer):
    """An accepted launch."""

    message: str
    """Whether the launch is real or simulated, in words."""
    instance_id: str
    """The new instance."""
    mode: Mode
    """`simulation` costs nothing and launches nothing."""
    mode_reason: str
    """Why the launch is real or simulated."""
    phase: Phase
    """The phase it begins in."""
    offers: list[Offer]
    """The planned offers, in the order in which they are tried."""
    estimate: Estimate
    """Expected cost."""
    gpu_memory: GpuMemory | None = None
    """Null if the model's name does not state its size, or the GPU's memory is unknown."""
    warnings: list[str] = []
    """What may go wrong, a sentence each."""


class ReasonView(Answer):
    """Reason and message of a failure or termination."""

    reason: Reason
    """Stable code of the reason."""
    message: str
    """The reason in words."""


class AttemptView(Answer):
    """One try to provision on one offer."""

    number: int
    """Counted from 1."""
    offer: Offer
    """The offer that is tried."""
    cluster_name: str
    """The node's name in SkyPilot."""
    state: Literal["submitting", "submitted", "releasing", "gone"]
    """`submitting` and `submitted` while it lasts, `releasing` until its node is deleted, then `gone`."""
    started_at: UtcTime
    """When it was submitted to SkyPilot."""
    node_up_at: UtcTime | None
    """When the node was first seen running."""
    billed_from: UtcTime | None = None
    """From here its cost counts: the cloud's creation of the machine where that is known, else the submission; null if
    no machine was ever created."""
    ready_at: UtcTime | None
    """When the node first served."""
    gone_at: UtcTime | None
    """When the node was confirmed deleted."""
    detail: str
    """What is going on, as the provider or the node reports it."""
    fetched_bytes: Wide | None
    """How much of the model the node has fetched."""
    total_bytes: Wide | None
    """Size of the model's files."""
    failure: ReasonView | None
    """Why it failed; null if it has not."""
    cost_usd: float
    """Cost in USD from `billed_from` until the node was confirmed deleted, or until now: an upper bound."""


class HealthView(Answer):
    """Result of the latest probes of a ready instance."""

    state: Literal["healthy", "unhealthy"]
    """Whether the last probes succeeded."""
    since: UtcTime
    """Since when it is so."""
    failures: int
    """Failed probes in a row."""
    message: str
    """What the last probe found."""
    idle_since: UtcTime | None
    """Since when no request is running or waiting; null if one is, or if it is unknown."""
    running_requests: float | None
    """Requests that vLLM is answering."""
    waiting_requests: float | None
    """Requests that wait in vLLM."""


class InstanceView(Answer):
    """An instance."""

    instance_id: str
    """`inst-` and a ULID."""
    name: str | None
    """The name it was launched with."""
    mode: Mode
    """`simulation` costs nothing and launches nothing."""
    phase: Phase
    """Where it is in its life."""
    phase_since: UtcTime
    """When it entered the phase."""
    created_at: UtcTime
    """When the launch was accepted."""
    updated_at: UtcTime
    """When its record last changed."""
    deadline_at: UtcTime
    """When its lifetime ends and it is terminated."""
    ended_at: UtcTime | None
    """When it ended with nothing left running; null while it is live."""
    model_name: str
    """Name of the served model, which requests name as `model`."""
    provider: str
    """The provider that it was launched on."""
    endpoint: Url | None
    """Base address of the OpenAI-compatible API while the instance is ready."""
    replica_of: str | None = None
    """The endpoint that it serves as a replica; null if it was launched by itself."""
    generation: int | None = None
    """Of that endpoint."""
    ending: ReasonView | None
    """Why the instance terminates or was terminated."""
    attempts: list[AttemptView]
    """All tries to provision it, oldest first; the last is the current one."""
    recoveries: int
    """How often a lost node was replaced."""
    health: HealthView | None
    """What the last probes found; null before it is ready."""
    estimated_hourly_usd: float
    """Price per hour of the first planned offer, in USD."""
    worst_case_usd: float
    """Highest cost for the whole lifetime, in USD, as reserved in the budget."""
    cost_usd: float
    """Cost so far, in USD at list prices."""
    labels: dict[str, str]
    """The labels it was launched with."""
    request: LaunchRequest
    """The launch as it was asked for."""
    model: ModelView | None = None
    """What was found of the model; null before validation and in simulations."""


class UnreadableView(Answer):
    """An instance whose stored record cannot be read by this version; its node is kept until it is terminated."""

    instance_id: str
    """The instance."""
    why: str
    """Why its record cannot be read."""
    phase: str | None
    """As stored, as far as the row still says it; so are `mode` and `provider`."""
    mode: str | None
    """As stored; null if the row does not say it."""
    provider: str | None
    """As stored; null if the row does not say it."""


TerminationView = InstanceView | UnreadableView
"""The answer to DELETE, which terminates an instance whether its record can be read or not."""


class OperationError(Answer):
    """Why an operation failed."""

    code: str
    """Stable code of the reason."""
    message: str
    """The reason in words."""


class OperationView(Answer):
    """How far an operation has got, in the form that Azure's SDKs poll."""

    id: str
    """Of the operation: what it works on, and its kind."""
    kind: Literal["launch", "terminate", "delete"]
    """`launch` is over once the instance is ready for the first time, the others once nothing is left running."""
    status: Literal["Running", "Succeeded", "Failed", "Canceled"]
    """`Canceled`: the instance was terminated by a user before it was ready."""
    resourceLocation: Url | None  # noqa: N815 - as Azure's guidelines name it
    """What the operation works on; null if it is deleted in the end."""
    error: OperationError | None
    """Why it failed or was canceled."""


class InstanceList(Answer):
    """A page of instances, newest first."""

    instances: list[InstanceView]
    """Those that match, newest first."""
    unreadable: list[UnreadableView] = []
    """Instances of this page whose stored records cannot be read."""
    next_token: str | None
    """Pass as `continuation_token` to get the next page; null on the last one."""
    nextLink: Url | None = None  # noqa: N815 - as Azure's guidelines name it
    """Address of the next page; null on the last one."""


class EventView(Answer):
    """An event in an instance's timeline."""

    sequence: int
    """Number of the event, from 0; events are in this order."""
    at: UtcTime
    """When it happened."""
    type: EventType
    """What kind of event it is."""
    phase: Phase
    """The phase after the event."""
    message: str
    """What happened, in words."""
    reason: Reason | None
    """Stable code of the reason; null if there is none."""
    attempt: int | None
    """The attempt that it belongs to; null if to none."""
    duration_seconds: float | None
    """How long the phase before it took."""
    data: dict[str, Any]
    """Details, which depend on the type."""


class StepView(Answer):
    """A phase on the way to ready, as the last attempt went through it."""

    phase: Phase
    """The phase."""
    state: Literal["waiting", "now", "done", "stopped"]
    """`waiting` before it begins, `now`, `done`, or `stopped` where the instance ended in it."""
    since: UtcTime | None
    """When it began; null unless it is the current one."""
    seconds: float | None
    """How long it took, or has taken so far; null before it begins."""
    least_seconds: float | None
    """Expected, from earlier launches where there are any; null if unknown or no longer of interest."""
    most_seconds: float | None
    """Expected at most; null as for `least_seconds`."""


class EventList(Answer):
    """An instance's timeline and attempts."""

    instance_id: str
    """The instance."""
    events: list[EventView]
    """The timeline, oldest first."""
    attempts: list[AttemptView]
    """The ledger of attempts, oldest first."""
    steps: list[StepView]
    """The phases up to ready."""


class LogAnswer(Answer):
    """The last lines of a node's log, redacted."""

    instance_id: str
    """The instance."""
    attempt: int | None
    """The attempt whose node wrote it; null before the first."""
    lines: list[str]
    """The lines, oldest first."""


class Credentials(Answer):
    """Access to a ready instance."""

    instance_id: str
    """The instance."""
    endpoint: Url
    """Base address of the OpenAI-compatible API."""
    api_key: str
    """The key, as `Authorization: Bearer`."""
    model_name: str
    """What requests name as `model`."""
    server_name: str | None = None
    """The name in the node's certificate, which its address is not; null: the node answers by plain HTTP."""
    ca_certificate: str | None = None
    """What vouches for the certificate, PEM; the same for all instances of a deployment."""
