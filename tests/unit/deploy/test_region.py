"""What stops a deployment in mid-way, found before it begins: by the real clients, spoken to a stand-in."""

import json
import re
from typing import Any

import pytest

from deploy.arm import Arm
from deploy.region import DATABASE, PYTHON, DeploymentPlan, Lacking, RegionChecks
from tests.standins.azure import SUBSCRIPTION, Fault, ResourceManager
from tests.standins.azure.account import deleted_vault, flex_sku
from tests.standins.azure.shapes import Resource
from tests.unit.infra.snapshots import of, one
from tests.unit.infra.templates import INFRA

DEFAULT = DeploymentPlan()


def _checks(arm: Arm, plan: DeploymentPlan = DEFAULT) -> RegionChecks:
    return RegionChecks(arm, SUBSCRIPTION, plan)


def test_what_is_not_set_should_be_what_azd_deploys() -> None:
    parameters = json.loads((INFRA / "main.parameters.json").read_text("utf-8"))["parameters"]
    given = dict(re.findall(r"\$\{(\w+)=([^}]*)\}", json.dumps(parameters)))
    assert DeploymentPlan.of(given, "eastus") == DeploymentPlan.of({}, "eastus") == DEFAULT


def test_what_is_set_should_count() -> None:
    environ = {
        "AZURE_LOCATION": "westus3",
        "AZURE_ENV_NAME": "prod",
        "GPULAUNCH_OWN_SKYPILOT": "false",
        "GPULAUNCH_OWN_GATEWAY": "true",
        "GPULAUNCH_STORAGE_SKU": "Standard_LRS",
        "GPULAUNCH_INSTANCE_MEMORY_MB": "512",
        "GPULAUNCH_MAX_APP_INSTANCES": "100",
        "GPULAUNCH_MONTHLY_BUDGET": "0",
    }
    assert DeploymentPlan.of(environ, "eastus") == DeploymentPlan(
        region="westus3",
        environment="prod",
        server=False,
        gateway=True,
        storage="Standard_LRS",
        memory=512,
        instances=100,
        budget=0,
    )


def test_what_is_asked_for_should_be_what_the_templates_deploy() -> None:
    database = one("dev", "Microsoft.DBforPostgreSQL/flexibleServers", "psql-")
    assert (database["properties"]["version"], database["sku"]["tier"], database["sku"]["name"]) == DATABASE
    site = one("dev", "Microsoft.Web/sites", "func-")["properties"]["functionAppConfig"]
    assert site["runtime"]["version"] == PYTHON
    assert site["scaleAndConcurrency"]["instanceMemoryMB"] == DEFAULT.memory
    assert len(of("prod", "Microsoft.App/managedEnvironments")) == 2
    skus = {case: {account["sku"]["name"] for account in _accounts(case)} for case in ("dev", "existing-server")}
    assert skus == {"dev": {"Standard_ZRS", "Standard_LRS"}, "existing-server": {"Standard_LRS"}}
    budgets = {case: len(of(case, "Microsoft.Consumption/budgets")) for case in ("dev", "existing-server")}
    assert budgets == {"dev": 1, "existing-server": 0}


def _accounts(case: str) -> list[dict[str, dict[str, str]]]:
    return of(case, "Microsoft.Storage/storageAccounts")


def test_a_region_without_flex_should_fail(arm: Arm) -> None:
    with pytest.raises(Lacking, match="westus2 has no Flex Consumption"):
        _checks(arm, DeploymentPlan(region="westus2")).flex()


def test_flex_without_our_python_should_fail(manager: ResourceManager, arm: Arm) -> None:
    manager.account.flex = flex_sku("3.12")
    with pytest.raises(Lacking, match=r"does not run Python 3\.13"):
        _checks(arm).flex()


@pytest.mark.parametrize(("instances", "advised"), [(10, 40), (2000, 1000)])
def test_a_number_of_instances_that_the_region_refuses_should_fail(arm: Arm, instances: int, advised: int) -> None:
    with pytest.raises(Lacking, match=f"40 to 1000 .* not {instances}") as caught:
        _checks(arm, DeploymentPlan(instances=instances)).flex()
    assert caught.value.args[1] == f"azd env set GPULAUNCH_MAX_APP_INSTANCES {advised}"


def test_a_region_that_takes_fewer_instances_should_take_them(manager: ResourceManager, arm: Arm) -> None:
    manager.account.flex = flex_sku("3.13", least=1)
    assert "1 to 1000 instances" in _checks(arm, DeploymentPlan(instances=10)).flex()


def test_a_size_of_instance_that_the_region_lacks_should_fail(manager: ResourceManager, arm: Arm) -> None:
    manager.account.flex = flex_sku("3.13", sizes=(2048, 4096))
    with pytest.raises(Lacking, match="not of 512"):
        _checks(arm, DeploymentPlan(memory=512)).flex()


def test_a_region_without_zones_should_get_the_setting_that_does_without(manager: ResourceManager, arm: Arm) -> None:
    assert _checks(arm).storage() == "Standard_ZRS in eastus"
    manager.account.storage_skus = ["Standard_LRS"]
    with pytest.raises(Lacking, match="it has no zones") as caught:
        _checks(arm).storage()
    assert caught.value.args[1] == "azd env set GPULAUNCH_STORAGE_SKU Standard_LRS"
    assert _checks(arm, DeploymentPlan(storage="Standard_LRS")).storage() == "Standard_LRS in eastus"


@pytest.mark.parametrize(
    "closed",
    [
        {"restricted": "Enabled", "reason": "LocationIsOfferRestricted"},
        {"supportedFeatures": [{"name": "OfferRestricted", "status": "Enabled"}]},
    ],
)
def test_a_database_that_is_closed_to_the_offer_should_fail(
    manager: ResourceManager, arm: Arm, closed: dict[str, Any]
) -> None:
    manager.account.database |= closed
    with pytest.raises(Lacking, match=r"closed to this subscription \(LocationIsOfferRestricted\)"):
        _checks(arm).database()


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"supportedServerVersions": [{"name": "17"}]}, "no Postgres 16 on Standard_B1ms"),
        ({"supportedServerEditions": []}, "no Postgres 16"),
        (None, "has no Postgres Flexible Server"),
    ],
)
def test_a_region_without_this_database_should_fail(
    manager: ResourceManager, arm: Arm, changed: dict[str, Any] | None, said: str
) -> None:
    manager.account.database = {} if changed is None else manager.account.database | changed
    with pytest.raises(Lacking, match=said):
        _checks(arm).database()


def test_container_apps_should_have_room_for_both_environments(manager: ResourceManager, arm: Arm) -> None:
    manager.account.environments = (14, 15)
    assert _checks(arm).environments() == "room for 1 Container Apps environment in eastus"
    with pytest.raises(Lacking, match="2 more Container Apps environments needed in eastus, 1 free") as caught:
        _checks(arm, DeploymentPlan(gateway=True)).environments()
    assert "--resource-name ManagedEnvironmentCount --limit-object value=16 " in caught.value.args[1]


def test_environments_of_an_earlier_deployment_should_count_as_room(manager: ResourceManager, arm: Arm) -> None:
    manager.account.environments = (1, 1)
    manager.add_group("rg-prod")
    made = Resource(
        group="rg-prod",
        namespace="Microsoft.App",
        kind="managedEnvironments",
        name="cae-1",
        location="eastus",
        created_at=manager.now(),
        tags={"azd-env-name": "prod"},
    )
    manager.add(made)
    assert _checks(arm, DeploymentPlan(environment="prod")).environments().startswith("room for 1")
    with pytest.raises(Lacking, match="1 more Container Apps environment needed in eastus, 0 free"):
        _checks(arm, DeploymentPlan(environment="dev")).environments()


def test_deleted_vaults_of_the_environment_should_be_brought_back_first(manager: ResourceManager, arm: Arm) -> None:
    prod = DeploymentPlan(environment="prod")
    manager.account.deleted_vaults = [deleted_vault("kv-dev", "dev"), deleted_vault("kv-west", "prod", "westus2")]
    assert _checks(arm, prod).vaults() == "no deleted vault of prod"
    manager.account.deleted_vaults += [deleted_vault("kv-1", "prod"), deleted_vault("kvg-1", "prod")]
    with pytest.raises(Lacking, match="kv-1, kvg-1") as caught:
        _checks(arm, prod).vaults()
    assert caught.value.args[1] == (
        "az group create --name rg-prod --location eastus; az keyvault recover --name kv-1 --location eastus;"
        " az keyvault recover --name kvg-1 --location eastus"
    )


def test_without_an_environment_no_vault_should_be_guessed_at(manager: ResourceManager, arm: Arm) -> None:
    assert "azd env get-values" in _checks(arm).vaults()
    assert manager.calls == []


@pytest.mark.parametrize(
    ("quota_id", "plan", "said"),
    [
        ("FreeTrial_2014-09-01", DEFAULT, "build no images"),
        ("Sponsored_2016-01-01", DEFAULT, "no budgets"),
        ("AzureForStudents_2018-01-01", DeploymentPlan(server=False), "no budgets"),
        ("FreeTrial_2014-09-01", DeploymentPlan(server=False), None),
        ("Sponsored_2016-01-01", DeploymentPlan(budget=0), None),
        ("EnterpriseAgreement_2014-09-01", DEFAULT, None),
    ],
)
def test_an_offer_should_allow_what_is_deployed(
    manager: ResourceManager, arm: Arm, quota_id: str, plan: DeploymentPlan, said: str | None
) -> None:
    manager.account.quota_id = quota_id
    if said is None:
        assert _checks(arm, plan).offer() == quota_id
        return
    with pytest.raises(Lacking, match=said):
        _checks(arm, plan).offer()


def test_a_subscription_that_is_too_new_for_budgets_should_do_without(manager: ResourceManager, arm: Arm) -> None:
    manager.faults.append(Fault("GET", "/budgets$", 422, "SubscriptionNotSupported"))
    with pytest.raises(Lacking, match="SubscriptionNotSupported") as caught:
        _checks(arm).offer()
    assert caught.value.args[1] == "azd env set GPULAUNCH_MONTHLY_BUDGET 0"
