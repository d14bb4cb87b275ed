"""Secrets are made in the vault, once, and seen nowhere else."""

import json
from dataclasses import replace

import pytest
from azure.core.exceptions import HttpResponseError
from pydantic import SecretStr
from typer.testing import CliRunner

from deploy import secrets as azure_secrets
from deploy.arm import Arm
from deploy.secrets import (
    MADE,
    Place,
    SetupError,
    make_missing,
    refresh_references,
    restart_gateway,
    wait_for_token,
    write,
)
from gateway.table import unsealer
from shared.auth import Deriver
from shared.settings import Settings
from tests.standins.azure import SUBSCRIPTION, Fault, ResourceManager

PLACE = Place(
    subscription=SUBSCRIPTION,
    group="rg-demo",
    app="func-demo",
    vault="kv-demo",
    token_vault="kvs-demo",
    gateway_vault="kvg-demo",
    url="https://func-demo.azurewebsites.net",
    gateway="ca-gateway-demo",
)
_GROUP = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/rg-demo/providers"
VAULT = f"{_GROUP}/Microsoft.KeyVault/vaults/kv-demo/secrets"
TOKEN = f"{_GROUP}/Microsoft.KeyVault/vaults/kvs-demo/secrets/skypilot-token"
GATEWAY_KEY = f"{_GROUP}/Microsoft.KeyVault/vaults/kvg-demo/secrets/gateway-key"
REVISIONS = f"{_GROUP}/Microsoft.App/containerApps/ca-gateway-demo/revisions"
REFERENCES = f"{_GROUP}/Microsoft.Web/sites/func-demo/config/configreferences/appsettings"


def test_only_missing_secrets_should_be_made(manager: ResourceManager, arm: Arm) -> None:
    manager.account.secrets["kv-demo/master-key"] = "there"
    assert make_missing(arm, PLACE) == ["admin-tokens", "read-tokens", "deploy-tokens"]
    assert list(manager.account.secrets) == [
        f"kv-demo/{name}" for name in ("master-key", "admin-tokens", "read-tokens", "deploy-tokens")
    ]
    assert manager.account.secrets["kv-demo/master-key"] == "there"
    assert manager.calls == [
        f"GET {VAULT}/master-key",
        f"GET {VAULT}/admin-tokens",
        f"GET {VAULT}/read-tokens",
        f"GET {VAULT}/deploy-tokens",
        f"PUT {VAULT}/admin-tokens",
        f"PUT {VAULT}/read-tokens",
        f"PUT {VAULT}/deploy-tokens",
    ]


def test_a_made_secret_should_be_one_that_the_app_takes(manager: ResourceManager, arm: Arm) -> None:
    make_missing(arm, PLACE)
    stored = manager.account.secrets.items()
    made = {name.rpartition("/")[2]: value for name, value in stored if name.startswith("kv-demo/")}
    named = {f"GPULAUNCH_{name.replace('-', '_').upper()}": value for name, value in made.items()}
    settings = Settings.model_validate(named)
    assert len(settings.admin_tokens) == len(settings.read_tokens) == 1
    assert len(settings.deploy_tokens) == 1
    assert len(set(made.values())) == 4


def test_no_address_should_hold_a_secret(manager: ResourceManager, arm: Arm) -> None:
    make_missing(arm, PLACE)
    seen = json.dumps([(call.path, call.query) for call in manager.heard])
    assert [value for value in manager.account.secrets.values() if value in seen] == []
    assert len(manager.account.secrets) == len(MADE) + 1


def test_a_refused_write_should_raise(manager: ResourceManager, arm: Arm) -> None:
    manager.faults.append(Fault("PUT", "/secrets/master-key$", 403, "AuthorizationFailed"))
    with pytest.raises(HttpResponseError):
        write(arm, PLACE, "master-key", "x")
    assert manager.calls == [f"PUT {GATEWAY_KEY}", f"PUT {VAULT}/master-key"]
    assert list(manager.account.secrets) == ["kvg-demo/gateway-key"]


def test_the_token_should_be_waited_for(manager: ResourceManager, arm: Arm) -> None:
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 2:
            manager.account.secrets["kvs-demo/skypilot-token"] = "there"

    wait_for_token(arm, PLACE, sleep)
    assert slept == [10.0, 10.0]
    assert manager.calls == [f"GET {TOKEN}"] * 3


def test_a_token_that_never_comes_should_end_the_wait(manager: ResourceManager, arm: Arm) -> None:
    slept: list[float] = []
    with pytest.raises(SetupError, match="no skypilot-token after 30 s"):
        wait_for_token(arm, PLACE, slept.append, patience=30.0)
    assert slept == [10.0, 10.0, 10.0]


def test_references_should_be_refreshed_and_their_states_returned(manager: ResourceManager, arm: Arm) -> None:
    states = {"GPULAUNCH_MASTER_KEY": "Resolved", "HF_TOKEN": "SecretNotFound"}
    manager.account.references = states
    assert refresh_references(arm, PLACE) == states
    assert manager.calls == [f"POST {REFERENCES}/refresh", f"GET {REFERENCES}"]


def test_a_reference_that_is_being_read_should_be_waited_for(manager: ResourceManager, arm: Arm) -> None:
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 2:
            manager.account.references = {"GPULAUNCH_MASTER_KEY": "Resolved"}

    manager.account.references = {"GPULAUNCH_MASTER_KEY": "Initialized"}
    assert refresh_references(arm, PLACE, sleep) == {"GPULAUNCH_MASTER_KEY": "Resolved"}
    assert slept == [5.0, 5.0]
    assert manager.calls == [f"POST {REFERENCES}/refresh", *[f"GET {REFERENCES}"] * 3]


def test_a_reference_that_stays_denied_should_be_reported_after_two_minutes(manager: ResourceManager, arm: Arm) -> None:
    slept: list[float] = []
    manager.account.references = {"GPULAUNCH_MASTER_KEY": "AccessToKeyVaultDenied"}
    assert refresh_references(arm, PLACE, slept.append) == {"GPULAUNCH_MASTER_KEY": "AccessToKeyVaultDenied"}
    assert sum(slept) == 120.0


def test_a_missing_name_should_be_one_line() -> None:
    with pytest.raises(SetupError, match="AZURE_RESOURCE_GROUP, GPULAUNCH_APP_NAME, GPULAUNCH_GATEWAY_VAULT_NAME"):
        Place.of({"AZURE_SUBSCRIPTION_ID": "s", "GPULAUNCH_VAULT_NAME": "v", "GPULAUNCH_TOKEN_VAULT_NAME": "t"})


@pytest.mark.parametrize("arguments", [["roll", "master-key"], ["roll", "hub-token"], ["put", "master-key"], ["put"]])
def test_a_dangerous_or_wrong_call_should_be_refused_before_anything_is_asked(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def never() -> tuple[Arm, Place]:
        raise AssertionError("asked Azure")

    monkeypatch.setattr(azure_secrets, "_connected", never)
    assert CliRunner().invoke(azure_secrets.app, arguments).exit_code == 2


def test_rolling_should_keep_the_old_token_on_demand_and_show_the_new_one_once(
    manager: ResourceManager, arm: Arm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(azure_secrets, "_connected", lambda: (arm, PLACE))
    done = CliRunner().invoke(azure_secrets.app, ["roll", "admin-tokens", "--keep"], input="old-token-of-yesterday\n")
    assert done.exit_code == 0, done.output
    shown = done.stdout.strip()
    assert manager.account.secrets == {"kv-demo/admin-tokens": f"{shown},old-token-of-yesterday"}
    assert len(shown) >= 32
    assert manager.calls == [f"PUT {VAULT}/admin-tokens", f"POST {REFERENCES}/refresh", f"GET {REFERENCES}"]


def test_the_servers_token_should_go_into_its_own_vault(
    manager: ResourceManager, arm: Arm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(azure_secrets, "_connected", lambda: (arm, PLACE))
    done = CliRunner().invoke(azure_secrets.app, ["put", "skypilot-token"], input="sky-token\n")
    assert done.exit_code == 0, done.output
    assert manager.account.secrets == {"kvs-demo/skypilot-token": "sky-token"}
    assert manager.calls[0] == f"PUT {TOKEN}"


def test_the_gateways_key_should_be_the_one_that_the_app_seals_with(monkeypatch: pytest.MonkeyPatch) -> None:
    master = "0123456789abcdef" * 2
    monkeypatch.setenv("GPULAUNCH_MASTER_KEY", master)
    done = CliRunner().invoke(azure_secrets.app, ["gateway-key"])
    assert done.exit_code == 0
    assert unsealer(done.output.strip())(Deriver(SecretStr(master)).sealed("gl-node")) == "gl-node"


def test_the_gateways_key_should_be_made_with_the_master_key(manager: ResourceManager, arm: Arm) -> None:
    make_missing(arm, PLACE)
    kept = manager.account.secrets
    deriver = Deriver(SecretStr(kept["kv-demo/master-key"]))
    assert unsealer(kept["kvg-demo/gateway-key"])(deriver.sealed("gl-node")) == "gl-node"


def test_a_gateways_key_that_cannot_be_derived_any_more_should_be_reported(
    manager: ResourceManager, arm: Arm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(azure_secrets, "_connected", lambda: (arm, PLACE))
    manager.account.secrets["kv-demo/master-key"] = "there"
    done = CliRunner().invoke(azure_secrets.app, ["make"])
    assert done.exit_code == 0
    assert "gateway-key is missing" in done.stderr
    manager.account.secrets["kvg-demo/gateway-key"] = "there"
    assert CliRunner().invoke(azure_secrets.app, ["make"]).stderr == ""


def test_a_new_master_key_should_reach_the_gateway(
    manager: ResourceManager, arm: Arm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(azure_secrets, "_connected", lambda: (arm, PLACE))
    manager.account.revisions = {"old": False, "new": True}
    done = CliRunner().invoke(azure_secrets.app, ["roll", "master-key", "--nodes-are-gone"])
    assert (done.exit_code, done.stdout) == (0, "")
    assert manager.calls == [
        f"PUT {GATEWAY_KEY}",
        f"PUT {VAULT}/master-key",
        f"POST {REFERENCES}/refresh",
        f"GET {REFERENCES}",
        f"GET {REVISIONS}",
        f"POST {REVISIONS}/new/restart",
    ]


def test_a_given_gateways_key_should_go_into_its_vault_and_reach_it(
    manager: ResourceManager, arm: Arm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(azure_secrets, "_connected", lambda: (arm, PLACE))
    manager.account.revisions = {"new": True}
    assert CliRunner().invoke(azure_secrets.app, ["put", "gateway-key"], input="key\n").exit_code == 0
    assert manager.account.secrets == {"kvg-demo/gateway-key": "key"}
    assert manager.calls == [f"PUT {GATEWAY_KEY}", f"GET {REVISIONS}", f"POST {REVISIONS}/new/restart"]


def test_without_a_gateway_nothing_should_be_restarted(manager: ResourceManager, arm: Arm) -> None:
    restart_gateway(arm, replace(PLACE, gateway=""))
    assert manager.calls == []


@pytest.mark.parametrize("master", ["", "short"])
def test_no_gateway_key_should_come_from_a_key_that_the_app_refuses(
    monkeypatch: pytest.MonkeyPatch, master: str
) -> None:
    monkeypatch.setenv("GPULAUNCH_MASTER_KEY", master)
    done = CliRunner().invoke(azure_secrets.app, ["gateway-key"])
    assert done.exit_code != 0
    assert "GPULAUNCH_MASTER_KEY" in done.output
