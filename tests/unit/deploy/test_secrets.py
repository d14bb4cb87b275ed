"""Secrets are made in the vault, once, and seen nowhere else."""

import json
from typing import Any

import pytest
from azure.core.exceptions import HttpResponseError

from deploy import secrets as azure_secrets
from deploy.arm import Arm
from deploy.secrets import MADE, Place, SetupError, make_missing, refresh_references, wait_for_token, write
from shared.settings import Settings
from tests.unit.deploy.manager import Manager

PLACE = Place("sub", "rg-demo", "func-demo", "kv-demo", "kvs-demo")
VAULT = "/subscriptions/sub/resourceGroups/rg-demo/providers/Microsoft.KeyVault/vaults/kv-demo/secrets"
TOKEN = "/subscriptions/sub/resourceGroups/rg-demo/providers/Microsoft.KeyVault/vaults/kvs-demo/secrets/skypilot-token"
REFERENCES = (
    "/subscriptions/sub/resourceGroups/rg-demo/providers/Microsoft.Web/sites/func-demo/config/configreferences"
    "/appsettings"
)
THERE: dict[str, Any] = {"properties": {"attributes": {"enabled": True}}}


def _takes(manager: Manager, *names: str) -> None:
    for name in names:
        manager.say(f"{VAULT}/{name}", THERE, 201, "PUT")


def test_what_is_missing_should_be_made_and_nothing_else(manager: Manager, arm: Arm) -> None:
    manager.say(f"{VAULT}/master-key", THERE)
    _takes(manager, "admin-tokens", "read-tokens")
    assert make_missing(arm, PLACE) == ["admin-tokens", "read-tokens"]
    assert [path for path, _ in manager.sent("PUT")] == [f"{VAULT}/admin-tokens", f"{VAULT}/read-tokens"]


def test_a_made_secret_should_be_one_that_the_app_takes(manager: Manager, arm: Arm) -> None:
    _takes(manager, *MADE)
    make_missing(arm, PLACE)
    made = {path.rpartition("/")[2]: body["properties"]["value"] for path, body in manager.sent("PUT")}
    named = {f"GPULAUNCH_{name.replace('-', '_').upper()}": value for name, value in made.items()}
    settings = Settings.model_validate(named)
    assert len(settings.admin_tokens) == len(settings.read_tokens) == 1
    assert len(set(made.values())) == 3


def test_no_address_should_hold_a_secret(manager: Manager, arm: Arm) -> None:
    _takes(manager, *MADE)
    make_missing(arm, PLACE)
    values = [body["properties"]["value"] for _, body in manager.sent("PUT")]
    seen = json.dumps([(path, query) for _, path, query, _ in manager.calls])
    assert not [value for value in values if value in seen]


def test_a_refused_write_should_raise(manager: Manager, arm: Arm) -> None:
    manager.say(f"{VAULT}/master-key", {"error": {"code": "AuthorizationFailed", "message": "no"}}, 403, "PUT")
    with pytest.raises(HttpResponseError):
        write(arm, PLACE, "master-key", "x")


def test_the_token_should_be_waited_for(manager: Manager, arm: Arm) -> None:
    manager.say(TOKEN, {"error": {"code": "SecretNotFound"}}, 404)
    manager.say(TOKEN, {"error": {"code": "SecretNotFound"}}, 404)
    manager.say(TOKEN, THERE)
    slept: list[float] = []
    wait_for_token(arm, PLACE, slept.append)
    assert slept == [10.0, 10.0]


def test_a_token_that_never_comes_should_end_the_wait(manager: Manager, arm: Arm) -> None:
    slept: list[float] = []
    with pytest.raises(SetupError, match="no skypilot-token after 30 s"):
        wait_for_token(arm, PLACE, slept.append, patience=30.0)
    assert slept == [10.0, 10.0, 10.0]


def test_references_should_be_refreshed_and_their_states_told(manager: Manager, arm: Arm) -> None:
    manager.say(f"{REFERENCES}/refresh", {}, 200, "POST")
    items = [
        {"name": "func-demo/GPULAUNCH_MASTER_KEY", "properties": {"status": "Resolved"}},
        {"name": "func-demo/HF_TOKEN", "properties": {"status": "SecretNotFound"}},
    ]
    manager.say(REFERENCES, {"value": items})
    assert refresh_references(arm, PLACE) == {"GPULAUNCH_MASTER_KEY": "Resolved", "HF_TOKEN": "SecretNotFound"}
    assert [path for path, _ in manager.sent("POST")] == [f"{REFERENCES}/refresh"]


def test_a_missing_name_should_be_one_line() -> None:
    with pytest.raises(SetupError, match="AZURE_RESOURCE_GROUP, GPULAUNCH_APP_NAME"):
        Place.of({"AZURE_SUBSCRIPTION_ID": "s", "GPULAUNCH_VAULT_NAME": "v", "GPULAUNCH_TOKEN_VAULT_NAME": "t"})


@pytest.mark.parametrize("arguments", [["roll", "master-key"], ["roll", "hub-token"], ["put", "master-key"], ["put"]])
def test_a_dangerous_or_wrong_call_should_be_refused_before_anything_is_asked(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from typer.testing import CliRunner

    def never() -> tuple[Arm, Place]:
        raise AssertionError("asked Azure")

    monkeypatch.setattr(azure_secrets, "_connected", never)
    assert CliRunner().invoke(azure_secrets.app, arguments).exit_code == 2


def test_rolling_should_keep_the_old_token_on_demand_and_show_the_new_one_once(
    manager: Manager, arm: Arm, monkeypatch: pytest.MonkeyPatch
) -> None:
    from typer.testing import CliRunner

    _takes(manager, "admin-tokens")
    manager.say(f"{REFERENCES}/refresh", {}, 200, "POST")
    manager.say(REFERENCES, {"value": []})
    monkeypatch.setattr(azure_secrets, "_connected", lambda: (arm, PLACE))
    done = CliRunner().invoke(azure_secrets.app, ["roll", "admin-tokens", "--keep"], input="old-token-of-yesterday\n")
    assert done.exit_code == 0, done.output
    ((_, body),) = manager.sent("PUT")
    shown = done.stdout.strip()
    assert body["properties"]["value"] == f"{shown},old-token-of-yesterday"
    assert len(shown) >= 32
