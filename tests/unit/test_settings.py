"""Settings are read once; a wrong one says so in one line and shows no value."""

import pytest

from shared.errors import SettingsError
from shared.settings import read_settings

KEY = "m" * 32


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    for name in list(os.environ):
        if name.startswith(("GPULAUNCH_", "AzureWebJobs", "AZURE_FUNCTIONS", "SKYPILOT_", "AWS_", "R2_", "HF_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("GPULAUNCH_MASTER_KEY", KEY)


def test_defaults_should_be_those_of_the_documentation() -> None:
    settings = read_settings()
    assert settings.orchestrator == "auto"
    assert settings.default_lifetime_minutes == 720
    assert settings.simulation_speed == 1.0
    assert settings.admin_tokens == ()


def test_several_tokens_should_be_split_at_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GPULAUNCH_ADMIN_TOKENS", " first-token-of-two , second-token-of-two,")
    tokens = [token.get_secret_value() for token in read_settings().admin_tokens]
    assert tokens == ["first-token-of-two", "second-token-of-two"]


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("GPULAUNCH_ORCHESTRATOR", "kubernetes", "GPULAUNCH_ORCHESTRATOR"),
        ("GPULAUNCH_ADMIN_TOKENS", "too-short-one", "at least 16 characters"),
        ("GPULAUNCH_MASTER_KEY", "short-master-key", "at least 32 characters"),
        ("GPULAUNCH_PUBLIC_URL", "app.example.com", "https://"),
        ("GPULAUNCH_SIMULATION_SPEED", "0", "GPULAUNCH_SIMULATION_SPEED"),
        ("GPULAUNCH_VLLM_REQUIREMENT", "vllm; rm -rf /", "GPULAUNCH_VLLM_REQUIREMENT"),
        ("SKYPILOT_USER_ID", "somebody", "SKYPILOT_USER_ID"),
    ],
)
def test_a_wrong_value_should_be_named_and_not_shown(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, says: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as caught:
        read_settings()
    assert says in str(caught.value)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)
    if len(value) > 3:
        assert value not in str(caught.value)


def test_a_missing_master_key_should_stop_production_but_not_development(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GPULAUNCH_MASTER_KEY")
    with pytest.raises(SettingsError, match="GPULAUNCH_MASTER_KEY"):
        read_settings()
    monkeypatch.setenv("AZURE_FUNCTIONS_ENVIRONMENT", "Development")
    assert read_settings().master_key is None


def test_secrets_should_not_show_in_the_settings_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GPULAUNCH_ADMIN_TOKENS", "first-token-of-two")
    monkeypatch.setenv("R2_SECRET_ACCESS_KEY", "planted-r2-secret")
    text = repr(read_settings())
    assert KEY not in text
    assert "first-token" not in text
    assert "planted-r2" not in text
