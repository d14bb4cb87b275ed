"""Response models of what operators ask: settings, catalog, costs, quota, health."""

from datetime import date
from typing import Literal

from gpulaunch.models.base import Answer, Url, UtcTime
from gpulaunch.models.instances import Mode
from gpulaunch.models.offers import Offer, PriceSource


class ConfigAnswer(Answer):
    """Settings that matter to users, without secrets."""

    version: str
    """The app's version."""
    orchestrator: str
    """`auto`, `skypilot` or `simulation`."""
    workspace: str
    """SkyPilot's workspace."""
    deployment: str = ""
    """The deployment's identity, which its nodes carry as the label `gpulaunch-deployment`; empty: an older app."""
    simulation_speed: float
    """Simulated seconds per second."""
    default_lifetime_minutes: int
    """Lifetime of a launch that names none."""
    default_idle_minutes: int | None
    """Idle time of a launch that names none; null: not ended when idle."""
    lease_seconds: int
    """How long a node runs without contact to the app."""
    public_url: Url | None
    """Where nodes reach the app; null: the app polls them."""
    vllm_requirement: str
    """What is installed on nodes, as a pip requirement."""


class CatalogAnswer(Answer):
    """What can be launched on a provider."""

    provider: str
    """The provider."""
    prices_as_of: str
    """Date or age of the prices."""
    prices_source: PriceSource = "snapshot"
    """Whether prices are of the project's snapshot or of SkyPilot's live catalog."""
    notes: list[str]
    """What to know about these offers, a sentence each."""
    regions: list[str]
    """All regions of the provider."""
    instance_types: list[str]
    """All machine types of the provider."""
    gpus: list[str]
    """All GPUs of the provider."""
    offers: list[Offer]
    """The offers that match."""


class CostGroup(Answer):
    """Cost of a day, model, label or provider, in USD at list prices, exact to the micro-USD."""

    key: str
    """The day, model, provider, or label: `team=a`, or its value if one label was requested."""
    node_hours: float
    """Hours that nodes ran."""
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
    """The month, such as `2026-01`."""
    mode: Mode
    """Real and simulated launches have separate accounts."""
    label: str | None
    """A label such as `team=a`; null for the overall budget."""
    budget_usd: float
    """The budget."""
    spent_usd: float
    """Cost of ended instances that were accepted in the month."""
    reserved_usd: float
    """Worst-case cost of live instances that were accepted in the month."""
    left_usd: float
    """What is neither spent nor reserved."""


class CostsAnswer(Answer):
    """Costs between two days, inclusive, UTC."""

    first_day: date
    """The first day."""
    last_day: date
    """The last day."""
    by: Literal["day", "model", "label", "provider"]
    """What costs are grouped by."""
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
    """In use, by whomever."""
    limit: int
    """The quota."""
    free: int
    """What is left."""
    ours: int
    """Used or about to be used by this deployment's live instances."""


class QuotaRegion(Answer):
    """The quotas of a region that matter to GPU machines."""

    region: str
    """The region."""
    checked_at: UtcTime | None
    """Null if the cloud did not answer."""
    problem: str | None
    """Why the quota is unknown."""
    lines: list[QuotaLine]
    """Its quotas."""


class QuotaAnswer(Answer):
    """Quotas by region."""

    checked: bool
    """False if quotas are not checked; see `reason`."""
    reason: str | None
    """Why quotas are not checked; null if they are."""
    regions: list[QuotaRegion]
    """The regions asked for."""


class SweepTaskView(Answer):
    """How a task of the sweep last ran."""

    name: str
    """The task."""
    ended_at: UtcTime | None
    """When it last ended well."""
    failed_at: UtcTime | None
    """When its last run failed; null: it ended well. The log says why."""


class HealthAnswer(Answer):
    """State of the control plane."""

    status: Literal["ok", "degraded"]
    """`degraded`: it works, but `problems` need a look."""
    version: str
    """The app's version."""
    storage: Literal["ok", "unavailable"]
    """Whether storage answers; if not, the status is 503."""
    problems: list[str] = []
    """What is degraded and why, a sentence each."""
    swept_at: UtcTime | None = None
    """When the last sweep ended; null: none has yet."""
    tasks: list[SweepTaskView] = []
    """The sweep's tasks."""
    unreadable: int = 0
    """Live instances whose stored records cannot be read; the list of instances names them."""
    garbage_waiting: int = 0
    """Nodes that are deleted only after a confirmation; `GET /api/garbage` names them."""
    foreign_nodes: int = 0
    """Nodes named like ours that carry another identity, or none; `GET /api/garbage` names them."""
