"""Names that are almost those of settings."""

import pytest

from shared.setting_names import misspelled
from shared.settings import Settings


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("GPULAUNCH_ADMIN_TOKEN", "GPULAUNCH_ADMIN_TOKENS"),
        ("GPULAUNCH_MONTHLY_BUDGET", "GPULAUNCH_MONTHLY_BUDGET_USD"),
        ("GPULAUNCH_WEBHOOK_URL", "GPULAUNCH_WEBHOOK_URLS"),
        ("GPULAUNCH_DEFAULT_IDLE_MINUTE", "GPULAUNCH_DEFAULT_IDLE_MINUTES"),
        ("GPULAUNCH_ALLOWED_GPU", "GPULAUNCH_ALLOWED_GPUS"),
        ("gpulaunch_max_gpus", "GPULAUNCH_MAX_GPUS"),
        ("hf_token", "HF_TOKEN"),
    ],
)
def test_a_name_that_is_almost_a_settings_should_be_found(name: str, meant: str) -> None:
    assert list(misspelled(["PATH", name])) == [(name, meant)]


def test_other_names_should_not() -> None:
    known = [field.alias for field in Settings.model_fields.values() if field.alias]
    others = ["GPULAUNCH_URL", "GPULAUNCH_TOKEN", "GPULAUNCH_GATEWAY_KEY", "GPULAUNCH_GATEWAY_KEY_URL", "PATH"]
    assert list(misspelled([*known, *others, "GPULAUNCH_MAX_APP_INSTANCES", "GPULAUNCH_E2E_SECONDS"])) == []
