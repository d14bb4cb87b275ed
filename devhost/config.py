"""host.json, local.settings.json, app settings and the values written in them."""

import json
import os
import re
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

DEVELOPMENT_STORAGE = "UseDevelopmentStorage=true"
# Azurite's published account and key, the same on every machine.
DEVELOPMENT_ACCOUNT = "devstoreaccount1"
DEVELOPMENT_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="

_TIMESPAN = re.compile(r"(?:(\d+)\.)?(\d+):(\d+)(?::(\d+)(?:\.(\d{1,7}))?)?")
_PERCENT_NAME = re.compile(r"%([^%]*)%")


class HostError(Exception):
    """A reason not to start. The message is one line (or one per fault), ready to be printed."""


@dataclass(frozen=True, slots=True)
class QueueOptions:
    """`extensions.queues` of host.json. Times in seconds."""

    batch_size: int = 16
    new_batch_threshold: int = 8
    max_polling_interval: float = 60.0
    max_dequeue_count: int = 5
    visibility_timeout: float = 0.0
    base64: bool = True
    # The host's own lease: ten minutes, renewed when half of it has passed. Shorter only for local crash tests.
    lease: float = 600.0


@dataclass(frozen=True, slots=True)
class HostConfig:
    """host.json. None for the two request limits means no limit."""

    route_prefix: str
    max_outstanding: int | None
    max_concurrent: int | None
    queues: QueueOptions


def timespan(text: str) -> timedelta:
    """Read .NET's TimeSpan form: `hh:mm[:ss[.fffffff]]`, `d.hh:mm:ss`, or a whole number of days.

    As in .NET, hours above 23 make the first of three numbers days: `24:00:00` is 24 days.

    Raises ValueError where .NET's parser refuses.
    """
    text = text.strip()
    if text.isascii() and text.isdigit():
        return timedelta(days=int(text))
    match = _TIMESPAN.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not a time span (hh:mm:ss)")
    days, first, second, third, fraction = match.groups()
    parts = [int(first), int(second), int(third or 0)]
    if days is None and third is not None and fraction is None and parts[0] > 23:
        days, parts = first, [int(second), int(third), 0]
    if parts[0] > 23 or parts[1] > 59 or parts[2] > 59:
        raise ValueError(f"{text!r} is not a time span (hh:mm:ss)")
    microseconds = int((fraction or "").ljust(7, "0")[:7] or 0) // 10
    return timedelta(days=int(days or 0), hours=parts[0], minutes=parts[1], seconds=parts[2], microseconds=microseconds)


def resolve(text: str, settings: Mapping[str, str]) -> str:
    """Replace every `%NAME%` by the app setting of that name; HostError if there is none."""

    def value(match: re.Match[str]) -> str:
        if match[1] not in settings:
            raise HostError(f"'%{match[1]}%' does not resolve: there is no such app setting")
        return settings[match[1]]

    return _PERCENT_NAME.sub(value, text)


def _json_object(path: Path) -> dict[str, Any]:
    try:
        value: Any = json.loads(path.read_text("utf-8-sig"))
    except (OSError, ValueError) as error:
        raise HostError(f"{path.name}: {error}") from error
    if not isinstance(value, dict):
        raise HostError(f"{path.name}: a JSON object is expected")
    return cast(dict[str, Any], value)


def load_local_settings(app: Path, environment: MutableMapping[str, str]) -> None:
    """Put `Values` of local.settings.json into the environment; what is set there already wins.

    Raises HostError for a file that is encrypted or no JSON.
    """
    path = app / "local.settings.json"
    if not path.exists():
        return
    content = _json_object(path)
    if content.get("IsEncrypted"):
        raise HostError("local.settings.json: it is encrypted; run `func settings decrypt`")
    for name, value in content.get("Values", {}).items():
        if isinstance(value, dict | list):
            raise HostError(f"local.settings.json: the value of {name!r} must be a string")
        if value is not None:
            environment.setdefault(name, value if isinstance(value, str) else json.dumps(value))


def _overrides(settings: Mapping[str, str], content: dict[str, Any]) -> None:
    """Apply `AzureFunctionsJobHost__a__b=value`, the real host's way to override host.json."""
    for name, value in settings.items():
        head, *path = re.split("__|:", name)
        if head.lower() != "azurefunctionsjobhost" or not path:
            continue
        node = content
        for part in path[:-1]:
            node = node.setdefault(_key(node, part), {})
        node[_key(node, path[-1])] = value


def _key(node: dict[str, Any], name: str) -> str:
    return next((key for key in node if key.lower() == name.lower()), name)


def load_host_config(
    app: Path, settings: Mapping[str, str], *, lease: float = 600.0, cores: int | None = None
) -> HostConfig:
    """Read host.json; HostError names the setting that the real host would not take either."""
    path = app / "host.json"
    if not path.exists():
        raise HostError(f"no host.json in {app}")
    content = _json_object(path)
    if content.get("version") != "2.0":
        raise HostError('host.json: "version": "2.0" is missing')
    _overrides(settings, content)
    extensions: dict[str, Any] = content.get("extensions", {})
    http: dict[str, Any] = extensions.get("http", {})
    queues: dict[str, Any] = extensions.get("queues", {})

    def number(name: str, default: int, low: int, high: int, section: dict[str, Any] = queues) -> int:
        try:
            value = int(section.get(name, default))
        except (TypeError, ValueError):
            value = low - 1
        if not low <= value <= high:
            raise HostError(f"host.json: extensions: {name} must be a number from {low} to {high}")
        return value

    def limit(name: str) -> int | None:
        value = number(name, -1, -1, 10**6, http)
        return None if value == -1 else value

    def seconds(name: str, default: float, low: float) -> float:
        if name not in queues:
            return default
        try:
            value = timespan(str(queues[name])).total_seconds()
        except ValueError as error:
            raise HostError(f"host.json: extensions.queues.{name}: {error}") from error
        if value < low:
            raise HostError(f"host.json: extensions.queues.{name} must be at least {low:g} s")
        return value

    development = settings.get("AZURE_FUNCTIONS_ENVIRONMENT", "").lower() == "development"
    batch_size = number("batchSize", 16, 1, 32)
    encoding = str(queues.get("messageEncoding", "base64")).lower()
    if encoding not in {"base64", "none"}:
        raise HostError("host.json: extensions.queues.messageEncoding must be base64 or none")
    polling = seconds("maxPollingInterval", 60.0, 0.1)
    return HostConfig(
        route_prefix=str(http.get("routePrefix", "api")).strip("/"),
        max_outstanding=limit("maxOutstandingRequests"),
        max_concurrent=limit("maxConcurrentRequests"),
        queues=QueueOptions(
            batch_size=batch_size,
            new_batch_threshold=number("newBatchThreshold", batch_size // 2 * (cores or os.cpu_count() or 1), 0, 10**6),
            # Development shortens the host's own default and also what host.json asks for.
            max_polling_interval=min(polling, 2.0) if development else polling,
            max_dequeue_count=number("maxDequeueCount", 5, 1, 10**6),
            visibility_timeout=seconds("visibilityTimeout", 0.0, 0.0),
            base64=encoding == "base64",
            lease=lease,
        ),
    )
