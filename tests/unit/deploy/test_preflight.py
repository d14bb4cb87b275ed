"""The preflight, spoken by the real clients to a stand-in: a good account, and every thing that may be missing."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from azure.core.credentials import AccessToken
from azure.identity import CredentialUnavailableError
from typer.testing import CliRunner

from deploy.__main__ import app
from deploy.arm import Arm
from deploy.preflight import PROVIDERS, AccountChecks, Wish
from deploy.region import DeploymentPlan
from gpulaunch.cli.check import CheckResult
from tests.standins.azure import SUBSCRIPTION, AzureServer, Fault, ResourceManager
from tests.unit.infra.templates import FILES, parsed

FAMILY = "StandardNVADSA10v5Family"


def _sku(**changes: Any) -> dict[str, Any]:
    return {
        "resourceType": "virtualMachines",
        "name": "Standard_NV36ads_A10_v5",
        "family": FAMILY,
        "capabilities": [{"name": "vCPUs", "value": "36"}],
        "restrictions": [],
        **changes,
    }


@pytest.fixture
def good(manager: ResourceManager) -> ResourceManager:
    """A subscription that has it all."""
    manager.page_size = len(PROVIDERS) // 2
    manager.account.registrations = {name.lower(): "Registered" for name in PROVIDERS}
    manager.account.skus = [_sku()]
    manager.usages["eastus"] = {"cores": (0, 100), "lowPriorityCores": (10, 100), FAMILY.lower(): (36, 72)}
    return manager


def _run(arm: Arm, wish: Wish | None = None, plan: DeploymentPlan | None = None) -> dict[str, CheckResult]:
    return {check.name: check for check in AccountChecks(arm, wish or Wish(), plan or DeploymentPlan()).run()}


def test_a_good_account_should_pass(good: ResourceManager, arm: Arm) -> None:
    checks = _run(arm)
    assert [(check.name, check.state) for check in checks.values()] == [
        ("azure login", "ok"),
        ("azure providers", "ok"),
        ("azure roles", "ok"),
        ("azure offer", "ok"),
        ("azure regions", "ok"),
        ("azure flex", "ok"),
        ("azure storage", "ok"),
        ("azure vaults", "ok"),
        ("azure database", "ok"),
        ("azure environments", "ok"),
        ("azure quota", "ok"),
    ]
    assert good.count("^(PUT|POST)") == 0


def test_on_demand_should_count_the_family(good: ResourceManager, arm: Arm) -> None:
    assert _run(arm, Wish(spot=False))["azure quota"].state == "ok"


def test_quota_should_be_that_of_the_nodes_subscription(good: ResourceManager, arm: Arm) -> None:
    other = "22222222-2222-3333-4444-555555555555"
    check = _run(arm, Wish(node_subscription=other))["azure quota"]
    assert check.state == "failed"
    assert "could not be found" in check.detail
    assert good.count(f"/subscriptions/{other}/providers/Microsoft.Compute/skus") == 1


class _Nobody:
    def get_token(self, *scopes: str, **_: Any) -> AccessToken:
        raise CredentialUnavailableError(message="Please run 'az login' to set up an account")


def test_without_a_login_the_check_should_name_az_login_and_ask_nothing(server: AzureServer) -> None:
    checks = _run(Arm(_Nobody(), server.endpoint, str(server.ca)))
    assert list(checks) == ["azure login"]
    assert checks["azure login"].state == "failed"
    assert checks["azure login"].advice == "`az login`"
    assert server.manager.calls == []


def test_the_command_should_fail_with_a_failed_check(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    done = CliRunner().invoke(app, ["preflight", "--json"])
    assert done.exit_code == 1
    (check,) = json.loads(done.stdout)
    assert (check["name"], check["state"], check["advice"]) == ("azure login", "failed", "`az login`")


def test_several_subscriptions_should_ask_which(good: ResourceManager, arm: Arm) -> None:
    good.account.subscriptions["22222222-2222-3333-4444-555555555555"] = "Enabled"
    checks = _run(arm)
    assert list(checks) == ["azure login"]
    assert "export AZURE_SUBSCRIPTION_ID=11111111" in checks["azure login"].advice


def test_a_subscription_out_of_reach_should_fail(good: ResourceManager, arm: Arm) -> None:
    assert "no access" in _run(arm, Wish(subscription="other"))["azure login"].detail


def test_a_disabled_subscription_should_fail(good: ResourceManager, arm: Arm) -> None:
    good.account.subscriptions[SUBSCRIPTION] = "Disabled"
    assert "no enabled subscription" in _run(arm)["azure login"].detail


def test_an_unregistered_provider_should_get_its_command(good: ResourceManager, arm: Arm) -> None:
    good.account.registrations["microsoft.app"] = "NotRegistered"
    check = _run(arm)["azure providers"]
    assert check.state == "failed"
    assert check.advice == f"`az provider register --subscription {SUBSCRIPTION} --namespace Microsoft.App`"


@pytest.mark.parametrize(
    ("permissions", "state"),
    [
        ([{"actions": ["*"], "notActions": ["Microsoft.Authorization/*/Write"]}], "failed"),
        ([{"actions": ["*/read"], "notActions": []}], "failed"),
        (
            [
                {"actions": ["*"], "notActions": ["Microsoft.Authorization/*/Write"]},
                {"actions": ["Microsoft.Authorization/*"], "notActions": []},
            ],
            "ok",
        ),
        ([], "failed"),
    ],
    ids=["contributor", "reader", "contributor and access administrator", "nothing"],
)
def test_roles_should_be_judged_by_what_they_allow(
    good: ResourceManager, arm: Arm, permissions: list[dict[str, Any]], state: str
) -> None:
    good.account.permissions = permissions
    check = _run(arm)["azure roles"]
    assert check.state == state
    assert ("az role assignment create --role Owner" in check.advice) == (state == "failed")


def test_an_unknown_region_should_fail(good: ResourceManager, arm: Arm) -> None:
    assert "estus: not a region" in _run(arm, Wish(region="estus"))["azure regions"].detail
    assert "wstus: not a region" in _run(arm, plan=DeploymentPlan(region="wstus"))["azure regions"].detail


def test_missing_spot_quota_should_get_the_command_that_asks_for_it(good: ResourceManager, arm: Arm) -> None:
    good.usages["eastus"] = {"lowPriorityCores": (4, 10)}
    check = _run(arm)["azure quota"]
    assert check.detail == "lowPriorityCores: 36 cores needed, 6 free"
    assert "--resource-name lowPriorityCores --resource-type lowPriority --limit-object value=40 " in check.advice


def test_missing_family_quota_should_fail_for_on_demand_only(good: ResourceManager, arm: Arm) -> None:
    good.usages["eastus"] = {"lowPriorityCores": (0, 100), "cores": (0, 100), FAMILY: (0, 0)}
    assert _run(arm)["azure quota"].state == "ok"
    check = _run(arm, Wish(spot=False))["azure quota"]
    assert check.state == "failed"
    assert f"--resource-name {FAMILY} --resource-type dedicated --limit-object value=36 " in check.advice
    assert "cores --" not in check.advice


def test_a_restricted_or_unknown_type_should_fail(good: ResourceManager, arm: Arm) -> None:
    assert "has no Standard_X" in _run(arm, Wish(instance_type="Standard_X"))["azure quota"].detail
    good.account.skus = [_sku(restrictions=[{"type": "Location", "reasonCode": "NotAvailableForSubscription"}])]
    assert "not offered to this subscription" in _run(arm)["azure quota"].detail


def test_throttling_should_be_waited_out(good: ResourceManager, arm: Arm) -> None:
    good.faults.append(Fault("GET", "^/subscriptions$", 429, "Throttled", retry_after=0))
    assert _run(arm)["azure login"].state == "ok"
    assert good.faults[0].times == 0


def test_one_refused_check_should_not_hide_the_others(good: ResourceManager, arm: Arm) -> None:
    good.faults.append(Fault("GET", "/providers$", 403, "AuthorizationFailed"))
    checks = _run(arm)
    assert checks["azure providers"].state == "failed"
    assert checks["azure quota"].state == "ok"


def test_providers_should_be_those_of_the_templates_and_of_nodes() -> None:
    types = {str(one["type"]).split("/")[0] for path in FILES for one in parsed(path).get("resources", {}).values()}
    built_in = {"Microsoft.Authorization", "Microsoft.Resources"}
    assert set(PROVIDERS) == (types - built_in) | {"Microsoft.Compute", "Microsoft.Quota"}
    assert all(re.fullmatch(r"Microsoft\.\w+", name) for name in PROVIDERS)
