"""What an Azure account lacks before `azd up` and the first node, each with the command that fixes it."""

import fnmatch
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Final

import typer
from azure.core.exceptions import AzureError, ClientAuthenticationError

from deploy.arm import Arm, signed_in
from deploy.region import DeploymentPlan, Lacking, RegionChecks
from gpulaunch.cli.check import CheckResult, report
from gpulaunch.cli.session import Json, Session

PROVIDERS: Final = (
    "Microsoft.App",
    "Microsoft.Compute",
    "Microsoft.Consumption",
    "Microsoft.ContainerRegistry",
    "Microsoft.DBforPostgreSQL",
    "Microsoft.Insights",
    "Microsoft.KeyVault",
    "Microsoft.ManagedIdentity",
    "Microsoft.Network",
    "Microsoft.OperationalInsights",
    "Microsoft.Quota",
    "Microsoft.Storage",
    "Microsoft.Web",
)
"""Namespaces of the resources in infra/ and of nodes; requests for more cores go to Microsoft.Quota."""
ACTIONS: Final = (
    "Microsoft.Resources/deployments/write",
    "Microsoft.Resources/subscriptions/resourceGroups/write",
    "Microsoft.Authorization/roleDefinitions/write",
    "Microsoft.Authorization/roleAssignments/write",
    "Microsoft.Authorization/locks/write",
)
"""What the template needs beyond creating resources: it defines two roles, assigns them, and locks the records."""


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What is to be launched, and where."""

    region: str = "eastus"
    instance_type: str = "Standard_NV36ads_A10_v5"
    spot: bool = True
    subscription: str | None = None
    """None: the only one that the account has."""
    node_subscription: str | None = None
    """None: the same."""


def preflight(
    *,
    region: Annotated[str, typer.Option(help="Where to launch; the app is deployed to AZURE_LOCATION.")] = Wish.region,
    instance_type: Annotated[str, typer.Option(help="The machine type.")] = Wish.instance_type,
    use_spot: Annotated[bool, typer.Option(help="On a spot machine.")] = Wish.spot,
    as_json: Json = False,
) -> None:
    """Check what the Azure account lacks for `azd up` and a launch, and print the commands that fix it.

    What is to be deployed is read from the environment, as `azd env get-values` prints it.
    """
    subscription = os.environ.get("AZURE_SUBSCRIPTION_ID") or None
    nodes = os.environ.get("GPULAUNCH_NODE_SUBSCRIPTION_ID") or None
    wish = Wish(
        region=region,
        instance_type=instance_type,
        spot=use_spot,
        subscription=subscription,
        node_subscription=nodes,
    )
    checks = AccountChecks(Arm(signed_in()), wish, DeploymentPlan.of(os.environ, region))
    raise typer.Exit(report(Session(as_json=as_json), checks.run()))


class AccountChecks:
    """Checks one subscription, from the login to the quota for one machine."""

    def __init__(self, arm: Arm, wish: Wish, plan: DeploymentPlan) -> None:
        self._arm = arm
        self._wish = wish
        self._plan = plan
        self._subscription = ""

    def run(self) -> Iterator[CheckResult]:
        """Run all checks; without a subscription, the login is the last one."""
        yield self._result("login", self._login)
        if not self._subscription:
            return
        region = RegionChecks(self._arm, self._subscription, self._plan)
        checks: dict[str, Callable[[], str]] = {
            "providers": self._providers,
            "roles": self._roles,
            "offer": region.offer,
            "regions": self._regions,
            "flex": region.flex,
            "storage": region.storage,
            "vaults": region.vaults,
        }
        if self._plan.server:
            checks["database"] = region.database
        if self._plan.server or self._plan.gateway:
            checks["environments"] = region.environments
        checks["quota"] = self._quota
        for name, check in checks.items():
            yield self._result(name, check)

    def _result(self, name: str, check: Callable[[], str]) -> CheckResult:
        try:
            return CheckResult(name=f"azure {name}", state="ok", detail=check())
        except Lacking as lacking:
            detail, command = lacking.args
        except ClientAuthenticationError:
            detail, command = "not signed in on this machine", "az login"
        except AzureError as error:
            what = "the check failed" if self._subscription else "cannot reach Azure"
            detail, command = f"{what}: {str(error).splitlines()[0][:200]}", "az account show"
        return CheckResult(name=f"azure {name}", state="failed", detail=detail, advice=f"`{command}`")

    def _login(self) -> str:
        found = list(self._arm.every("/subscriptions", "2022-12-01"))
        names = {str(item["subscriptionId"]): f"{item['displayName']} ({item['state']})" for item in found}
        enabled = [str(item["subscriptionId"]) for item in found if item["state"] == "Enabled"]
        if (wanted := self._wish.subscription) is not None:
            if wanted not in names:
                raise Lacking(f"no access to the subscription {wanted}", "az account list")
            enabled = [one for one in enabled if one == wanted]
        if not enabled:
            raise Lacking(f"no enabled subscription; found {names or 'none'}", "az login")
        if len(enabled) > 1:
            listed = "; ".join(f"{one} {names[one]}" for one in enabled)
            raise Lacking(f"several subscriptions: {listed}", f"export AZURE_SUBSCRIPTION_ID={enabled[0]}")
        self._subscription = enabled[0]
        return f"{enabled[0]} {names[enabled[0]]}"

    def _providers(self) -> str:
        found = self._every("providers", "2021-04-01")
        states = {str(item["namespace"]).lower(): str(item["registrationState"]) for item in found}
        missing = [one for one in PROVIDERS if states.get(one.lower()) != "Registered"]
        if missing:
            commands = "; ".join(
                f"az provider register --subscription {self._subscription} --namespace {one}" for one in missing
            )
            raise Lacking(f"not registered: {', '.join(missing)}", commands)
        return f"all {len(PROVIDERS)} are registered"

    def _roles(self) -> str:
        given = list(self._every("providers/Microsoft.Authorization/permissions", "2022-04-01"))
        missing = [action for action in ACTIONS if not any(_allows(entry, action) for entry in given)]
        if missing:
            command = (
                f"az role assignment create --role Owner --scope /subscriptions/{self._subscription}"
                ' --assignee "$(az ad signed-in-user show --query id -o tsv)"'
            )
            raise Lacking(f"not allowed: {', '.join(missing)}; ask an owner to run the command", command)
        return "may deploy, define roles and assign them"

    def _regions(self) -> str:
        wanted = sorted({self._wish.region, self._plan.region})
        known = {str(item["name"]) for item in self._every("locations", "2022-12-01")}
        if unknown := [region for region in wanted if region not in known]:
            command = "az account list-locations --query '[].name' --output tsv"
            raise Lacking(f"{', '.join(unknown)}: not a region of this subscription", command)
        return ", ".join(wanted)

    def _quota(self) -> str:
        region, instance_type = self._wish.region, self._wish.instance_type
        nodes = self._wish.node_subscription or self._subscription
        compute = self._arm.compute(nodes)
        skus = compute.resource_skus.list(filter=f"location eq '{region}'")
        sku = next((one for one in skus if one.name == instance_type), None)
        if sku is None:
            command = f"az vm list-skus --location {region} --resource-type virtualMachines --output table"
            raise Lacking(f"{region} has no {instance_type}", command)
        if any(one.type == "Location" for one in sku.restrictions or []):
            detail = f"{instance_type} is not offered to this subscription in {region}"
            raise Lacking(detail, "az support in-subscription tickets create --help")
        wanted = next((int(one.value or 0) for one in sku.capabilities or [] if one.name == "vCPUs"), 0)
        usages = {str(one.name.value).lower(): one for one in compute.usage.list(region) if one.name}
        kind = "lowPriority" if self._wish.spot else "dedicated"
        short: list[str] = []
        commands: list[str] = []
        for counter in ["lowPriorityCores"] if self._wish.spot else [str(sku.family), "cores"]:
            usage = usages.get(counter.lower())
            used, limit = (usage.current_value, usage.limit) if usage else (0, 0)
            if limit - used < wanted:
                short.append(f"{counter}: {wanted} cores needed, {max(limit - used, 0)} free")
                commands.append(
                    f"az quota update --resource-name {counter} --resource-type {kind} --limit-object"
                    f" value={used + wanted} --scope"
                    f" /subscriptions/{nodes}/providers/Microsoft.Compute/locations/{region}"
                )
        if short:
            raise Lacking("; ".join(short), "; ".join(commands))
        return f"room for one {instance_type} ({'spot' if self._wish.spot else 'on-demand'}, {wanted} cores)"

    def _every(self, path: str, version: str) -> Iterator[Any]:
        return self._arm.every(f"/subscriptions/{self._subscription}/{path}", version)


def _allows(entry: dict[str, list[str]], action: str) -> bool:
    def matches(kind: str) -> bool:
        return any(fnmatch.fnmatchcase(action.lower(), pattern.lower()) for pattern in entry.get(kind, []))

    return matches("actions") and not matches("notActions")
