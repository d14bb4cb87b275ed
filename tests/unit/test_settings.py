"""Settings are read once; a wrong one says so in one line and shows no value."""

import pytest

from shared.app import admission_rules
from shared.billing.limits import AdmissionLimits
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
        ("GPULAUNCH_MONTHLY_BUDGET_USD", "-5.00", "GPULAUNCH_MONTHLY_BUDGET_USD"),
        ("GPULAUNCH_LABEL_BUDGETS", "team:100", "a label and an amount"),
        ("GPULAUNCH_LABEL_BUDGETS", "team=a:lots", "valid number"),
        ("GPULAUNCH_LABEL_BUDGETS", '{"team=a": 100', "GPULAUNCH_LABEL_BUDGETS"),
        ("GPULAUNCH_LABEL_MAX_GPUS", "team=a:1.5", "GPULAUNCH_LABEL_MAX_GPUS"),
        ("GPULAUNCH_ALLOWED_PROVIDERS", "azure,azur", "azure, aws"),
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


@pytest.mark.parametrize("text", ["team=a:100, team=b:0.5", '{"team=a": 100, "team=b": 0.5}'])
def test_amounts_by_label_should_be_read_from_a_list_or_from_json(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("GPULAUNCH_LABEL_BUDGETS", text)
    assert read_settings().label_budgets == {"team=a": 100, "team=b": 0.5}


def test_a_label_s_value_may_have_a_colon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GPULAUNCH_LABEL_MAX_INSTANCES", "image=vllm:v1:3")
    assert read_settings().label_max_instances == {"image=vllm:v1": 3}


def test_without_settings_there_should_be_neither_budget_nor_limit() -> None:
    rules = admission_rules(read_settings())
    assert not rules.counted
    assert rules.limits == AdmissionLimits()


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
