"""What users get back."""

from datetime import date
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from gpulaunch.models.base import UtcTime
from gpulaunch.models.instances import EventType, Mode, Phase, Reason
from gpulaunch.models.offers import Offer, PriceSource
from gpulaunch.models.requests import LaunchRequest


class Answer(BaseModel):
    """Base of answers."""

    model_config = ConfigDict(frozen=True)


class Estimate(Answer):
    """What a launch is expected to cost, in USD."""

    hourly_usd: float
    """Price of the first planned offer, USD per hour."""
    worst_case_usd: float
    """Highest price among the planned offers, for the whole lifetime, USD; rounded up to the cent."""
    lifetime_minutes: int
    prices_as_of: str
    """How old the prices are."""
    prices_source: PriceSource = "snapshot"


class GpuMemory(Answer):
    """What the model is estimated to need of each GPU beside what the planned machines have; GiB."""

    needed_gib: float
    has_gib: float
    gpu: str
    gpus_used: int
    """GPUs of the machine that vLLM was told to use."""
    fits: bool
    basis: str
    """What the estimate is made of."""


class LaunchAnswer(Answer):
    """Answer to an accepted launch."""

    message: str
    instance_id: str
    mode: Mode
    mode_reason: str
    """Why this mode."""
    phase: Phase
    offers: list[Offer]
    """The planned offers, in the order in which they are tried."""
    estimate: Estimate
    gpu_memory: GpuMemory | None = None
    """Null: the model's name does not say how large it is, or the GPU's memory is not known."""
    warnings: list[str] = []


class ReasonView(Answer):
    """Why something failed or ended."""

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
    ready_at: UtcTime | None
    gone_at: UtcTime | None
    detail: str
    fetched_bytes: int | None
    total_bytes: int | None
    failure: ReasonView | None
    cost_usd: float
    """What it has cost so far, USD."""


class HealthView(Answer):
    """What the probes of a ready instance say."""

    state: Literal["healthy", "unhealthy"]
    since: UtcTime
    failures: int
    message: str
    idle_since: UtcTime | None
    running_requests: float | None
    waiting_requests: float | None


class InstanceView(Answer):
    """An instance as users see it."""

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
    ending: ReasonView | None
    """Why it ends or ended."""
    attempts: list[AttemptView]
    recoveries: int
    health: HealthView | None
    estimated_hourly_usd: float
    worst_case_usd: float
    cost_usd: float
    """What it has cost so far, USD, at the offers' list prices."""
    labels: dict[str, str]
    request: LaunchRequest


class InstanceList(Answer):
    """A page of instances, newest first."""

    instances: list[InstanceView]
    next_token: str | None
    """Pass it as `continuation_token` for the next page; null at the end."""


class EventView(Answer):
    """One line of an instance's story."""

    sequence: int
    at: UtcTime
    type: EventType
    phase: Phase
    message: str
    reason: Reason | None
    attempt: int | None
    duration_seconds: float | None
    data: dict[str, Any]


class PhaseTime(Answer):
    """How long a phase is expected to take, seconds."""

    phase: Phase
    least_seconds: float
    most_seconds: float


class EventList(Answer):
    """An instance's timeline with its ledger of attempts."""

    instance_id: str
    events: list[EventView]
    attempts: list[AttemptView]
    expected: list[PhaseTime] = []
    """What the phases up to ready took earlier launches of the machine and model, or may take; empty once ready."""


class LogAnswer(Answer):
    """The last lines of a node's log, redacted."""

    instance_id: str
    attempt: int | None
    lines: list[str]


class Credentials(Answer):
    """How to use a ready endpoint."""

    instance_id: str
    endpoint: str
    """Base address of the OpenAI-compatible API."""
    api_key: str
    model_name: str


class ConfigAnswer(Answer):
    """The settings that matter to users; no secrets."""

    version: str
    orchestrator: str
    workspace: str
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
    """What a day, model, label or provider has cost, in USD at list prices, exact to the micro-USD."""

    key: str
    """The day, model, label (`team=a`, or the value where one label was asked for) or provider."""
    node_hours: float
    actual_usd: float
    """At the prices of the machines really used."""
    estimated_usd: float
    """The same hours at the price of each launch's first planned offer."""
    on_demand_usd: float
    """The same hours at on-demand prices."""
    spot_saving_usd: float
    """What spot nodes have cost less than on-demand ones of the same machine and region."""
    simulated_usd: float
    """The part of `actual_usd` that a simulation made up."""


class BudgetView(Answer):
    """How a budget stands in a month."""

    month: str
    mode: Mode
    """Real and simulated launches have accounts of their own."""
    label: str | None
    """`team=a`; null: the budget of everything."""
    budget_usd: float
    spent_usd: float
    """What instances have cost that were accepted in the month and have ended."""
    reserved_usd: float
    """What live instances accepted in the month may cost at worst."""
    left_usd: float


class CostsAnswer(Answer):
    """What was spent from one day to another, both included, UTC."""

    first_day: date
    last_day: date
    by: Literal["day", "model", "label", "provider"]
    groups: list[CostGroup]
    """By label, an instance counts in the group of each of its labels."""
    total: CostGroup
    """Everything once."""
    budgets: list[BudgetView]
    """This month's budgets."""


class QuotaLine(Answer):
    """One line of a region's quota: cores of a machine family, of the region, or machines."""

    name: str
    """As Azure spells it; `lowPriorityCores` is what spot machines need."""
    used: int
    limit: int
    free: int
    ours: int
    """What live instances of this deployment hold, or are about to."""


class QuotaRegion(Answer):
    """A region's quota as far as GPU machines need it."""

    region: str
    checked_at: UtcTime | None
    """Null: Azure did not answer."""
    problem: str | None
    """Why there is no answer."""
    lines: list[QuotaLine]


class QuotaAnswer(Answer):
    """The quota on Azure."""

    checked: bool
    """False: Azure is not asked; `reason` says why."""
    reason: str | None
    regions: list[QuotaRegion]


class HealthAnswer(Answer):
    """Whether the control plane works."""

    status: Literal["ok", "degraded"]
    version: str
    storage: Literal["ok", "unavailable"]
