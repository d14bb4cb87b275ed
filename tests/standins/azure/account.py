"""What a subscription may and has beside its resources: registrations, roles, regions, machine types, secrets."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tests.standins.azure.shapes import Body, Call, RefusedError, Reply

SUBSCRIPTION = "11111111-2222-3333-4444-555555555555"


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
            {"id": f"/subscriptions/{one}", "subscriptionId": one, "displayName": "Tests", "state": state}
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
            case _:
                return None

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
