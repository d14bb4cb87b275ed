"""host.json and local.settings.json."""

from collections.abc import MutableMapping
from datetime import timedelta
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel, to_pascal


class HostError(Exception):
    """A reason not to start. The message is one line per fault, ready to be printed."""


class _Section(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, validate_by_name=True, frozen=True, extra="forbid")


class QueueOptions(_Section):
    """`extensions.queues`, with the real host's limits."""

    batch_size: int = Field(ge=1, le=32)
    new_batch_threshold: int = Field(ge=0)
    max_polling_interval: timedelta = Field(ge=timedelta(milliseconds=100))
    max_dequeue_count: int = Field(ge=1)
    visibility_timeout: timedelta = Field(ge=timedelta())
    # The host knows `none` as well; our producers write base64.
    message_encoding: Literal["base64"] = "base64"


class HttpOptions(_Section):
    """`extensions.http`."""

    route_prefix: Literal[""]
    max_outstanding_requests: int = Field(ge=1)
    max_concurrent_requests: int = Field(ge=1)


class _Extensions(_Section):
    http: HttpOptions
    queues: QueueOptions


class HostConfig(BaseModel):
    """host.json, as far as devhost goes by it; none of it has a default, so that the file says all that holds."""

    version: Literal["2.0"]
    extensions: _Extensions
    function_timeout: timedelta = Field(alias="functionTimeout", gt=timedelta())


class _LocalSettings(BaseModel):
    model_config = ConfigDict(alias_generator=to_pascal)

    is_encrypted: Literal[False] = False
    values: dict[str, str] = {}


M = TypeVar("M", bound=BaseModel)


def load_host_config(app: Path) -> HostConfig:
    """Read host.json.

    Raises:
        HostError: The file is missing, or a setting is missing or wrong; one line per setting.
    """
    return _read(HostConfig, app / "host.json")


def load_local_settings(app: Path, environment: MutableMapping[str, str]) -> None:
    """Put `Values` of local.settings.json into the environment; what is already set there wins.

    Raises:
        HostError: The file is encrypted, is not JSON, or contains a value that is not a string.
    """
    path = app / "local.settings.json"
    if path.exists():
        for name, value in _read(_LocalSettings, path).values.items():
            environment.setdefault(name, value)


def _read(model: type[M], path: Path) -> M:
    try:
        return model.model_validate_json(path.read_text("utf-8-sig"))
    except OSError:
        raise HostError(f"no {path.name} in {path.parent}") from None
    except ValidationError as error:
        lines = (f"{path.name}: {'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
        raise HostError("\n".join(lines)) from None
