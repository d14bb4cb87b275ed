"""Request models: the body of `POST /api/instances/launch`."""

import re
from typing import Annotated, Any, Literal, Self

from pydantic import AliasChoices, Field, StringConstraints, field_validator, model_validator

from gpulaunch.models.base import Outside
from gpulaunch.models.chat_template import moved_template
from gpulaunch.models.vllm_arguments import refusal_of_ours

ProviderName = Literal["azure", "aws", "gcp", "kubernetes", "slurm"]
"""SkyPilot's names for where nodes can be launched."""
DEFAULT_PROVIDER: ProviderName = "azure"
GPU_IS_AN_ADDON: frozenset[ProviderName] = frozenset({"gcp"})
"""Where a GPU is attached to a machine, so that one machine type is rented with any of several GPUs."""

LABEL_KEY = r"^[A-Za-z]([A-Za-z0-9._/-]{0,61}[A-Za-z0-9])?$"
LABEL_VALUE = r"^([A-Za-z0-9]([A-Za-z0-9._:@/ -]{0,61}[A-Za-z0-9])?)?$"
NAME = r"^[a-z]([a-z0-9-]{0,38}[a-z0-9])?$"
MODEL_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,95}(/[A-Za-z0-9][A-Za-z0-9._-]{0,95})?$"
GPU = r"^[A-Za-z][A-Za-z0-9-]{0,39}(:[1-9][0-9]{0,2})?$"
REGION = r"^[A-Za-z0-9][A-Za-z0-9._:/@ -]{0,127}$"
"""A cloud's region, the ssh host of a Slurm cluster, or a Kubernetes context, which may be as long as an ARN."""
WORD = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
_UNSEEN = r"\x00-\x1f\x7f-\x9f\xad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
"""Control characters, and what is invisible or changes the direction of writing: what is shown has to be what runs."""
_KEY = rf"[^\s{_UNSEEN}\x22'\\<>`{{}}|^]"
SOURCE = rf"^(hf|r2|s3|https)://[A-Za-z0-9]{_KEY}*( {_KEY}+)*$"
"""A bucket's folders may have blanks in their names, but not at their ends, where no one sees them."""

IN_WORDS = {
    LABEL_KEY: "At most 63 letters, digits and . _ / -, starting with a letter and ending with a letter or digit.",
    LABEL_VALUE: "At most 63 letters, digits, spaces and . _ : @ / -, starting and ending with a letter or digit.",
    NAME: "At most 40 lowercase letters, digits and hyphens, starting with a letter and not ending with a hyphen.",
    MODEL_NAME: "At most 96 letters, digits and . _ - on each side of at most one /; for example org/model.",
    GPU: "A GPU of at most 40 letters, digits and hyphens, optionally followed by a colon and a count; for example "
    "A100-80GB:2.",
    REGION: "At most 128 letters, digits and . _ : / @ -; for example eastus.",
    WORD: "At most 64 letters, digits and . _ -; for example Standard_NV36ads_A10_v5.",
    SOURCE: "hf://org/model, hf://org/model@revision, r2://bucket/prefix, s3://bucket/prefix, or the https:// URL of a "
    "folder of blobs; at most 1,032 characters.",
}
"""Each pattern in words, for error messages."""

LabelKey = Annotated[str, StringConstraints(pattern=LABEL_KEY)]
LabelValue = Annotated[str, StringConstraints(pattern=LABEL_VALUE)]
Region = Annotated[str, StringConstraints(pattern=REGION)]
_VISIBLE = rf"^[^{_UNSEEN}]+$"
VllmArg = Annotated[str, StringConstraints(min_length=1, max_length=512, pattern=_VISIBLE)]


class Job(Outside):
    """A command that runs on the node, against its own endpoint. The instance terminates when the command exits."""

    command: Annotated[list[VllmArg], Field(min_length=1, max_length=64)]
    """Program and arguments, run without a shell. OPENAI_BASE_URL and OPENAI_API_KEY are set."""
    timeout_minutes: Annotated[int, Field(ge=1, le=10080)] | None = None
    """Stop the command after this many minutes. The instance's lifetime applies as well."""


class LaunchRequest(Outside):
    """A launch of one model on one GPU node."""

    model_name: Annotated[str, StringConstraints(pattern=MODEL_NAME)]
    """Name of the served model, and its id on the Hugging Face Hub unless `model_source` is set."""
    provider: ProviderName = DEFAULT_PROVIDER
    """Where to launch; SkyPilot's name of it."""
    region: Region | Annotated[list[Region], Field(min_length=1, max_length=20)] | None = None
    """A region or a list of regions; any region by default."""
    instance_type: Annotated[str, StringConstraints(pattern=WORD)] | None = None
    """The provider's machine type, such as `Standard_NV36ads_A10_v5`; an alternative to `gpu`."""
    gpu: Annotated[str, StringConstraints(pattern=GPU)] | None = None
    """GPU and count per node, such as `A10` or `A100-80GB:2`; an alternative to `instance_type`."""
    use_spot: bool = True
    """Try spot machines, which cost less and may be taken back."""
    spot_fallback: bool = True
    """With `use_spot`: fall back to on-demand machines when no spot offer has capacity."""
    model_source: Annotated[str, StringConstraints(pattern=SOURCE, max_length=1032)] | None = None
    """`hf://org/model`, with `@revision` if you like, `r2://bucket/prefix`, `s3://bucket/prefix` or an `https://` blob
    folder; by default the Hub."""
    max_hourly_cost: Annotated[float, Field(gt=0, le=10_000, allow_inf_nan=False)] | None = None
    """Exclude offers above this price, in USD per hour."""
    max_lifetime_minutes: Annotated[int, Field(ge=1, le=43_200)] | None = None
    """Terminate the instance this many minutes after acceptance, whatever it is doing."""
    idle_minutes: Annotated[int, Field(ge=1, le=43_200)] | None = None
    """Terminate a ready instance after this many minutes without a running or waiting request."""
    budget_usd: Annotated[float, Field(gt=0, le=1_000_000, allow_inf_nan=False)] | None = None
    """Terminate the instance when it has cost this much, in USD, counted from each attempt's submission."""
    vllm_args: Annotated[list[VllmArg], Field(max_length=64)] = []
    """Additional arguments for `vllm serve`, one list entry each; no shell is involved. Options that open addresses,
    run code or touch files of the node are refused unless GPULAUNCH_ALLOWED_VLLM_OPTIONS names them."""
    chat_template: Annotated[str, StringConstraints(min_length=1, max_length=32_768, pattern=r"^[^\x00]*$")] | None = (
        None
    )
    """Text of a Jinja chat template for models without one, of any number of lines. A file of the model's folder is
    named in `vllm_args` instead: `--chat-template=model/<file>`."""
    disk_size: Annotated[int, Field(ge=64, le=16_384)] | None = Field(
        default=None, validation_alias=AliasChoices("disk_size", "disk_gib")
    )
    """Size of the node's disk in GiB; by default 256, or more if the model's files need it. Rented machines only."""
    force: bool = False
    """Launch although the model does not fit the machine, or its source could not be inspected."""
    labels: Annotated[dict[LabelKey, LabelValue], Field(max_length=16)] = {}
    """Labels for costs, limits and filters, such as `team: search`."""
    name: Annotated[str, StringConstraints(pattern=NAME)] | None = None
    """A name for people, by which the instance is found while it is live."""
    job: Job | None = None
    """A command to run on the node once it is ready."""

    @model_validator(mode="before")
    @classmethod
    def _template_of_its_own(cls, body: Any) -> Any:
        """Take the text of `--chat-template` out of the arguments, whose entries are short lines."""
        return moved_template(body)

    @field_validator("vllm_args")
    @classmethod
    def _not_ours(cls, args: list[str]) -> list[str]:
        refusal = refusal_of_ours(args)
        if refusal is not None:
            raise ValueError(refusal)
        return args

    @field_validator("model_source")
    @classmethod
    def _no_credentials_in_source(cls, source: str | None) -> str | None:
        user = r"^(?!hf://)[a-z0-9]+://[^/]*@|^hf://[^@/]*:"  # on the Hub, what follows an @ is a revision
        if source is not None and (re.search(user, source) or "?" in source or "#" in source):
            raise ValueError("Remove user, query and fragment from the URL; credentials belong in the app's settings.")
        return source

    @model_validator(mode="after")
    def _type_or_gpu(self) -> Self:
        if self.instance_type is None and self.gpu is None:
            raise ValueError("Set either `gpu` or `instance_type`.")
        if self.instance_type is not None and self.gpu is not None:
            raise ValueError("Set `gpu` or `instance_type`, not both.")
        return self

    @property
    def regions(self) -> tuple[str, ...]:
        """The requested regions; empty means any."""
        if self.region is None:
            return ()
        return (self.region,) if isinstance(self.region, str) else tuple(self.region)

    @property
    def gpu_name(self) -> str | None:
        """The GPU's name without its count, or None."""
        return None if self.gpu is None else self.gpu.split(":")[0]

    @property
    def gpu_count(self) -> int:
        """The GPU count of `gpu`; 1 if it has none."""
        return int(self.gpu.split(":")[1]) if self.gpu is not None and ":" in self.gpu else 1
