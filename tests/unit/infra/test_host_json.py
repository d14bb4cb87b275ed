"""host.json against a model of the keys that Microsoft documents.

The published schema is on the network only, in no package of PyPI or npm: this model, which takes no unknown key,
stands for the part of it that this app uses.
"""

import re
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from devhost.config import HttpOptions, QueueOptions
from tests.unit.infra.templates import ROOT

Span = Annotated[str, Field(pattern=r"^([01]\d|2[0-3]):[0-5]\d:[0-5]\d$")]
Level = Literal["Trace", "Debug", "Information", "Warning", "Error", "Critical", "None"]
_KINDS = {"Dependency", "Event", "Exception", "PageView", "Request", "Trace"}


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Bundle(Strict):
    id: Literal["Microsoft.Azure.Functions.ExtensionBundle"]
    version: Annotated[str, Field(pattern=r"^\[4\.\*, 5\.0\.0\)$")]


class Extensions(Strict):
    http: HttpOptions
    queues: QueueOptions


class Sampling(Strict):
    isEnabled: bool = True  # noqa: N815
    maxTelemetryItemsPerSecond: int = Field(default=20, ge=1)  # noqa: N815
    excludedTypes: str = ""  # noqa: N815
    includedTypes: str = ""  # noqa: N815


class Insights(Strict):
    samplingSettings: Sampling = Sampling()  # noqa: N815


class Logging(Strict):
    logLevel: dict[str, Level] = {}  # noqa: N815
    applicationInsights: Insights = Insights()  # noqa: N815


class Host(Strict):
    version: Literal["2.0"]
    extensionBundle: Bundle  # noqa: N815
    extensions: Extensions
    functionTimeout: Span  # noqa: N815
    logging: Logging
    telemetryMode: Literal["OpenTelemetry"] | None = None  # noqa: N815


@pytest.fixture
def host() -> Host:
    return Host.model_validate_json((ROOT / "host.json").read_text("utf-8"))


def test_concurrency_should_fit_the_threads_that_are_set(host: Host) -> None:
    queues = host.extensions.queues
    text = (ROOT / "infra" / "modules" / "app.bicep").read_text("utf-8")
    (threads,) = re.findall(r"PYTHON_THREADPOOL_THREAD_COUNT: '(\d+)'", text)
    assert 3 * (queues.batch_size + queues.new_batch_threshold) <= int(threads)


def test_what_alerts_and_the_timeline_need_should_not_be_sampled_away(host: Host) -> None:
    excluded = set(host.logging.applicationInsights.samplingSettings.excludedTypes.split(";"))
    assert {"Trace", "Exception"} <= excluded <= _KINDS


@pytest.mark.parametrize(
    "change",
    [
        {"fnctionTimeout": "00:10:00"},
        {"extensions": {"http": {}, "queues": {}}},
        {"version": "1.0"},
        {"functionTimeout": "24:00:00"},
        {"functionTimeout": 600},
    ],
)
def test_a_wrong_key_or_value_should_be_found(change: dict[str, Any]) -> None:
    import json

    with pytest.raises(ValidationError):
        Host.model_validate({**json.loads((ROOT / "host.json").read_text("utf-8")), **change})
