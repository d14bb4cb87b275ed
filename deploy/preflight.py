"""What an Azure account lacks before `azd up` and the first node, each with the command that fixes it."""

import fnmatch
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final

import typer
from azure.core.exceptions import AzureError, ClientAuthenticationError

from deploy.arm import Arm, signed_in
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
)
"""What the template needs beyond creating resources: it defines two roles and assigns them."""


@dataclass(frozen=True)
class Wish:
    """What is to be launched, and where."""

    region: str = "eastus"
    instance_type: str = "Standard_NV36ads_A10_v5"
    spot: bool = True
    subscription: str | None = None
    """None: the only one that the account has."""


def preflight(
    *,
    region: Annotated[str, typer.Option(help="Where to launch.")] = "eastus",
    instance_type: Annotated[str, typer.Option(help="The machine type.")] = "Standard_NV36ads_A10_v5",
    use_spot: Annotated[bool, typer.Option(help="On a spot machine.")] = True,
    as_json: Json = False,
) -> None:
    """Check what the Azure account lacks, and print the command that fixes it."""
    wish = Wish(region, instance_type, use_spot, os.environ.get("AZURE_SUBSCRIPTION_ID") or None)
    raise typer.Exit(report(Session(as_json=as_json), azure_checks(Arm(signed_in()), wish)))


def azure_checks(arm: Arm, wish: Wish) -> Iterator[CheckResult]:
    """Check one subscription, from the login to the quota for one machine; the first failed login is the last check."""
    try:
        found = list(arm.every("/subscriptions", "2022-12-01"))
    except ClientAuthenticationError:
        yield _failed("azure login", "not signed in on this machine", "az login")
        return
    except AzureError as error:
        yield _failed("azure login", f"cannot reach Azure: {_line(error)}", "az account show")
        return
    chosen = _subscription(found, wish)
    yield chosen[1]
    if chosen[0] is None:
        return
    for check in (_providers, _permissions, _region, _quota):
        try:
            yield check(arm, chosen[0], wish)
        except AzureError as error:
            name = check.__name__.strip("_")
            yield _failed(f"azure {name}", f"the check failed: {_line(error)}", "az account show")


def _line(error: Exception) -> str:
    return str(error).splitlines()[0][:200]


def _failed(name: str, detail: str, command: str) -> CheckResult:
    return CheckResult(name=name, state="failed", detail=detail, advice=f"`{command}`")


def _subscription(found: Sequence[dict[str, Any]], wish: Wish) -> tuple[str | None, CheckResult]:
    name = "azure login"
    names = {str(item["subscriptionId"]): f"{item['displayName']} ({item['state']})" for item in found}
    enabled = [str(item["subscriptionId"]) for item in found if item["state"] == "Enabled"]
    if wish.subscription is not None:
        if wish.subscription not in names:
            return None, _failed(name, f"no access to the subscription {wish.subscription}", "az account list")
        enabled = [one for one in enabled if one == wish.subscription]
    if not enabled:
        return None, _failed(name, f"no enabled subscription; found {names or 'none'}", "az login")
    if len(enabled) > 1:
        listed = "; ".join(f"{one} {names[one]}" for one in enabled)
        detail = f"several subscriptions: {listed}"
        return None, _failed(name, detail, f"export AZURE_SUBSCRIPTION_ID={enabled[0]}")
    return enabled[0], CheckResult(name=name, state="ok", detail=f"{enabled[0]} {names[enabled[0]]}")


def _providers(arm: Arm, subscription: str, wish: Wish) -> CheckResult:  # noqa: ARG001 - all checks have one signature
    name = "azure providers"
    found = arm.every(f"/subscriptions/{subscription}/providers", "2021-04-01")
    states = {str(item["namespace"]).lower(): str(item["registrationState"]) for item in found}
    missing = [one for one in PROVIDERS if states.get(one.lower()) != "Registered"]
    if missing:
        commands = "; ".join(f"az provider register --subscription {subscription} --namespace {one}" for one in missing)
        return _failed(name, f"not registered: {', '.join(missing)}", commands)
    return CheckResult(name=name, state="ok", detail=f"all {len(PROVIDERS)} are registered")


def _permissions(arm: Arm, subscription: str, wish: Wish) -> CheckResult:  # noqa: ARG001
    name = "azure roles"
    path = f"/subscriptions/{subscription}/providers/Microsoft.Authorization/permissions"
    given = list(arm.every(path, "2022-04-01"))
    missing = [action for action in ACTIONS if not any(_allows(entry, action) for entry in given)]
    if missing:
        command = (
            f"az role assignment create --role Owner --scope /subscriptions/{subscription}"
            ' --assignee "$(az ad signed-in-user show --query id -o tsv)"'
        )
        return _failed(name, f"not allowed: {', '.join(missing)}; ask an owner to run the command", command)
    return CheckResult(name=name, state="ok", detail="may deploy, define roles and assign them")


def _allows(entry: dict[str, Any], action: str) -> bool:
    def matches(patterns: Sequence[str]) -> bool:
        return any(fnmatch.fnmatchcase(action.lower(), pattern.lower()) for pattern in patterns)

    return matches(entry.get("actions", [])) and not matches(entry.get("notActions", []))


def _region(arm: Arm, subscription: str, wish: Wish) -> CheckResult:
    name = "azure region"
    known = {str(item["name"]) for item in arm.every(f"/subscriptions/{subscription}/locations", "2022-12-01")}
    if wish.region not in known:
        command = "az account list-locations --query '[].name' --output tsv"
        return _failed(name, f"{wish.region} is not a region of this subscription", command)
    path = f"/subscriptions/{subscription}/providers/Microsoft.Web/geoRegions?sku=FlexConsumption"
    flex = {str(item["name"]).replace(" ", "").lower() for item in arm.every(path, "2024-04-01")}
    if wish.region not in flex:
        detail = f"{wish.region} has no Flex Consumption; deploy the control plane to another region than the nodes"
        return _failed(name, detail, "az functionapp list-flexconsumption-locations --output table")
    return CheckResult(name=name, state="ok", detail=f"{wish.region}, with Flex Consumption")


def _quota(arm: Arm, subscription: str, wish: Wish) -> CheckResult:
    name = "azure quota"
    compute = arm.compute(subscription)
    skus = compute.resource_skus.list(filter=f"location eq '{wish.region}'")
    sku = next((one for one in skus if one.name == wish.instance_type), None)
    if sku is None:
        command = f"az vm list-skus --location {wish.region} --resource-type virtualMachines --output table"
        return _failed(name, f"{wish.region} has no {wish.instance_type}", command)
    if any(one.type == "Location" for one in sku.restrictions or []):
        detail = f"{wish.instance_type} is not offered to this subscription in {wish.region}"
        return _failed(name, detail, "az support in-subscription tickets create --help")
    wanted = next((int(one.value or 0) for one in sku.capabilities or [] if one.name == "vCPUs"), 0)
    counters = ["lowPriorityCores"] if wish.spot else [str(sku.family), "cores"]
    usages = {str(one.name.value).lower(): one for one in compute.usage.list(wish.region) if one.name}
    short: list[str] = []
    commands: list[str] = []
    for counter in counters:
        usage = usages.get(counter.lower())
        free = 0 if usage is None else usage.limit - usage.current_value
        if free < wanted:
            used = 0 if usage is None else usage.current_value
            short.append(f"{counter}: {wanted} cores needed, {max(free, 0)} free")
            kind = "lowPriority" if wish.spot else "dedicated"
            commands.append(
                f"az quota update --resource-name {counter} --resource-type {kind} --limit-object value={used + wanted}"
                f" --scope /subscriptions/{subscription}/providers/Microsoft.Compute/locations/{wish.region}"
            )
    if short:
        return _failed(name, "; ".join(short), "; ".join(commands))
    kind = "spot" if wish.spot else "on-demand"
    return CheckResult(name=name, state="ok", detail=f"room for one {wish.instance_type} ({kind}, {wanted} cores)")
