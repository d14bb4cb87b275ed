"""Settings are read once; a wrong one says so in one line and shows no value."""

import os
import secrets
from typing import Any, cast

import pytest
from pydantic import SecretStr

from shared.app import admission_rules
from shared.billing.limits import AdmissionLimits
from shared.errors import SettingsError
from shared.settings import DEVELOPMENT_KEY, read_settings

KEY = "master-key-of-these-tests-0123456789"
TOKEN = "first-token-of-two"


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
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


SECRETS = (
    "HF_TOKEN",
    "R2_ACCESS_KEY_ID",
    "R2_SECRET_ACCESS_KEY",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "SKYPILOT_SERVICE_ACCOUNT_TOKEN",
    "GPULAUNCH_ADMIN_TOKENS",
    "GPULAUNCH_READ_TOKENS",
    "GPULAUNCH_MASTER_KEY",
    "AzureWebJobsStorage",
    "APPLICATIONINSIGHTS_CONNECTION_STRING",
)
VALUE = "planted-secret-value-0123456789-xyz"
URLS = ("GPULAUNCH_PUBLIC_URL", "HF_ENDPOINT", "R2_ENDPOINT", "AWS_ENDPOINT_URL_S3", "SKYPILOT_API_SERVER_ENDPOINT")
REMAINS = (
    "{}\n",
    "{}\r\n",
    "  {}\t",
    "\ufeff{}",
    "\u200b{}\u200b",
    "\xa0{}\u2028",
    '"{}"',
    "'{}'\n",
    "\u201c{}\u201d",
    '\ufeff"{}"\r\n',
)
"""What copying and piping leave around a value."""


def refusal(monkeypatch: pytest.MonkeyPatch, **values: str) -> str:
    """The one line about these settings; none of it may show a value."""
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as caught:
        read_settings()
    text = str(caught.value)
    assert "\n" not in text
    assert not [value for value in values.values() if len(value) > 12 and value in text]
    return text


def held(name: str) -> str:
    """The value of the setting as the app has it."""
    settings = read_settings()
    (field,) = (key for key, one in type(settings).model_fields.items() if one.alias == name)
    value: Any = getattr(settings, field)
    value = cast("tuple[Any, ...]", value)[0] if isinstance(value, tuple) else value
    return value.get_secret_value() if isinstance(value, SecretStr) else str(value)


@pytest.mark.parametrize("remains", REMAINS, ids=range(len(REMAINS)))
@pytest.mark.parametrize("name", [*SECRETS, *URLS, "GPULAUNCH_WORKSPACE", "AZURE_SUBSCRIPTION_ID"])
def test_what_copying_leaves_around_a_value_should_be_dropped(
    monkeypatch: pytest.MonkeyPatch, name: str, remains: str
) -> None:
    value = {"GPULAUNCH_WORKSPACE": "team-a", "AZURE_SUBSCRIPTION_ID": "0" * 8 + "-0000-0000-0000-" + "1" * 12}
    whole = value.get(name, "https://store.example.com" if name in URLS else VALUE)
    monkeypatch.setenv(name, remains.format(whole))
    assert held(name) == whole


def test_each_token_of_a_list_should_be_cleaned_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GPULAUNCH_ADMIN_TOKENS", f'"{TOKEN}",\n \u200b{VALUE}\ufeff , ')
    assert [token.get_secret_value() for token in read_settings().admin_tokens] == [TOKEN, VALUE]


@pytest.mark.parametrize(
    "inside", ["{0}\n{1}", '{0}"{1}', "{0}\u200b{1}", "{0}\x01{1}", "{0}\xe9{1}", "{0}\u202e{1}", '"{0}{1}']
)
@pytest.mark.parametrize("name", SECRETS)
def test_a_secret_with_something_in_it_should_be_refused_by_name(
    monkeypatch: pytest.MonkeyPatch, name: str, inside: str
) -> None:
    assert name in refusal(monkeypatch, **{name: inside.format(VALUE[:17], VALUE[17:])})


def test_only_the_master_key_may_have_blanks_since_it_is_never_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    phrase = "a passphrase of several words, 48 characters long"
    monkeypatch.setenv("GPULAUNCH_MASTER_KEY", phrase)
    assert held("GPULAUNCH_MASTER_KEY") == phrase
    for name in set(SECRETS) - {"GPULAUNCH_MASTER_KEY"}:
        assert name in refusal(monkeypatch, **{name: phrase})
        monkeypatch.delenv(name)


@pytest.mark.parametrize("blank", ["", " ", "\n", '""', "\ufeff", "' '"])
@pytest.mark.parametrize("name", ["HF_TOKEN", "HF_ENDPOINT", "GPULAUNCH_ADMIN_TOKENS", "GPULAUNCH_MAX_GPUS"])
def test_an_empty_value_should_be_an_unset_one(monkeypatch: pytest.MonkeyPatch, name: str, blank: str) -> None:
    monkeypatch.delenv(name, raising=False)
    before = read_settings()
    monkeypatch.setenv(name, blank)
    assert read_settings() == before


@pytest.mark.parametrize(
    "reference",
    [
        "@Microsoft.KeyVault(SecretUri=https://kv-abc.vault.azure.net/secrets/admin-tokens)",
        "@Microsoft.KeyVault(VaultName=kv-abc;SecretName=admin-tokens)",
        "@microsoft.keyvault(SecretUri=https://kv-abc.vault.azure.net/secrets/x/)",
        '"@Microsoft.KeyVault(SecretUri=https://kv-abc.vault.azure.net/secrets/x)"\n',
        "@Microsoft.AppConfiguration(Endpoint=https://x.azconfig.io; Key=admin-tokens)",
        "${GPULAUNCH_SECRET_FROM_ELSEWHERE}",
        "$(cat /run/secrets/the-secret-of-gpulaunch)",
        "{{ vault.gpulaunch.secret.of.deployment }}",
        "<paste-the-secret-of-this-deployment>",
    ],
)
@pytest.mark.parametrize("name", [*SECRETS, *URLS, "SKYPILOT_USER_ID"])
def test_a_reference_that_was_not_resolved_should_be_refused_by_name(
    monkeypatch: pytest.MonkeyPatch, name: str, reference: str
) -> None:
    text = refusal(monkeypatch, **{name: reference})
    assert name in text
    assert "not resolved" in text
    assert "kv-abc" not in text


def test_one_reference_among_good_tokens_should_be_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    value = f"{TOKEN},@Microsoft.KeyVault(VaultName=kv-abc;SecretName=x)"
    assert "GPULAUNCH_ADMIN_TOKENS" in refusal(monkeypatch, GPULAUNCH_ADMIN_TOKENS=value)


WEAK = ("a" * 40, "ab" * 20, "0123456" * 6, "abcabcabcabcabcabcabcabcabcabcabcabc", "=" * 31 + "aA1!")


@pytest.mark.parametrize("value", WEAK)
@pytest.mark.parametrize("name", ["GPULAUNCH_MASTER_KEY", "GPULAUNCH_ADMIN_TOKENS", "GPULAUNCH_READ_TOKENS"])
def test_a_weak_secret_should_be_refused_in_production_only(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    assert name in refusal(monkeypatch, **{name: value})
    monkeypatch.setenv("AZURE_FUNCTIONS_ENVIRONMENT", "Development")
    assert held(name) == value


def test_secrets_made_as_the_messages_say_should_be_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(50):
        monkeypatch.setenv("GPULAUNCH_MASTER_KEY", secrets.token_hex(32))
        monkeypatch.setenv("GPULAUNCH_ADMIN_TOKENS", f"{secrets.token_hex(24)},{secrets.token_urlsafe(32)}")
        assert len(read_settings().admin_tokens) == 2


def test_the_key_of_developers_machines_should_be_refused_in_production_only(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "published" in refusal(monkeypatch, GPULAUNCH_MASTER_KEY=f'"{DEVELOPMENT_KEY}"')
    monkeypatch.setenv("AZURE_FUNCTIONS_ENVIRONMENT", "Development")
    assert held("GPULAUNCH_MASTER_KEY") == DEVELOPMENT_KEY


@pytest.mark.parametrize("environment", ["Production", "Development"])
def test_a_secret_should_be_used_for_one_thing(monkeypatch: pytest.MonkeyPatch, environment: str) -> None:
    monkeypatch.setenv("AZURE_FUNCTIONS_ENVIRONMENT", environment)
    text = refusal(monkeypatch, GPULAUNCH_ADMIN_TOKENS=f"{VALUE},{TOKEN}", GPULAUNCH_READ_TOKENS=f" {TOKEN}\n")
    assert "GPULAUNCH_READ_TOKENS" in text
    monkeypatch.setenv("GPULAUNCH_READ_TOKENS", VALUE[::-1])
    assert len(read_settings().read_tokens) == 1
    assert "GPULAUNCH_MASTER_KEY" in refusal(monkeypatch, GPULAUNCH_ADMIN_TOKENS=KEY)


@pytest.mark.parametrize("name", URLS)
def test_secrets_should_travel_by_https_in_production(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("SKYPILOT_SERVICE_ACCOUNT_TOKEN", VALUE)
    text = refusal(monkeypatch, **{name: "http://app.example.com"})
    assert name in text
    assert "https://" in text
    for local in ("http://localhost:7071", "http://127.0.0.1:9000", "http://[::1]:9000", "https://app.example.com/"):
        monkeypatch.setenv(name, local)
        assert held(name) == local.rstrip("/")
    monkeypatch.setenv("AZURE_FUNCTIONS_ENVIRONMENT", "Development")
    monkeypatch.setenv(name, "http://app.example.com")
    assert held(name) == "http://app.example.com"


def test_the_address_of_a_bucket_should_be_refused_for_r2_and_a_path_elsewhere_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Cloudflare's dashboard shows the S3 API of a bucket with the bucket in it."""
    for path in ("/models", "/models/llama/"):
        text = refusal(monkeypatch, R2_ENDPOINT=f"https://0123456789abcdef.r2.cloudflarestorage.com{path}")
        assert "R2_ENDPOINT: remove the path from the URL" in text
    monkeypatch.setenv("R2_ENDPOINT", "https://0123456789abcdef.eu.r2.cloudflarestorage.com/")
    assert held("R2_ENDPOINT") == "https://0123456789abcdef.eu.r2.cloudflarestorage.com"
    for name in set(URLS) - {"R2_ENDPOINT"}:
        monkeypatch.setenv(name, "https://app.example.com/a/")
        assert held(name) == "https://app.example.com/a"


def test_a_server_in_the_same_network_that_wants_no_token_may_speak_http(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SKYPILOT_API_SERVER_ENDPOINT", "http://skypilot:46580")
    assert held("SKYPILOT_API_SERVER_ENDPOINT") == "http://skypilot:46580"


@pytest.mark.parametrize(
    "url",
    [
        "https://user:planted-password@app.example.com",
        "https://planted-token@app.example.com",
        "https://app.example.com?sig=planted-signature",
        "https://app.example.com#planted",
        "https://",
        "https:///path",
        "https://app.example.com:99999",
        "https://[::1",
        "https://a b.example",
        "ftp://app.example.com",
        "file:///etc/passwd",
        "app.example.com",
    ],
)
@pytest.mark.parametrize("environment", ["Production", "Development"])
@pytest.mark.parametrize("name", URLS)
def test_an_address_should_be_one_without_a_user_or_a_query(
    monkeypatch: pytest.MonkeyPatch, name: str, environment: str, url: str
) -> None:
    monkeypatch.setenv("AZURE_FUNCTIONS_ENVIRONMENT", environment)
    text = refusal(monkeypatch, **{name: url})
    assert name in text
    assert "planted" not in text


@pytest.mark.parametrize(
    "url", ["http://hooks.example.com/x", "https://user:planted@hooks.example.com/x", "https://[::1"]
)
def test_a_webhook_should_be_https_without_a_user(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    text = refusal(monkeypatch, GPULAUNCH_WEBHOOK_URLS=f"slack|{url}")
    assert "GPULAUNCH_WEBHOOK_URLS" in text
    assert "planted" not in text


def test_all_that_is_wrong_should_be_said_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    text = refusal(monkeypatch, GPULAUNCH_ADMIN_TOKENS="a" * 20, GPULAUNCH_PUBLIC_URL="http://app.example.com")
    assert "GPULAUNCH_ADMIN_TOKENS" in text
    assert "GPULAUNCH_PUBLIC_URL" in text


@pytest.mark.parametrize("name", ["all_proxy", "HTTPS_PROXY", "http_proxy"])
def test_a_socks_proxy_should_be_refused_by_name(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "socks5://me:secret@127.0.0.1:1080")
    with pytest.raises(SettingsError, match=f"^{name} is a SOCKS proxy") as caught:
        read_settings()
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "pasted", "says"),
    [
        ("GPULAUNCH_PUBLIC_URL", "https://app.example.com/api", "it is a page's, and nodes add their own"),
        ("GPULAUNCH_PUBLIC_URL", "https://app.example.com/instances/inst-1", "remove the path"),
        ("GPULAUNCH_GATEWAY_URL", "https://models.example.com/v1", "remove /v1"),
        ("GPULAUNCH_GATEWAY_URL", "https://models.example.com/v1/chat/completions", "remove /v1"),
        ("SKYPILOT_API_SERVER_ENDPOINT", "https://sky.example.com/dashboard/clusters", "remove /dashboard"),
        ("HF_ENDPOINT", "https://huggingface.co/meta-llama/Llama-3.1-8B", "launches name the model"),
        ("HF_ENDPOINT", "https://hub.corp.example/hf/api/models", "they are added"),
        ("R2_ENDPOINT", "https://pub-0123456789abcdef.r2.dev", "this is not the S3 API"),
        ("R2_ENDPOINT", "https://models.0123456789abcdef.r2.cloudflarestorage.com", "leave the bucket out"),
        ("R2_ENDPOINT", "https://models.0123456789abcdef.eu.r2.cloudflarestorage.com", "leave the bucket out"),
        ("AWS_ENDPOINT_URL_S3", "https://models.s3.us-east-1.amazonaws.com", "leave the bucket out"),
        ("AWS_ENDPOINT_URL_S3", "https://my.models.s3.amazonaws.com", "leave the bucket out"),
        ("AWS_ENDPOINT_URL_S3", "https://s3.us-east-1.amazonaws.com/models", "leave the bucket out"),
        ("AWS_ENDPOINT_URL_S3", "https://storage.googleapis.com/models", "leave the bucket out"),
        ("AWS_ENDPOINT_URL_S3", "https://models.fra1.digitaloceanspaces.com", "leave the bucket out"),
        ("AWS_ENDPOINT_URL_S3", "https://us-east-1.console.aws.amazon.com/s3/buckets/models", "a page for people"),
        ("AWS_REGION", "US East (N. Virginia)", "AWS_REGION"),
        ("AWS_REGION", "us-east-1a", "this is a zone"),
        ("AzureWebJobsStorage__queueServiceUri", "https://a.blob.core.windows.net", "another service's URL"),
        ("AzureWebJobsStorage__tableServiceUri", "https://a.queue.core.windows.net", "another service's URL"),
        ("AzureWebJobsStorage__tableServiceUri", "https://a.table.core.windows.net/gpulaunch", "remove the path"),
    ],
)
def test_what_is_pasted_from_another_place_should_be_refused_by_name(
    monkeypatch: pytest.MonkeyPatch, name: str, pasted: str, says: str
) -> None:
    text = refusal(monkeypatch, **{name: pasted})
    assert text.startswith(name)
    assert says in text


@pytest.mark.parametrize(
    ("name", "url"),
    [
        ("GPULAUNCH_PUBLIC_URL", "https://example.com/gpulaunch"),
        ("GPULAUNCH_PUBLIC_URL", "https://gateway.example.com/api/gpulaunch"),
        ("GPULAUNCH_GATEWAY_URL", "https://example.com/models"),
        ("SKYPILOT_API_SERVER_ENDPOINT", "https://example.com/skypilot"),
        ("HF_ENDPOINT", "https://hub.corp.example/huggingface"),
        ("HF_ENDPOINT", "https://hf-mirror.com"),
        ("R2_ENDPOINT", "https://0123456789abcdef.fedramp.r2.cloudflarestorage.com"),
        ("AWS_ENDPOINT_URL_S3", "https://s3.us-east-1.amazonaws.com"),
        ("AWS_ENDPOINT_URL_S3", "https://bucket.vpce-1a2b3c4d.s3.us-east-1.vpce.amazonaws.com"),
        ("AWS_ENDPOINT_URL_S3", "https://fra1.digitaloceanspaces.com"),
        ("AWS_ENDPOINT_URL_S3", "https://minio.corp.example/s3"),
        ("AzureWebJobsStorage__queueServiceUri", "https://a.queue.core.windows.net"),
        ("AzureWebJobsStorage__tableServiceUri", "http://127.0.0.1:10002/devstoreaccount1"),
        ("AWS_REGION", "garage"),
    ],
)
def test_an_address_in_its_place_should_be_taken(monkeypatch: pytest.MonkeyPatch, name: str, url: str) -> None:
    monkeypatch.setenv(name, url)
    assert held(name) == url
