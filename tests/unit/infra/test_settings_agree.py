"""What the code reads, what infra/ sets and what is documented are the same settings."""

import json
import re
from collections.abc import Iterator

from shared.api.parse import MAX_NODE_BODY
from shared.settings import Settings
from tests.unit.infra.templates import ROOT, settings_set

_OF_THE_PLATFORM = {
    "AzureWebJobsStorage__blobServiceUri",
    "AzureWebJobsStorage__credential",
    "AzureWebJobsDisableHomepage",
    "PYTHON_THREADPOOL_THREAD_COUNT",
    "FUNCTIONS_REQUEST_BODY_SIZE_LIMIT",
    "APPLICATIONINSIGHTS_AUTHENTICATION_STRING",
    "AZURE_CLIENT_ID",
}
"""Read by the host, its worker or Azure's libraries, not by shared/settings.py; docs/azure.md says what each does."""
_LEFT_TO_DEFAULTS = {
    "GPULAUNCH_WORKSPACE",
    "GPULAUNCH_DEPLOYMENT",
    "GPULAUNCH_SIMULATION_SPEED",
    "GPULAUNCH_DEFAULT_LIFETIME_MINUTES",
    "GPULAUNCH_DEFAULT_IDLE_MINUTES",
    "GPULAUNCH_LEASE_SECONDS",
    "GPULAUNCH_NODE_PORT",
    "GPULAUNCH_VLLM_REQUIREMENT",
    "GPULAUNCH_VLLM_EXECUTABLE",
    "GPULAUNCH_ALLOWED_VLLM_OPTIONS",
    "HF_ENDPOINT",
    "GPULAUNCH_MONTHLY_BUDGET_USD",
    "GPULAUNCH_LABEL_BUDGETS",
    "GPULAUNCH_BUDGET_ACTION",
    "GPULAUNCH_MAX_INSTANCES",
    "GPULAUNCH_MAX_GPUS",
    "GPULAUNCH_LABEL_MAX_INSTANCES",
    "GPULAUNCH_LABEL_MAX_GPUS",
    "GPULAUNCH_ALLOWED_PROVIDERS",
    "GPULAUNCH_ALLOWED_REGIONS",
    "GPULAUNCH_ALLOWED_TYPES",
    "GPULAUNCH_ALLOWED_GPUS",
    "GPULAUNCH_MAX_LIFETIME_MINUTES",
    "GPULAUNCH_LAUNCHES_PER_MINUTE",
    "GPULAUNCH_WEBHOOK_EVENTS",
    "AWS_ENDPOINT_URL_S3",
    "AWS_SESSION_TOKEN",
    "R2_SESSION_TOKEN",
    "AzureWebJobsStorage",
    "AzureWebJobsStorage__accountName",
    "AZURE_FUNCTIONS_ENVIRONMENT",
}
"""Not set by the template: the default is right there, another setting replaces it (an identity, no connection string),
or it is the operator's choice, for GPULAUNCH_MORE_SETTINGS. A new setting has to be put here or into the template."""
_OF_THE_LOCAL_HOST = {"FUNCTIONS_WORKER_RUNTIME"}


def _read() -> set[str]:
    return {str(field.alias) for field in Settings.model_fields.values()}


def _documented() -> Iterator[str]:
    text = (ROOT / "docs" / "settings.md").read_text("utf-8")
    table = text[text.index("## Settings") :].split("\n## ")[0]
    for line in table.splitlines():
        if line.startswith("| `"):
            cell = line.split("|")[1]
            names: list[str] = re.findall(r"`([A-Za-z0-9_…]+)`", cell)
            for name in names:
                # `…__clientId` continues the name before it.
                yield names[0] + name.removeprefix("…") if name.startswith("…") else name


def test_every_setting_that_is_read_should_be_set_or_left_to_its_default() -> None:
    assert _read() - settings_set() == _LEFT_TO_DEFAULTS


def test_every_setting_that_is_set_should_be_read() -> None:
    assert settings_set() - _read() == _OF_THE_PLATFORM


def test_every_setting_that_is_read_should_be_documented_and_the_reverse() -> None:
    assert set(_documented()) == _read()


def test_the_local_template_should_list_every_setting() -> None:
    template = set(json.loads((ROOT / "local.settings.json.template").read_text("utf-8"))["Values"])
    assert template - _read() - _OF_THE_PLATFORM == _OF_THE_LOCAL_HOST
    assert _read() <= template


def test_settings_of_the_platform_should_be_documented() -> None:
    text = (ROOT / "docs" / "azure.md").read_text("utf-8")
    assert [name for name in sorted(_OF_THE_PLATFORM) if f"`{name}`" not in text] == []


def test_the_host_should_take_every_body_that_the_app_takes_and_few_bytes_more() -> None:
    setting = r"FUNCTIONS_REQUEST_BODY_SIZE_LIMIT\W+(?:os\.environ\.get\(\W+FUNCTIONS_REQUEST_BODY_SIZE_LIMIT\W+)?(\d+)"
    places = ("infra/modules/app.bicep", "Dockerfile", "local.settings.json.template", "devhost/run.py")
    limits = {place: re.findall(setting, (ROOT / place).read_text("utf-8")) for place in places}
    assert limits == {place: [str(2 * MAX_NODE_BODY)] for place in places}
