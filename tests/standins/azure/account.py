"""What a subscription may and has beside its resources: registrations, roles, regions, machine types, secrets."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tests.standins.azure.shapes import Body, Call, RefusedError, Reply

SUBSCRIPTION = "11111111-2222-3333-4444-555555555555"
_DATABASE: Body = {
    "name": "FlexibleServerCapabilities",
    "supportedFeatures": [{"name": "OfferRestricted", "status": "Disabled"}],
    "supportedServerEditions": [{"name": "Burstable", "supportedServerSkus": [{"name": "Standard_B1ms"}]}],
    "supportedServerVersions": [{"name": "16"}, {"name": "17"}],
}


def flex_sku(python: str, *, least: int = 40, sizes: Sequence[int] = (512, 2048, 4096)) -> Body:
    """What Flex Consumption says of one Python."""
    return {
        "skuCode": "FC1",
        "instanceMemoryMB": [{"size": size, "isDefault": size == 2048} for size in sizes],
        "maximumInstanceCount": {"lowestMaximumInstanceCount": least, "highestMaximumInstanceCount": 1000},
        "functionAppConfigProperties": {"runtime": {"name": "python", "version": python}},
    }


def deleted_vault(name: str, environment: str, location: str = "eastus") -> Body:
    """A vault that keeps its name for some weeks."""
    group = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/rg-{environment}"
    return {
        "name": name,
        "properties": {
            "vaultId": f"{group}/providers/Microsoft.KeyVault/vaults/{name}",
            "location": location,
            "tags": {"azd-env-name": environment},
            "purgeProtectionEnabled": True,
        },
    }


@dataclass
class Account:
    """Lists of Azure's own shapes where the program reads them; a test changes what it likes."""

    subscriptions: dict[str, str] = field(default_factory=lambda: {SUBSCRIPTION: "Enabled"})
    """State by id."""
    registrations: dict[str, str] = field(default_factory=dict[str, str])
    """State by resource provider."""
    permissions: list[Body] = field(default_factory=lambda: [{"actions": ["*"], "notActions": []}])
    locations: Sequence[str] = ("eastus", "westus2")
    flex_locations: Sequence[str] = ("East US",)
    """Regions with Flex Consumption, spelt as that list spells them."""
    flex: Body = field(default_factory=lambda: flex_sku("3.13"))
    """What Flex Consumption takes of a Python, everywhere."""
    quota_id: str = "PayAsYouGo_2014-09-01"
    """What the subscriptions are sold as."""
    storage_skus: Sequence[str] = ("Standard_LRS", "Standard_ZRS")
    """Of every region."""
    database: Body = field(default_factory=lambda: {**_DATABASE})
    """What Postgres Flexible Server can do, in every region; without anything, it is in none."""
    environments: tuple[int, int] = (0, 15)
    """Container Apps environments of a region, and how many it may have."""
    deleted_vaults: list[Body] = field(default_factory=list[Body])
    skus: list[Body] = field(default_factory=list[Body])
    secrets: dict[str, str] = field(default_factory=dict[str, str])
    """By `vault/name`. Azure shows the value to nobody who asks the resource manager."""
    references: Mapping[str, str] = field(default_factory=dict[str, str])
    """An app's settings that come from a vault, and whether they could be read."""

    revisions: Mapping[str, bool] = field(default_factory=dict[str, bool])
    """Of any Container App, and whether they are active."""

    def listed(self) -> list[Body]:
        """The subscriptions that whoever is signed in may see."""
        return [
            {
                "id": f"/subscriptions/{one}",
                "subscriptionId": one,
                "displayName": "Tests",
                "state": state,
                "subscriptionPolicies": {"quotaId": self.quota_id},
            }
            for one, state in self.subscriptions.items()
        ]

    def facts(self, path: Sequence[str]) -> list[Body] | None:
        """The items of a list about the subscription itself; None: no such list."""
        match path:
            case ["providers"]:
                states = self.registrations.items()
                return [{"namespace": name, "registrationState": state} for name, state in states]
            case ["providers", "microsoft.authorization", "permissions"]:
                return self.permissions
            case ["locations"]:
                return [{"name": name} for name in self.locations]
            case ["providers", "microsoft.web", "georegions"]:
                return [{"name": name} for name in self.flex_locations]
            case ["providers", "microsoft.compute", "skus"]:
                return self.skus
            case ["providers", "microsoft.storage", "skus"]:
                return [
                    {"name": name, "kind": "StorageV2", "locations": [region], "restrictions": []}
                    for name in self.storage_skus
                    for region in self.locations
                ]
            case ["providers", "microsoft.dbforpostgresql", "locations", _, "capabilities"]:
                return [self.database] if self.database else []
            case ["providers", "microsoft.app", "locations", _, "usages"]:
                used, limit = self.environments
                return [{"name": {"value": "ManagedEnvironmentCount"}, "usage": used, "limit": limit}]
            case ["providers", "microsoft.keyvault", "deletedvaults"]:
                return self.deleted_vaults
            case ["providers", "microsoft.consumption", "budgets"]:
                return []
            case _:
                return None

    def stacks(self) -> list[Body]:
        """The Pythons that Flex Consumption runs; this list belongs to no subscription."""
        settings = {"linuxRuntimeSettings": {"Sku": [self.flex]}}
        minor = {"value": self.flex["functionAppConfigProperties"]["runtime"]["version"], "stackSettings": settings}
        return [{"name": "python", "properties": {"majorVersions": [{"minorVersions": [minor]}]}}]

    def on_app(self, call: Call) -> Reply | None:
        """A call to a vault's secret, an app's references or a Container App's revisions; None: to none of them."""
        match [call.method, *call.parts[4:]]:
            case ["PUT", _, "Microsoft.KeyVault", "vaults", vault, "secrets", name]:
                self.secrets[f"{vault}/{name}"] = call.body["properties"]["value"]
                return Reply(201, _secret(name))
            case ["GET", _, "Microsoft.KeyVault", "vaults", vault, "secrets", name]:
                if f"{vault}/{name}" not in self.secrets:
                    raise RefusedError(404, "SecretNotFound", f"There is no secret {name} in {vault}.")
                return Reply(200, _secret(name))
            case ["POST", _, "Microsoft.Web", "sites", _, "config", "configreferences", "appsettings", "refresh"]:
                return Reply(200, {})
            case ["GET", _, "Microsoft.Web", "sites", app, "config", "configreferences", "appsettings"]:
                items = self.references.items()
                found = [{"name": f"{app}/{name}", "properties": {"status": status}} for name, status in items]
                return Reply(200, {"value": found})
            case ["GET", _, "Microsoft.App", "containerApps", _, "revisions"]:
                revisions = [{"name": name, "properties": {"active": on}} for name, on in self.revisions.items()]
                return Reply(200, {"value": revisions})
            case ["POST", _, "Microsoft.App", "containerApps", _, "revisions", name, "restart"]:
                if not self.revisions.get(name):
                    raise RefusedError(404, "RevisionNotFound", f"There is no active revision {name}.")
                return Reply(200, {})
            case _:
                return None


def _secret(name: str) -> Body:
    return {"name": name, "properties": {"attributes": {"enabled": True}}}
