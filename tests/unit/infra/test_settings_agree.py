"""What the code reads, what infra/ sets and what is documented are the same settings."""

import json
import re
from collections.abc import Iterator

from shared.settings import Settings
from tests.unit.infra.templates import ROOT, settings_set

_OF_THE_PLATFORM = {
    "AzureWebJobsStorage__blobServiceUri",
    "AzureWebJobsStorage__credential",
    "AzureWebJobsDisableHomepage",
    "PYTHON_THREADPOOL_THREAD_COUNT",
    "APPLICATIONINSIGHTS_AUTHENTICATION_STRING",
    "AZURE_CLIENT_ID",
}
"""Read by the host, its worker or Azure's libraries, not by shared/settings.py; docs/azure.md says what each does."""
_LEFT_TO_THE_OPERATOR = {"GPULAUNCH_WEBHOOK_SECRET", "AzureWebJobsStorage"}
"""Secrets that the template does not set: for GPULAUNCH_MORE_SETTINGS, and replaced by an identity."""
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


def test_every_secret_that_is_read_should_be_set() -> None:
    secrets = {str(field.alias) for field in Settings.model_fields.values() if "SecretStr" in str(field.annotation)}
    assert secrets - settings_set() == _LEFT_TO_THE_OPERATOR


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
