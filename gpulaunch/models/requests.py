"""What users ask for: the body of `POST /api/instances/launch`."""

import re
from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, field_validator, model_validator

from gpulaunch.models.base import Outside

ProviderName = Literal["azure", "aws", "gcp", "kubernetes", "slurm"]
"""SkyPilot's names of the infrastructures we launch on."""

LABEL_KEY = r"^[A-Za-z]([A-Za-z0-9._/-]{0,61}[A-Za-z0-9])?$"
LABEL_VALUE = r"^([A-Za-z0-9]([A-Za-z0-9._:@/ -]{0,61}[A-Za-z0-9])?)?$"
NAME = r"^[a-z]([a-z0-9-]{0,38}[a-z0-9])?$"
MODEL_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,95}(/[A-Za-z0-9][A-Za-z0-9._-]{0,95})?$"
GPU = r"^[A-Za-z][A-Za-z0-9-]{0,39}(:[1-9][0-9]{0,2})?$"
REGION = r"^[A-Za-z0-9][A-Za-z0-9._:/@ -]{0,127}$"
"""A cloud's region, the ssh host of a Slurm cluster, or a Kubernetes context, which may be as long as an ARN."""
WORD = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
SOURCE = r"^(hf|r2|s3|https)://[A-Za-z0-9][^\s\x00-\x1f\x7f\"'\\<>`{}|^]{0,1023}$"

IN_WORDS = {
    LABEL_KEY: "Letters, digits and . _ / -, at most 63, a letter first and no sign last.",
    LABEL_VALUE: "Letters, digits, blanks and . _ : @ / -, at most 63, no sign first or last.",
    NAME: "Small letters, digits and -, at most 40, a letter first and no - last.",
    MODEL_NAME: "Letters, digits and . _ -, with at most one / in between, such as org/model.",
    GPU: "A GPU and, after a colon, how many of it, such as A10 or A100-80GB:2.",
    REGION: "Letters, digits and . _ : / @ -, such as eastus.",
    WORD: "Letters, digits and . _ -, such as Standard_NV36ads_A10_v5.",
    SOURCE: "hf://org/model, r2://bucket/prefix, s3://bucket/prefix or the https:// address of a folder of blobs.",
}
"""What the patterns ask for, for people."""

LabelKey = Annotated[str, StringConstraints(pattern=LABEL_KEY)]
LabelValue = Annotated[str, StringConstraints(pattern=LABEL_VALUE)]
Region = Annotated[str, StringConstraints(pattern=REGION)]
VllmArg = Annotated[str, StringConstraints(min_length=1, max_length=512, pattern=r"^[^\x00-\x1f\x7f]+$")]

_OURS = frozenset(
    {"--api-key", "--host", "--port", "--model", "--uds", "--ssl-keyfile", "--ssl-certfile", "--root-path"}
)
"""vLLM options that the node's agent sets itself; a user's value would break the address or the key."""


class Job(Outside):
    """A command that the node runs against its own endpoint once it is ready; the node goes away when it ends."""

    command: Annotated[list[VllmArg], Field(min_length=1, max_length=64)]
    """The program and its arguments, run without a shell, with OPENAI_BASE_URL and OPENAI_API_KEY set."""
    timeout_minutes: Annotated[int, Field(ge=1, le=10080)] | None = None
    """Minutes after which the command is stopped; the instance's lifetime bounds it anyway."""


class LaunchRequest(Outside):
    """A launch of one model on one GPU node."""

    model_name: Annotated[str, StringConstraints(pattern=MODEL_NAME)]
    """The name under which the model is served; its id on the Hub unless `model_source` says otherwise."""
    provider: ProviderName = "azure"
    region: Region | Annotated[list[Region], Field(min_length=1, max_length=20)] | None = None
    """One region, several to choose from, or none: any region."""
    instance_type: Annotated[str, StringConstraints(pattern=WORD)] | None = None
    gpu: Annotated[str, StringConstraints(pattern=GPU)] | None = None
    """A GPU and how many of it on the node, such as `A10` or `A100-80GB:2`, in place of `instance_type`."""
    use_spot: bool = True
    spot_fallback: bool = True
    """With `use_spot`: try on-demand machines when no spot offer has room."""
    model_source: Annotated[str, StringConstraints(pattern=SOURCE)] | None = None
    """`hf://org/model`, `r2://bucket/prefix`, `s3://bucket/prefix` or an `https://` blob folder; default the Hub."""
    max_hourly_cost: Annotated[float, Field(gt=0, le=10_000, allow_inf_nan=False)] | None = None
    """Offers above this price, USD per hour, are not tried."""
    max_lifetime_minutes: Annotated[int, Field(ge=1, le=43_200)] | None = None
    """Minutes from acceptance after which the node is ended, whatever it does."""
    idle_minutes: Annotated[int, Field(ge=1, le=43_200)] | None = None
    """Minutes without a running or waiting request after which a ready node is ended."""
    budget_usd: Annotated[float, Field(gt=0, le=1_000_000, allow_inf_nan=False)] | None = None
    """The instance is ended before it has cost more than this, USD."""
    vllm_args: Annotated[list[VllmArg], Field(max_length=64)] = []
    """More arguments for `vllm serve`, one list entry each; they never pass through a shell."""
    labels: Annotated[dict[LabelKey, LabelValue], Field(max_length=16)] = {}
    name: Annotated[str, StringConstraints(pattern=NAME)] | None = None
    job: Job | None = None

    @field_validator("vllm_args")
    @classmethod
    def _not_ours(cls, args: list[str]) -> list[str]:
        for arg in args:
            option = arg.split("=", 1)[0]
            if option in _OURS:
                raise ValueError(f"{option} is set by gpulaunch itself; leave it out")
        return args

    @field_validator("model_source")
    @classmethod
    def _no_credentials_in_source(cls, source: str | None) -> str | None:
        if source is not None and (re.search(r"^[a-z0-9]+://[^/]*@", source) or "?" in source or "#" in source):
            raise ValueError("a model source has no user, query or fragment; credentials belong in the app's settings")
        return source

    @model_validator(mode="after")
    def _type_or_gpu(self) -> Self:
        if self.instance_type is None and self.gpu is None:
            raise ValueError("say instance_type or gpu")
        if self.instance_type is not None and self.gpu is not None:
            raise ValueError("say instance_type or gpu, not both")
        return self

    @property
    def regions(self) -> tuple[str, ...]:
        """The regions asked for; empty means any."""
        if self.region is None:
            return ()
        return (self.region,) if isinstance(self.region, str) else tuple(self.region)

    @property
    def gpu_name(self) -> str | None:
        """The GPU's name without its count, or None."""
        return None if self.gpu is None else self.gpu.split(":")[0]

    @property
    def gpu_count(self) -> int:
        """How many GPUs `gpu` asks for; 1 when it gives no count."""
        return int(self.gpu.split(":")[1]) if self.gpu is not None and ":" in self.gpu else 1
