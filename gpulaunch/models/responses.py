"""Response models of the HTTP API."""

from datetime import date
from typing import Any, Literal

from gpulaunch.models.base import Answer, UtcTime
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
    prices_as_of: str
    """Date or age of the prices."""
    prices_source: PriceSource = "snapshot"


class GpuMemory(Answer):
    """Estimated memory that the model needs on each GPU, and what the planned machines have; in GiB."""

    needed_gib: float
    has_gib: float
    gpu: str
    gpus_used: int
    """Number of the machine's GPUs that vLLM uses."""
    fits: bool
    basis: str
    """What the estimate is based on."""


class LaunchAnswer(Answer):
    """An accepted launch."""

    message: str
    instance_id: str
    mode: Mode
    mode_reason: str
    """Why the launch is real or simulated."""
    phase: Phase
    offers: list[Offer]
    """The planned offers, in the order in which they are tried."""
    estimate: Estimate
    gpu_memory: GpuMemory | None = None
    """Null if the model's name does not state its size, or the GPU's memory is unknown."""
    warnings: list[str] = []


class ReasonView(Answer):
    """Reason and message of a failure or termination."""

    reason: Reason
    message: str


class AttemptView(Answer):
    """One try to provision on one offer."""

    number: int
    offer: Offer
    cluster_name: str
    state: Literal["submitting", "submitted", "releasing", "gone"]
    started_at: UtcTime
    node_up_at: UtcTime | None
    """When the node was first seen running."""
    billed_from: UtcTime | None = None
    """From here its cost counts: the cloud's creation of the machine where that is known, else the submission; null if
    no machine was ever created."""
    ready_at: UtcTime | None
    gone_at: UtcTime | None
    detail: str
    fetched_bytes: int | None
    total_bytes: int | None
    failure: ReasonView | None
    cost_usd: float
    """Cost in USD from `billed_from` until the node was confirmed deleted, or until now: an upper bound."""


class HealthView(Answer):
    """Result of the latest probes of a ready instance."""

    state: Literal["healthy", "unhealthy"]
    since: UtcTime
    failures: int
    message: str
    idle_since: UtcTime | None
    running_requests: float | None
    waiting_requests: float | None


class InstanceView(Answer):
    """An instance."""

    instance_id: str
    name: str | None
    mode: Mode
    phase: Phase
    phase_since: UtcTime
    created_at: UtcTime
    updated_at: UtcTime
    deadline_at: UtcTime
    ended_at: UtcTime | None
    model_name: str
    provider: str
    endpoint: str | None
    """Base address of the OpenAI-compatible API while the instance is ready."""
    replica_of: str | None = None
    """The endpoint that it serves as a replica; null if it was launched by itself."""
    generation: int | None = None
    """Of that endpoint."""
    ending: ReasonView | None
    """Why the instance terminates or was terminated."""
    attempts: list[AttemptView]
    recoveries: int
    health: HealthView | None
    estimated_hourly_usd: float
    worst_case_usd: float
    cost_usd: float
    """Cost so far, in USD at list prices."""
    labels: dict[str, str]
    request: LaunchRequest
    model: ModelView | None = None
    """What was found of the model; null before validation and in simulations."""


class UnreadableView(Answer):
    """An instance whose stored record cannot be read by this version; its node is kept until it is terminated."""

    instance_id: str
    why: str
    phase: str | None
    """As stored, as far as the row still says it; so are `mode` and `provider`."""
    mode: str | None
    provider: str | None


TerminationView = InstanceView | UnreadableView
"""The answer to DELETE, which terminates an instance whether its record can be read or not."""


class InstanceList(Answer):
    """A page of instances, newest first."""

    instances: list[InstanceView]
    unreadable: list[UnreadableView] = []
    """Instances of this page whose stored records cannot be read."""
    next_token: str | None
    """Pass as `continuation_token` to get the next page; null on the last one."""


class EventView(Answer):
    """An event in an instance's timeline."""

    sequence: int
    at: UtcTime
    type: EventType
    phase: Phase
    message: str
    reason: Reason | None
    attempt: int | None
    duration_seconds: float | None
    data: dict[str, Any]


class StepView(Answer):
    """A phase on the way to ready, as the last attempt went through it."""

    phase: Phase
    state: Literal["waiting", "now", "done", "stopped"]
    since: UtcTime | None
    """When it began; null unless it is the current one."""
    seconds: float | None
    """How long it took, or has taken so far; null before it begins."""
    least_seconds: float | None
    """Expected, from earlier launches where there are any; null if unknown or no longer of interest."""
    most_seconds: float | None


class EventList(Answer):
    """An instance's timeline and attempts."""

    instance_id: str
    events: list[EventView]
    attempts: list[AttemptView]
    steps: list[StepView]
    """The phases up to ready."""


class LogAnswer(Answer):
    """The last lines of a node's log, redacted."""

    instance_id: str
    attempt: int | None
    lines: list[str]


class Credentials(Answer):
    """Access to a ready instance."""

    instance_id: str
    endpoint: str
    """Base address of the OpenAI-compatible API."""
    api_key: str
    model_name: str


class ConfigAnswer(Answer):
    """Settings that matter to users, without secrets."""

    version: str
    orchestrator: str
    workspace: str
    deployment: str = ""
    """The deployment's identity, which its nodes carry as the label `gpulaunch-deployment`; empty: an older app."""
    simulation_speed: float
    default_lifetime_minutes: int
    default_idle_minutes: int | None
    lease_seconds: int
    public_url: str | None
    vllm_requirement: str


class CatalogAnswer(Answer):
    """What can be launched on a provider."""

    provider: str
    prices_as_of: str
    prices_source: PriceSource = "snapshot"
    notes: list[str]
    regions: list[str]
    instance_types: list[str]
    gpus: list[str]
    offers: list[Offer]


class CostGroup(Answer):
    """Cost of a day, model, label or provider, in USD at list prices, exact to the micro-USD."""

    key: str
    """The day, model, provider, or label: `team=a`, or its value if one label was requested."""
    node_hours: float
    actual_usd: float
    """At the prices of the machines used."""
    estimated_usd: float
    """The same hours at the price of each launch's first planned offer."""
    on_demand_usd: float
    """The same hours at on-demand prices."""
    spot_saving_usd: float
    """Saved by spot nodes, compared with on-demand ones of the same type and region."""
    simulated_usd: float
    """The simulated part of `actual_usd`."""


class BudgetView(Answer):
    """State of a budget in a month."""

    month: str
    mode: Mode
    """Real and simulated launches have separate accounts."""
    label: str | None
    """A label such as `team=a`; null for the overall budget."""
    budget_usd: float
    spent_usd: float
    """Cost of ended instances that were accepted in the month."""
    reserved_usd: float
    """Worst-case cost of live instances that were accepted in the month."""
    left_usd: float


class CostsAnswer(Answer):
    """Costs between two days, inclusive, UTC."""

    first_day: date
    last_day: date
    by: Literal["day", "model", "label", "provider"]
    groups: list[CostGroup]
    """When grouped by label, an instance counts in the group of each of its labels."""
    total: CostGroup
    """The sum, counting each instance once."""
    budgets: list[BudgetView]
    """Budgets of the current month."""


class QuotaLine(Answer):
    """One quota of a region: cores of a machine family, cores of the region, or machines."""

    name: str
    """As Azure spells it; `lowPriorityCores` is what spot machines need."""
    used: int
    limit: int
    free: int
    ours: int
    """Used or about to be used by this deployment's live instances."""


class QuotaRegion(Answer):
    """The quotas of a region that matter to GPU machines."""

    region: str
    checked_at: UtcTime | None
    """Null if the cloud did not answer."""
    problem: str | None
    """Why the quota is unknown."""
    lines: list[QuotaLine]


class QuotaAnswer(Answer):
    """Quotas by region."""

    checked: bool
    """False if quotas are not checked; see `reason`."""
    reason: str | None
    regions: list[QuotaRegion]


class SweepTaskView(Answer):
    """How a task of the sweep last ran."""

    name: str
    ended_at: UtcTime | None
    """When it last ended well."""
    failed_at: UtcTime | None
    """When its last run failed; null: it ended well. The log says why."""


class HealthAnswer(Answer):
    """State of the control plane."""

    status: Literal["ok", "degraded"]
    version: str
    storage: Literal["ok", "unavailable"]
    problems: list[str] = []
    """What is degraded and why, a sentence each."""
    swept_at: UtcTime | None = None
    """When the last sweep ended; null: none has yet."""
    tasks: list[SweepTaskView] = []
    unreadable: int = 0
    """Live instances whose stored records cannot be read; the list of instances names them."""
    garbage_waiting: int = 0
    """Nodes that are deleted only after a confirmation; `GET /api/garbage` names them."""
    foreign_nodes: int = 0
    """Nodes named like ours that carry another identity, or none; `GET /api/garbage` names them."""
