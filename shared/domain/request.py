"""What a user asked for and a node answered, as records keep it: without the rules for what comes in today.

A rule that became stricter must not make older records unreadable, and a field of a later version must not be lost.
"""

from typing import Any, Self

from pydantic import ConfigDict, field_validator, model_validator

from gpulaunch.models.requests import Job, LaunchRequest
from shared.domain.node import JobResult


class StoredJob(Job):
    model_config = ConfigDict(extra="allow", frozen=True)

    command: list[str]
    timeout_minutes: int | None = None


class StoredRequest(LaunchRequest):
    """A request as some version accepted it. An unknown provider is still an error: no step could act on it."""

    model_config = ConfigDict(extra="allow", frozen=True)

    model_name: str
    region: str | list[str] | None = None
    instance_type: str | None = None
    gpu: str | None = None
    model_source: str | None = None
    max_hourly_cost: float | None = None
    max_lifetime_minutes: int | None = None
    idle_minutes: int | None = None
    budget_usd: float | None = None
    vllm_args: list[str] = []
    chat_template: str | None = None
    disk_size: int | None = None
    labels: dict[str, str] = {}
    name: str | None = None
    job: StoredJob | None = None  # pyright: ignore[reportIncompatibleVariableOverride] - values are frozen

    @classmethod
    def of(cls, request: LaunchRequest) -> Self:
        return cls.model_validate(request.model_dump())

    @model_validator(mode="before")
    @classmethod
    def _template_of_its_own(cls, body: Any) -> Any:
        return body

    @field_validator("vllm_args")
    @classmethod
    def _not_ours(cls, args: list[str]) -> list[str]:
        return args

    @field_validator("model_source")
    @classmethod
    def _no_credentials_in_source(cls, source: str | None) -> str | None:
        return source

    @model_validator(mode="after")
    def _type_or_gpu(self) -> Self:
        return self


class StoredJobResult(JobResult):
    """How the instance's job ended."""

    model_config = ConfigDict(extra="allow", frozen=True)

    exit_code: int

    @classmethod
    def of(cls, result: JobResult) -> Self:
        return cls(exit_code=result.exit_code)
