"""What a GPU node says of itself and what it is told: the words between the control plane and the node's agent."""

from enum import StrEnum
from typing import Annotated

from pydantic import Field, StringConstraints

from gpulaunch.models.base import Outside, Stored, UtcTime
from gpulaunch.models.requests import Job

Line = Annotated[str, StringConstraints(max_length=2000)]


class NodePhase(StrEnum):
    """How far a node is; the order is the order of life."""

    INSTALLING = "installing"
    LOADING_MODEL = "loading_model"
    STARTING_SERVER = "starting_server"
    SERVING = "serving"
    STOPPING = "stopping"
    FAILED = "failed"


class NodeNotice(StrEnum):
    """Why a node expects to go away."""

    EVICTION = "eviction"
    """The cloud takes the machine back (Azure Scheduled Events: Preempt)."""
    SIGTERM = "sigterm"
    """The job was told to end by its scheduler."""
    DEADLINE = "deadline"
    """The node reached its deadline and ends itself."""
    LEASE_LOST = "lease_lost"
    """Nobody renewed the node's lease and it ends itself."""


class JobResult(Outside):
    """How the instance's job ended."""

    exit_code: int
    """The command's exit code; negative is the signal that ended it; 124 after its time-out."""


class NodeStatus(Outside):
    """A node's account of itself; pushed to `/progress`, or answered by the agent when asked."""

    phase: NodePhase
    detail: Line = ""
    """One line for people: what it does now, or why it failed."""
    failure: Annotated[str, StringConstraints(pattern=r"^[a-z_]{1,40}$")] | None = None
    """With phase `failed`: install_failed, model_fetch_failed, server_failed, port_taken."""
    fetched_bytes: Annotated[int, Field(ge=0)] | None = None
    total_bytes: Annotated[int, Field(ge=0)] | None = None
    port: Annotated[int, Field(ge=1, le=65535)] | None = None
    """The port on which vLLM listens, once known."""
    notice: NodeNotice | None = None
    job: JobResult | None = None
    log_tail: Annotated[list[Line], Field(max_length=200)] = []
    """The last lines of the set-up or of vLLM."""


class NodeRegistration(Outside):
    """Body of `/register`: the node serves."""

    port: Annotated[int, Field(ge=1, le=65535)]
    address: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9.:-]{1,253}$")] | None = None
    """Host name or IP address for clients; None: the address the provider knows."""
    vllm_version: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9.+_-]{1,60}$")] | None = None


class NoticeReport(Outside):
    """Body of `/notice`: the node expects to go away."""

    notice: NodeNotice
    seconds_left: Annotated[float, Field(ge=0, le=86400)] | None = None


class Heartbeat(Outside):
    """Body of `/heartbeat`: the node lives; what vLLM does."""

    running_requests: Annotated[float, Field(ge=0)] | None = None
    waiting_requests: Annotated[float, Field(ge=0)] | None = None


class LeaseAnswer(Stored):
    """Answer to every call of a node."""

    renewed: bool
    """False: this attempt is over; the node ends itself at once."""
    lease_seconds: int
    """Seconds from now for which the node may live without hearing from us again."""


class ModelFile(Stored):
    """One file of the model and where the node gets it."""

    path: str
    """Path below the model's folder, with forward slashes, never leaving it."""
    url: str
    """Where to GET it, range requests allowed; signed where the store needs it."""
    size: int | None = None
    """Bytes, when the store says; the node checks it."""


class Assignment(Stored):
    """All that a node needs to know, fetched with its own token (or handed over in the task, for local work)."""

    instance_id: str
    attempt: int
    model_name: str
    files: list[ModelFile]
    """Files to fetch; empty when the model comes from the Hub by `hub_model`."""
    hub_model: str | None = None
    hub_endpoint: str = "https://huggingface.co"
    hub_token: str | None = None
    """Token for the Hub's gated models, or None."""
    vllm_args: list[str]
    api_key: str
    """The endpoint's key, derived; the node passes it to vLLM in the environment, never as an argument."""
    port: int | None
    """The port for vLLM; None: the agent chooses a free one and says so."""
    deadline_at: UtcTime
    lease_seconds: int
    job: Job | None = None
