"""host.json and local.settings.json."""

import json
import os
from collections.abc import MutableMapping
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel


class HostError(Exception):
    """A reason not to start. The message is one line per fault, ready to be printed."""


class _Section(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, validate_by_name=True, frozen=True)


class QueueOptions(_Section):
    """`extensions.queues`, with the real host's defaults and limits."""

    batch_size: int = Field(default=16, ge=1, le=32)
    new_batch_threshold: int = Field(
        default_factory=lambda given: given["batch_size"] // 2 * (os.cpu_count() or 1), ge=0
    )
    max_polling_interval: timedelta = Field(default=timedelta(minutes=1), ge=timedelta(milliseconds=100))
    max_dequeue_count: int = Field(default=5, ge=1)
    visibility_timeout: timedelta = Field(default=timedelta(), ge=timedelta())
    # The host knows `none` as well; our producers write base64.
    message_encoding: Literal["base64"] = "base64"


class HttpOptions(_Section):
    """`extensions.http`; -1 means no limit."""

    route_prefix: str = "api"
    max_outstanding_requests: int = Field(default=-1, ge=-1)
    max_concurrent_requests: int = Field(default=-1, ge=-1)


class _Extensions(_Section):
    http: HttpOptions = HttpOptions()
    queues: QueueOptions = Field(default_factory=QueueOptions)


class HostConfig(_Section):
    """host.json."""

    version: Literal["2.0"]
    extensions: _Extensions = Field(default_factory=_Extensions)


def load_host_config(app: Path) -> HostConfig:
    """Read host.json.

    Raises:
        HostError: the file is missing, or the real host would refuse it; one line per setting.
    """
    try:
        return HostConfig.model_validate_json((app / "host.json").read_text("utf-8-sig"))
    except OSError:
        raise HostError(f"no host.json in {app}") from None
    except ValidationError as error:
        lines = (f"host.json: {'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
        raise HostError("\n".join(lines)) from None


def load_local_settings(app: Path, environment: MutableMapping[str, str]) -> None:
    """Put `Values` of local.settings.json into the environment; what is already set there wins.

    Raises:
        HostError: the file is encrypted, is not JSON, or holds a value that is not text.
    """
    path = app / "local.settings.json"
    if not path.exists():
        return
    try:
        content: Any = json.loads(path.read_text("utf-8-sig"))
        values = {str(name): value for name, value in content.get("Values", {}).items()}
    except (OSError, ValueError, AttributeError) as error:
        raise HostError(f"local.settings.json cannot be read: {error}") from None
    if content.get("IsEncrypted"):
        raise HostError("local.settings.json is encrypted; run `func settings decrypt`")
    for name, value in values.items():
        if not isinstance(value, str):
            raise HostError(f"local.settings.json: the value of {name!r} must be a string")
        environment.setdefault(name, value)
