"""The protocol between the control plane and a node's agent."""

from enum import StrEnum
from typing import Annotated, Any, Literal, cast

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from gpulaunch.models.base import Outside, Stored, Url, UtcTime, Wide
from gpulaunch.models.requests import Job
from shared.domain.text import clean

Line = Annotated[str, StringConstraints(max_length=2000), AfterValidator(clean)]
"""Cleaned before anything else is done with it: a secret split by a control character is not redacted."""
_MOST = 9_007_199_254_740_991
"""2**53 - 1: more than any disk holds, and the largest whole number that every reader of JSON, floats too, keeps."""
ByteCount = Annotated[int, Field(ge=0, le=_MOST)]


class NodePhase(StrEnum):
    """What a node is doing, in the order in which it happens."""

    INSTALLING = "installing"
    LOADING_MODEL = "loading_model"
    STARTING_SERVER = "starting_server"
    SERVING = "serving"
    STOPPING = "stopping"
    FAILED = "failed"


class NodeNotice(StrEnum):
    """Why a node is about to shut down."""

    EVICTION = "eviction"
    """The cloud is taking the machine back (Azure Scheduled Events: Preempt)."""
    SIGTERM = "sigterm"
    """The scheduler is ending the node's job."""
    DEADLINE = "deadline"
    """The node has reached its deadline."""
    LEASE_LOST = "lease_lost"
    """The node's lease has expired."""


class JobResult(Outside):
    """Result of the instance's job."""

    exit_code: Annotated[int, Field(ge=-255, le=255)]
    """Exit code of the command; negative for a signal; 124 after its timeout."""


class NodeStatus(Outside):
    """A node's report; pushed to `/progress`, or returned by the agent when polled."""

    phase: NodePhase
    """What the node is doing."""
    detail: Line = ""
    """One line for people: what the node is doing, or why it failed."""
    failure: Annotated[str, StringConstraints(pattern=r"^[a-z_]{1,40}$")] | None = None
    """With phase `failed`: install_failed, model_fetch_failed, server_failed or port_taken."""
    fetched_bytes: ByteCount | None = None
    """How much of the model it has fetched."""
    total_bytes: ByteCount | None = None
    """Size of the model's files."""
    port: Annotated[int, Field(ge=1, le=65535)] | None = None
    """vLLM's port, once known."""
    notice: NodeNotice | None = None
    """Why it is about to shut down."""
    job: JobResult | None = None
    """Result of its job, once that has ended."""
    log_tail: Annotated[list[Line], Field(max_length=200)] = []
    """The last lines of the installation or of vLLM."""

    @property
    def leads_to_end(self) -> bool:
        """Whether the attempt or the instance ends because of it."""
        ends = self.phase in (NodePhase.FAILED, NodePhase.STOPPING)
        return ends or self.notice is not None or self.job is not None


class NodeRegistration(Outside):
    """Body of `/register`, sent once the server is up."""

    port: Annotated[int, Field(ge=1, le=65535)]
    """vLLM's port."""
    vllm_version: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9.+_-]{1,60}$")] | None = None
    """vLLM's version."""

    @model_validator(mode="before")
    @classmethod
    def _ignore_address(cls, body: Any) -> Any:
        """Whom the control plane and clients call, the provider says; a node of an earlier version may say it too."""
        if isinstance(body, dict):
            return {key: value for key, value in cast("dict[str, Any]", body).items() if key != "address"}
        return body


class NoticeReport(Outside):
    """Body of `/notice`, sent before the node shuts down."""

    notice: NodeNotice
    """Why the node is about to shut down."""
    seconds_left: Annotated[float, Field(ge=0, le=86400)] | None = None
    """How long it has; null if unknown."""


class Heartbeat(Outside):
    """Body of `/heartbeat`."""

    running_requests: Annotated[float, Field(ge=0, le=_MOST)] | None = None
    """Requests that vLLM is answering."""
    waiting_requests: Annotated[float, Field(ge=0, le=_MOST)] | None = None
    """Requests that wait in vLLM."""


class LeaseAnswer(Stored):
    """Answer to every node call."""

    renewed: bool
    """False if the attempt has ended: the node shuts down at once."""
    lease_seconds: int
    """Seconds for which the node may run without another renewal."""


class FileChecksum(Stored):
    """What a file's content hashes to."""

    algorithm: Literal["sha256", "sha1", "md5", "git"]
    """`git`: the SHA-1 by which git names the content."""
    digest: str
    """In hexadecimal digits."""


class PartsChecksum(Stored):
    """The ETag by which S3 knows a file that was uploaded in parts: the MD5 of its parts' MD5s, and their number."""

    digest: str
    """In hexadecimal digits, `-` and the number: `d41d8cd98f00b204e9800998ecf8427e-3`."""
    part_bytes: Wide
    """Size of every part but the last."""


class ReportRequest(LeaseAnswer):
    """A lease for a node whose reports the control plane has lost."""

    report: Literal[True] = True
    """The node reports its phase and registers again, whatever it has reported before."""


class ModelFile(Stored):
    """One file of the model and its URL."""

    path: str
    """Path relative to the model's folder and inside it, with forward slashes."""
    url: Url
    """URL for GET and range requests; signed if the store requires it."""
    size: Wide | None = None
    """Size in bytes if the store reports it; the node verifies it."""
    checksum: FileChecksum | None = None
    """If the store reports one; the node verifies it."""
    parts: PartsChecksum | None = None
    """The same for a file that was uploaded in parts."""


class ModelFolder(Stored):
    """What vLLM would otherwise fetch by itself: an adapter, a draft model, a tokenizer."""

    name: str
    """Of its folder on the node, beside the model's: `extra-1`."""
    files: list[ModelFile]
    """What is in it."""


class NodeTls(Stored):
    """With what vLLM answers by TLS."""

    certificate: str
    """PEM."""
    key: str = Field(repr=False)
    """PEM."""
    authority: str
    """PEM of the authority that vouches for the certificate."""


class Assignment(Stored):
    """Everything a node needs, fetched with its token or, in pull mode, passed in the task."""

    instance_id: str
    """The node's instance."""
    attempt: int
    """The node's attempt."""
    model_name: str
    """Name under which vLLM serves the model."""
    files: list[ModelFile]
    """The model's files."""
    hub_model: str | None = None
    """The model's name on the Hub, if it comes from there. Agents of earlier versions list its files themselves."""
    hub_endpoint: Url = "https://huggingface.co"
    """Files below this address are asked for with the token."""
    hub_token: str | None = None
    """Token for gated models on the Hub."""
    folders: list[ModelFolder] = []
    """More to fetch, named in `local_args`."""
    chat_template: str | None = None
    """The chat template's text."""
    vllm_args: list[str]
    """Additional arguments for `vllm serve`."""
    local_args: list[str] | None = None
    """The arguments with `{extra-1}` and `{model}` in place of what is in such a folder; None: as `vllm_args`."""
    api_key: str
    """The endpoint's key; the node passes it to vLLM in the environment, never as an argument."""
    tls: NodeTls | None = None
    """None: vLLM answers by plain HTTP."""
    port: int | None
    """vLLM's port; None lets the agent choose a free one and report it."""
    deadline_at: UtcTime
    """When the node ends itself, whatever happens."""
    lease_seconds: int
    """How long the node runs without contact to the app."""
    job: Job | None = None
    """A command to run once the server is up."""
