"""Endpoints on the HTTP interface: a name that is served by replicas, which are ordinary instances."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, StringConstraints, ValidationInfo, field_validator, model_validator

from gpulaunch.models.base import Answer, Outside, Url, UtcTime, Wide
from gpulaunch.models.instances import Phase
from gpulaunch.models.offers import Offer
from gpulaunch.models.requests import NAME, LaunchRequest
from gpulaunch.models.responses import ReasonView

MOST_REPLICAS = 100
"""One row holds all of an endpoint's slots; a slot takes 300 of the 500,000 characters of a row."""

EndpointName = Annotated[str, StringConstraints(pattern=NAME)]
Replicas = Annotated[int, Field(ge=0, le=MOST_REPLICAS)]
MaxReplicas = Annotated[int, Field(ge=1, le=MOST_REPLICAS)]
DrainSeconds = Annotated[int, Field(ge=0, le=3600)]

NOT_OF_REPLICAS = {
    "name": "Remove `launch.name`; the endpoint's own name is enough.",
    "job": "Remove `launch.job`; an endpoint serves, and a job ends its node. Launch an instance for a job.",
    "idle_minutes": "Remove `launch.idle_minutes`; to stop paying for an idle endpoint, pause it.",
    "budget_usd": "Remove `launch.budget_usd`, which would end replicas one by one; use a label's monthly budget.",
}
"""Fields of a launch that make no sense for a replica, and what to do instead."""


class EndpointLaunch(LaunchRequest):
    """What each replica is launched with: a launch without `name`, `job`, `idle_minutes` and `budget_usd`."""

    @model_validator(mode="after")
    def _serves_on(self) -> Self:
        for field, instead in NOT_OF_REPLICAS.items():
            if getattr(self, field) is not None:
                raise ValueError(instead)
        return self


ScalingPreset = Literal["thrifty", "balanced", "quick"]
"""`thrifty` waits longer and pays less, `quick` the opposite."""
TargetConcurrency = Annotated[int, Field(ge=1, le=4096)]


NUMBERS = frozenset({"replicas", "min_replicas", "max_replicas", "scaling", "target_concurrency"})
"""The fields that are about the number of replicas."""


class EndpointSpec(Outside):
    """Everything that is asked of an endpoint; what is left out has its default."""

    launch: EndpointLaunch
    """What each replica is launched with."""
    replicas: Replicas | None = None
    """A fixed number of replicas, instead of `max_replicas`; 0 keeps the name only. Neither: one replica."""
    max_replicas: MaxReplicas | None = None
    """How many replicas there may be. Their number then follows the load."""
    min_replicas: Replicas | None = None
    """How many replicas there are at least, with `max_replicas`; 0, the default: none while no request comes."""
    scaling: ScalingPreset | None = None
    """How the number follows, with `max_replicas`: `thrifty` drains a replica after 3 minutes in which fewer were
    enough, `balanced`, the default, after 10, `quick` after 15, and each starts more at once than the one before."""
    target_concurrency: TargetConcurrency | None = None
    """Requests that a replica is to work on at once, with `max_replicas`; by default 0.7 of `--max-num-seqs`."""
    drain_seconds: DrainSeconds = 600
    """How long a replica that is replaced or no longer needed may finish its requests before it is terminated."""

    @property
    def most_replicas(self) -> int:
        """How many replicas there may be."""
        fixed = 1 if self.replicas is None else self.replicas
        return fixed if self.max_replicas is None else self.max_replicas

    @property
    def numbers(self) -> dict[str, Any]:
        """What is asked of the number of replicas, by field, with the defaults of what was left out."""
        if self.max_replicas is None:
            return {"replicas": self.most_replicas}
        return {
            "min_replicas": self.min_replicas or 0,
            "max_replicas": self.max_replicas,
            "scaling": self.scaling or "balanced",
            "target_concurrency": self.target_concurrency,
        }

    @field_validator("max_replicas")
    @classmethod
    def _fixed_or_not(cls, most: int | None, info: ValidationInfo) -> int | None:
        if most is not None and info.data.get("replicas") is not None:
            raise ValueError("Set `replicas` for a fixed number, or `max_replicas` for one that follows the load.")
        return most

    @field_validator("min_replicas", "scaling", "target_concurrency")
    @classmethod
    def _goes_with_most(cls, value: int | str | None, info: ValidationInfo) -> int | str | None:
        if value is not None and info.data.get("max_replicas", 0) is None:
            raise ValueError("Set `max_replicas` too, so that the number of replicas follows the load.")
        return value

    @field_validator("min_replicas")
    @classmethod
    def _no_more_than_most(cls, least: int | None, info: ValidationInfo) -> int | None:
        most = info.data.get("max_replicas")
        if least is not None and most is not None and least > most:
            raise ValueError(f"Set it to at most `max_replicas`, which is {most}.")
        return least


class EndpointRequest(EndpointSpec):
    """A new endpoint."""

    name: EndpointName
    """The endpoint's name, which applications send as `model`."""


class EndpointChange(Outside):
    """A change of an endpoint. Fields that are left out stay as they are (RFC 7396)."""

    launch: dict[str, Any] | None = None
    """Fields of `launch` to change; null sets a field back to its default. Any change begins a new generation."""
    replicas: Replicas | None = None
    """A fixed number of replicas; ends what `max_replicas` began."""
    min_replicas: Replicas | None = None
    """How many replicas there are at least."""
    max_replicas: MaxReplicas | None = None
    """How many replicas there may be; from now on their number follows the load."""
    scaling: ScalingPreset | None = None
    """How the number follows the load."""
    target_concurrency: TargetConcurrency | None = None
    """Requests that a replica is to work on at once."""
    drain_seconds: DrainSeconds | None = None
    """How long a replica may finish its requests before it is terminated."""


class KeyRequest(Outside):
    """A key for an application."""

    name: EndpointName
    """Of the application; no other key of the endpoint has it."""
    requests_per_minute: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    """How many requests are let through in a minute, by all gateways together; null: any number."""
    tokens_per_minute: Annotated[int, Field(ge=1, le=1_000_000_000)] | None = None
    """How many tokens of prompts and answers may be used in a minute; null: any number. The tokens of an answer count
    when it ends, so the requests under way may go beyond."""
    tokens_per_month: Annotated[Wide, Field(ge=1, le=1_000_000_000_000)] | None = None
    """How many tokens may be used in a calendar month, UTC; null: any number."""
    requests_at_once: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    """How many of its requests may be under way at once, or wait, at each gateway; null: any number."""


class KeyView(Answer):
    """A key with which an application calls an endpoint."""

    key_id: str
    """Names the key, to revoke it."""
    name: str
    """Of the application."""
    created_at: UtcTime
    """When it was made."""
    requests_per_minute: int | None
    """How many requests are let through in a minute, by all gateways together; null: any number."""
    tokens_per_minute: int | None
    """How many tokens of prompts and answers may be used in a minute; null: any number."""
    tokens_per_month: Wide | None
    """How many tokens may be used in a calendar month, UTC; null: any number."""
    requests_at_once: int | None = None
    """How many of its requests may be under way at once, or wait, at each gateway; null: any number."""
    requests_this_month: Wide = 0
    """Requests that were let through this month, UTC; known some seconds late."""
    tokens_this_month: Wide = 0
    """Tokens of prompts and answers used this month, UTC; known some seconds late."""


class NewKey(KeyView):
    """A key that was just made."""

    key: str
    """Shown this once; only its hash is stored."""


class KeyList(Answer):
    """An endpoint's keys."""

    keys: list[KeyView]
    """The keys, oldest first."""


class ReplicaView(Answer):
    """One replica of an endpoint."""

    instance_id: str
    """The instance that is the replica."""
    slot: int
    """Number of its place in the endpoint, from 1, never used again."""
    generation: int
    """The generation that it was launched for."""
    state: Literal["starting", "serving", "draining", "terminating"]
    """`serving` gets requests, `draining` finishes those that it has."""
    since: UtcTime
    """When the endpoint began to start, drain or terminate it; of a serving one, when it was allotted."""
    phase: Phase | None
    """Phase of its instance; null before it is accepted, and for one that cannot be read."""
    offer: Offer | None
    """Where it runs or is being started."""
    deadline_at: UtcTime | None
    """When its lifetime ends. A successor is ready before that."""
    cost_usd: float
    """Cost so far, in USD."""


class GenerationView(Answer):
    """A version of what an endpoint launches. Each change of `launch` makes one, and replicas are rolled to it."""

    number: int
    """Counted from 1."""
    created_at: UtcTime
    """When `launch` was changed to it."""
    launch: LaunchRequest
    """What its replicas are launched with."""
    proven_at: UtcTime | None
    """When a replica of it was ready for the first time."""
    stopped: ReasonView | None
    """Why no more replicas of it are started; those of the generation before serve on."""


class EndpointEventView(Answer):
    """Something that happened to an endpoint."""

    at: UtcTime
    """When it happened."""
    message: str
    """What happened, in words."""


EndpointStatus = Literal["ready", "starting", "rolling", "degraded", "stopped", "paused", "deleting"]
"""`ready`: as many replicas serve as are asked for; `starting`: the others are on their way; `rolling`: some are being
replaced; `degraded`: a node was lost or a start failed; `stopped`: the latest generation cannot start."""


class EndpointView(Answer):
    """An endpoint."""

    name: str
    """Its name, which applications send as `model`."""
    status: EndpointStatus
    """`ready`: as many replicas serve as are asked for; `starting`: the others are on their way; `rolling`: some are
    being replaced; `degraded`: a node was lost or a start failed; `stopped`: the latest generation cannot start."""
    message: str
    """What is going on and what to do, for people; empty when all is well."""
    created_at: UtcTime
    """When it was created."""
    updated_at: UtcTime
    """When its record last changed."""
    address: Url | None
    """Base address of its OpenAI-compatible API on the gateway; null if this deployment has none."""
    replicas: int
    """How many are to serve now: as asked for, or as the load calls for."""
    min_replicas: int | None
    """How many there are at least; null: `replicas` is fixed."""
    max_replicas: int | None
    """How many there may be; null: `replicas` is fixed."""
    scaling: str | None
    """How their number follows the load: `thrifty`, `balanced` or `quick`; null: it is fixed."""
    target_concurrency: int | None
    """Requests that a replica is to work on at once; null: 0.7 of `--max-num-seqs`, or `replicas` is fixed."""
    start_seconds: float
    """How long a replica takes to start, in seconds, as the last ones did; recent ones weigh more."""
    ready_replicas: int
    """How many serve."""
    drain_seconds: int
    """How long a replica may finish its requests before it is terminated."""
    paused: bool
    """Whether it is paused: no replica runs, name and keys are kept."""
    generation: int
    """The latest one."""
    revision: str
    """Names what is asked of it now. Sent as `If-Match` with a change, it refuses one over a change by others: 412."""
    launch: LaunchRequest
    """Of the latest generation."""
    generations: list[GenerationView]
    """The latest one, and the one that serves while that cannot."""
    members: list[ReplicaView]
    """The replicas, oldest first."""
    cost_usd: float
    """Cost so far of the replicas in `members`."""
    retry_at: UtcTime | None
    """When the next start is tried after one that failed or was refused."""
    events: list[EndpointEventView]
    """The last 30 things that happened, oldest first."""


class UnreadableEndpointView(Answer):
    """An endpoint whose stored record cannot be read by this version; its replicas are left as they are."""

    name: str
    """The endpoint."""
    why: str
    """Why its record cannot be read."""


class EndpointList(Answer):
    """All endpoints."""

    endpoints: list[EndpointView]
    """All endpoints, by name."""
    unreadable: list[UnreadableEndpointView] = []
    """Endpoints whose stored records cannot be read."""
