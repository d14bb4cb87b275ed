"""What would be deployed, as the deployment engine evaluates it: who may do what, and what two environments share."""

import json
import re

import pytest

from tests.unit.infra.snapshots import NAMES, Resource, container, grants, of, one, resources, settings, token

SUBSCRIPTION = "/subscriptions/11111111-1111-1111-1111-111111111111"
ROLES = {
    "b7e6dc6d-f1e8-4753-8033-0f276bb0955b": "Storage Blob Data Owner",
    "ba92f5b4-2d11-453d-a403-e96b0029c9fe": "Storage Blob Data Contributor",
    "974c5e8b-45b9-4653-ba55-5f855dd0fb88": "Storage Queue Data Contributor",
    "0a9a7e1f-b9d0-4cc4-a60d-0319b160aaa3": "Storage Table Data Contributor",
    "76199698-9eea-4c19-a6bd-0f25d6a0c5b2": "Storage Table Data Reader",
    "4633458b-17de-408a-b874-0445c86b69e6": "Key Vault Secrets User",
    "b86a8fe4-44ce-4948-aee5-eccb2c155cd7": "Key Vault Secrets Officer",
    "3913510d-42f4-4e42-8a64-420c390055eb": "Monitoring Metrics Publisher",
    "c6a89b2d-59bc-44d0-9896-0f6e12d7b80a": "Storage Queue Data Message Sender",
    "7f951dda-4ed3-4680-a7ca-43fe172d538d": "AcrPull",
}
"""https://learn.microsoft.com/azure/role-based-access-control/built-in-roles"""
APP = {
    ("Storage/storageAccounts/st", "Storage Blob Data Owner"),
    ("Storage/storageAccounts/st", "Storage Queue Data Contributor"),
    ("Storage/storageAccounts/st", "Storage Table Data Contributor"),
    ("Storage/storageAccounts/stpkg", "Storage Blob Data Contributor"),
    ("KeyVault/vaults/kv", "Key Vault Secrets User"),
    ("Insights/components/appi", "Monitoring Metrics Publisher"),
    (SUBSCRIPTION, "gpulaunch watcher"),
}
SKYPILOT = {
    ("KeyVault/vaults/kvs", "Key Vault Secrets Officer"),
    ("ContainerRegistry/registries/cr", "AcrPull"),
    (SUBSCRIPTION, "gpulaunch launcher"),
}
GATEWAY = {
    ("Storage/storageAccounts/st/tableServices/default/tables/gpulaunch", "Storage Table Data Reader"),
    ("Storage/storageAccounts/st/tableServices/default/tables/gpulaunchgateways", "Storage Table Data Contributor"),
    ("Storage/storageAccounts/st/queueServices/default/queues/gpulaunch-launches", "Storage Queue Data Message Sender"),
    ("KeyVault/vaults/kvg", "Key Vault Secrets User"),
    ("ContainerRegistry/registries/cr", "AcrPull"),
}
TOKENS = ("KeyVault/vaults/kvs", "Key Vault Secrets User")


NODES = "/subscriptions/33333333-3333-3333-3333-333333333333"
"""Where the nodes of `everything` run."""


def _elsewhere(given: set[tuple[str, str]]) -> set[tuple[str, str]]:
    return {(NODES if scope == SUBSCRIPTION else scope, role) for scope, role in given}


def _named(case: str) -> dict[str, set[tuple[str, str]]]:
    """The grants with the names of roles."""
    own = {
        role["name"]: role["properties"]["roleName"].removesuffix(f" {token(case)}")
        for role in of(case, "Microsoft.Authorization/roleDefinitions")
    }
    return {who: {(scope, (ROLES | own)[role]) for scope, role in given} for who, given in grants(case).items()}


@pytest.mark.parametrize(
    ("case", "expected"),
    [
        ("dev", {"app": APP | {TOKENS}, "skypilot": SKYPILOT}),
        ("prod", {"app": APP | {TOKENS}, "skypilot": SKYPILOT, "gateway": GATEWAY}),
        ("everything", {"app": _elsewhere(APP) | {TOKENS}, "skypilot": _elsewhere(SKYPILOT), "gateway": GATEWAY}),
        ("existing-server", {"app": APP}),
    ],
)
def test_each_identity_should_have_these_roles_and_no_other(
    case: str, expected: dict[str, set[tuple[str, str]]]
) -> None:
    assert _named(case) == expected
    assert len(of(case, "Microsoft.Authorization/roleAssignments")) == sum(map(len, expected.values()))


@pytest.mark.parametrize("case", NAMES)
def test_no_two_resources_should_have_the_same_id(case: str) -> None:
    ids = [found["id"] for found in resources(case)]
    assert len({*ids}) == len(ids) > 40


@pytest.mark.parametrize("case", NAMES)
def test_names_should_be_known_before_anything_is_deployed(case: str) -> None:
    unknown = {found["type"] for found in resources(case) if "[" in found["name"]}
    # Azure chooses the domain of the API server's environment.
    zones = "Microsoft.Network/privateDnsZones"
    assert unknown <= {zones, f"{zones}/A", f"{zones}/virtualNetworkLinks"}


def test_two_environments_should_share_nothing_that_names_or_takes_a_node() -> None:
    dev, prod = ({found["id"] for found in resources(case)} for case in ("dev", "prod"))
    assert dev & prod == set()
    users = {settings(case)["SKYPILOT_USER_ID"] for case in ("dev", "prod")}
    assert len(users) == 2
    assert all(re.fullmatch(r"[0-9a-f]{8}", user) for user in users)
    for case in ("dev", "prod"):
        environment = {item["name"]: item.get("value") for item in container(case, "skypilot")["env"]}
        assert environment["SKYPILOT_USER_ID"] == settings(case)["SKYPILOT_USER_ID"]


@pytest.mark.parametrize(("case", "subscription"), [("prod", SUBSCRIPTION), ("everything", NODES)])
def test_nodes_should_be_paid_watched_and_launched_in_one_subscription(case: str, subscription: str) -> None:
    environment = {item["name"]: item.get("value") for item in container(case, "skypilot")["env"]}
    assert f"/subscriptions/{settings(case)['AZURE_SUBSCRIPTION_ID']}" == subscription
    assert f"/subscriptions/{environment['AZURE_SUBSCRIPTION_ID']}" == subscription
    for kind in ("Microsoft.Consumption/budgets", "Microsoft.Authorization/roleDefinitions"):
        assert {found["id"].partition("/providers/")[0] for found in of(case, kind)} == {subscription}
    (budget,) = of(case, "Microsoft.Consumption/budgets")
    groups = [notice["contactGroups"] for notice in budget["properties"]["notifications"].values()]
    assert all(bool(found) == (subscription == SUBSCRIPTION) for found in groups)


def test_a_chosen_user_id_should_be_taken() -> None:
    assert settings("everything")["SKYPILOT_USER_ID"] == "0123abcd"


@pytest.mark.parametrize("case", NAMES)
def test_the_databases_password_should_be_where_it_is_secret_and_nowhere_else(case: str) -> None:
    # The engine shows neither the key that it follows from nor the secure output that holds it.
    text = re.compile(r"listKeys\(|listOutputsWithSecureValues\(")
    holding = {found["type"] for found in resources(case) if text.search(json.dumps(found))}
    database, app = "Microsoft.DBforPostgreSQL/flexibleServers", "Microsoft.App/containerApps"
    assert holding == (set() if case == "existing-server" else {database, app})


def test_the_server_should_get_its_database_without_a_vault_in_the_way() -> None:
    configuration = one("dev", "Microsoft.App/containerApps", "ca-skypilot-")["properties"]["configuration"]
    (secret,) = configuration["secrets"]
    assert {*secret} == {"name", "value"}


@pytest.mark.parametrize("case", NAMES)
def test_the_data_should_be_reached_from_this_deployments_subnets_alone(case: str) -> None:
    def rules(kind: str, name: str) -> set[str]:
        acls = one(case, kind, name)["properties"]["networkAcls"]
        assert acls["defaultAction"] == "Deny"
        return {rule["id"].rpartition("/")[2] for rule in acls["virtualNetworkRules"]}

    gateway = {"gateway"} if case in {"prod", "everything"} else set[str]()
    assert rules("Microsoft.Storage/storageAccounts", f"st{token(case)}") == {"app"} | gateway
    assert rules("Microsoft.KeyVault/vaults", "kv-") == {"app"}
    assert rules("Microsoft.KeyVault/vaults", "kvg-") == gateway
    if case != "existing-server":
        assert rules("Microsoft.KeyVault/vaults", "kvs-") == {"app", "skypilot"}


def test_subnets_should_not_overlap() -> None:
    from ipaddress import ip_network

    network = one("everything", "Microsoft.Network/virtualNetworks", "vnet-")["properties"]
    (space,) = (ip_network(prefix) for prefix in network["addressSpace"]["addressPrefixes"])
    subnets = [ip_network(subnet["properties"]["addressPrefix"]) for subnet in network["subnets"]]
    assert len(subnets) == 4
    assert all(subnet.subnet_of(space) for subnet in subnets)  # pyright: ignore[reportArgumentType] - both are IPv4
    assert not [(a, b) for a in subnets for b in subnets if a is not b and a.overlaps(b)]


REFUSED_SETTINGS = re.compile(r"^(FUNCTIONS_(WORKER_RUNTIME|EXTENSION_VERSION)|WEBSITE_\w+|ENABLE_ORYX_BUILD|SCM_\w+)$")
"""https://learn.microsoft.com/azure/azure-functions/functions-app-settings#flex-consumption-plan-deprecations"""


@pytest.mark.parametrize("case", NAMES)
def test_the_site_should_have_nothing_that_flex_refuses(case: str) -> None:
    # "Please remove or rename them", the resource manager of some regions says of properties that belong to other plans
    # (Azure/azure-cli#31414, microsoft/azure-pipelines-tasks#21032), and each region on its own day.
    properties = one(case, "Microsoft.Web/sites", "func-")["properties"]
    assert properties["siteConfig"] == {"minTlsVersion": "1.2"}
    assert [name for name in settings(case) if REFUSED_SETTINGS.match(name)] == []


def test_every_region_should_take_the_number_of_instances() -> None:
    counts = {case: _scale(case)["maximumInstanceCount"] for case in NAMES}
    assert counts == {"dev": 40, "prod": 40, "existing-server": 40, "everything": 100}


@pytest.mark.parametrize("case", NAMES)
def test_an_instance_should_answer_several_calls_at_a_time(case: str) -> None:
    at_once = _scale(case)["triggers"]["http"]["perInstanceConcurrency"]
    assert 1 < at_once <= int(settings(case)["PYTHON_THREADPOOL_THREAD_COUNT"])


def test_instances_should_stand_by_only_if_asked_to() -> None:
    assert _scale("dev")["alwaysReady"] == []
    assert _scale("everything")["alwaysReady"] == [{"name": "http", "instanceCount": 1}]


def test_the_records_should_be_locked_unless_somebody_does_not_want_it() -> None:
    locks = {case: of(case, "Microsoft.Authorization/locks") for case in NAMES}
    assert {case for case, found in locks.items() if not found} == {"existing-server"}
    for case, (lock,) in ((case, found) for case, found in locks.items() if found):
        assert lock["properties"]["level"] == "CanNotDelete"
        account = one(case, "Microsoft.Storage/storageAccounts", f"st{token(case)}")["id"]
        assert lock["id"] == f"{account}/providers/Microsoft.Authorization/locks/keep"


def test_the_app_should_be_tested_from_outside_only_if_asked_to() -> None:
    tests = {case: of(case, "Microsoft.Insights/webtests") for case in NAMES}
    assert {case for case, found in tests.items() if found} == {"everything"}
    (test,) = tests["everything"]
    assert test["properties"]["Request"]["RequestUrl"].startswith("[format('{0}/api/health', ")
    assert test["properties"]["ValidationRules"]["ExpectedHttpStatusCode"] == 200
    insights = one("everything", "Microsoft.Insights/components", "appi-")["id"]
    assert test["tags"][f"hidden-link:{insights}"] == "Resource"
    alert = one("everything", "Microsoft.Insights/metricAlerts", "alert-unreachable-")["properties"]
    assert 1 < alert["criteria"]["failedLocationCount"] < len(test["properties"]["Locations"])


def _scale(case: str) -> Resource:
    return one(case, "Microsoft.Web/sites", "func-")["properties"]["functionAppConfig"]["scaleAndConcurrency"]
