"""What the control plane needs of its region and of the subscription's offer, without which `azd up` stops half-way."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from azure.core.exceptions import HttpResponseError

from deploy.arm import Arm

PYTHON: Final = "3.13"
DATABASE: Final = ("16", "Burstable", "Standard_B1ms")
"""Version, tier and size of SkyPilot's database, as infra/modules/database.bicep has them."""
_CREDITS: Final = ("FreeTrial_", "AzurePass_", "AzureForStudents_", "DreamSpark_")
"""Offers that are paid by credits: the registry builds no images there (`TasksOperationsNotAllowed`)."""
_NO_BUDGETS: Final = ("AzureForStudents_", "DreamSpark_", "Sponsored_")
"""https://learn.microsoft.com/azure/cost-management-billing/costs/understand-cost-mgt-data, "not supported yet"."""


class Lacking(Exception):  # noqa: N818 - a finding, not an error of the program
    """A check's finding: what is missing, and the command that fixes it."""


@dataclass(frozen=True, kw_only=True)
class DeploymentPlan:
    """What `azd up` is to deploy; the defaults are those of infra/main.parameters.json."""

    region: str = "eastus"
    environment: str = ""
    """azd's name for it; empty: not known yet."""
    server: bool = True
    """With a SkyPilot API server."""
    gateway: bool = False
    storage: str = "Standard_ZRS"
    memory: int = 2048
    """Megabytes of an instance of the app."""
    instances: int = 40
    """Most instances of each group of functions."""
    budget: float = 500
    """0: none."""

    @classmethod
    def of(cls, environ: Mapping[str, str], region: str) -> "DeploymentPlan":
        """Read the environment that `azd env get-values` prints; what is not set there has its default."""

        def given(name: str, default: object) -> str:
            return environ.get(name) or str(default)

        return cls(
            region=given("AZURE_LOCATION", region),
            environment=given("AZURE_ENV_NAME", ""),
            server=given("GPULAUNCH_OWN_SKYPILOT", cls.server).lower() == "true",
            gateway=given("GPULAUNCH_OWN_GATEWAY", cls.gateway).lower() == "true",
            storage=given("GPULAUNCH_STORAGE_SKU", cls.storage),
            memory=int(given("GPULAUNCH_INSTANCE_MEMORY_MB", cls.memory)),
            instances=int(given("GPULAUNCH_MAX_APP_INSTANCES", cls.instances)),
            budget=float(given("GPULAUNCH_MONTHLY_BUDGET", cls.budget)),
        )


class RegionChecks:
    """Each check returns what is there, or raises Lacking."""

    def __init__(self, arm: Arm, subscription: str, plan: DeploymentPlan) -> None:
        self._arm = arm
        self._subscription = subscription
        self._plan = plan

    def flex(self) -> str:
        """Flex Consumption, its Python, and what it takes of memory and instances."""
        plan = self._plan
        found = self._every("Microsoft.Web/geoRegions?sku=FlexConsumption", "2024-04-01")
        if plan.region not in {str(item["name"]).replace(" ", "").lower() for item in found}:
            detail = f"{plan.region} has no Flex Consumption; deploy the control plane to another region than the nodes"
            raise Lacking(detail, "az functionapp list-flexconsumption-locations --output table")
        sku = next(self._stacks(), None)
        listing = f"az functionapp list-flexconsumption-runtimes --location {plan.region} --runtime python"
        if sku is None:
            raise Lacking(f"Flex Consumption in {plan.region} does not run Python {PYTHON}", listing)
        sizes = {int(one["size"]) for one in sku["instanceMemoryMB"]}
        if plan.memory not in sizes:
            detail = f"Flex Consumption in {plan.region} has instances of {sorted(sizes)} MB, not of {plan.memory}"
            raise Lacking(detail, f"azd env set GPULAUNCH_INSTANCE_MEMORY_MB {min(sizes)}")
        bounds = sku["maximumInstanceCount"]
        least, most = int(bounds["lowestMaximumInstanceCount"]), int(bounds["highestMaximumInstanceCount"])
        if not least <= plan.instances <= most:
            detail = f"{plan.region} takes {least} to {most} as the largest number of instances, not {plan.instances}"
            raise Lacking(
                detail, f"azd env set GPULAUNCH_MAX_APP_INSTANCES {least if plan.instances < least else most}"
            )
        return f"{plan.region}, Python {PYTHON}, {plan.memory} MB, {least} to {most} instances"

    def _stacks(self) -> Iterator[Any]:
        """What Flex says of our Python, as azure-cli asks for it."""
        query = "removeHiddenStacks=true&removeDeprecatedStacks=true&stack=python&sku=FC1"
        path = f"/providers/Microsoft.Web/locations/{self._plan.region}/functionAppStacks?{query}"
        for stack in self._arm.every(path, "2020-10-01"):
            for major in stack["properties"]["majorVersions"]:
                for minor in major["minorVersions"]:
                    settings: Any = minor["stackSettings"].get("linuxRuntimeSettings") or {}
                    skus: Any = settings.get("Sku") or []
                    for sku in skus:
                        runtime: Any = sku["functionAppConfigProperties"]["runtime"]
                        if sku["skuCode"] == "FC1" and runtime["version"] == PYTHON:
                            yield sku

    def storage(self) -> str:
        """The redundancy of the data account; not every region has zones."""
        wanted, region = self._plan.storage, self._plan.region
        for sku in self._every("Microsoft.Storage/skus", "2024-01-01"):
            here = region in [str(one).lower() for one in sku.get("locations", [])]
            if here and sku["name"] == wanted and sku.get("kind") == "StorageV2" and not sku.get("restrictions"):
                return f"{wanted} in {region}"
        detail = f"{region} has no {wanted} storage" + (": it has no zones" if wanted.endswith("ZRS") else "")
        raise Lacking(detail, "azd env set GPULAUNCH_STORAGE_SKU Standard_LRS")

    def database(self) -> str:
        """Postgres Flexible Server, which is closed to some offers in some regions."""
        region = self._plan.region
        version, tier, size = DATABASE
        elsewhere = "az postgres flexible-server list-skus --location westus3"
        path = f"Microsoft.DBforPostgreSQL/locations/{region}/capabilities"
        found: Any = next(self._every(path, "2025-08-01"), None)
        if found is None:
            raise Lacking(f"{region} has no Postgres Flexible Server", elsewhere)
        known: Any = found.get("supportedFeatures") or []
        features = {str(one["name"]): str(one["status"]) for one in known}
        if "Enabled" in (found.get("restricted"), features.get("OfferRestricted")):
            reason = found.get("reason") or "LocationIsOfferRestricted"
            detail = f"Postgres in {region} is closed to this subscription ({reason}); deploy to another region"
            raise Lacking(detail, elsewhere)
        editions: Any = found.get("supportedServerEditions") or []
        skus = [sku for edition in editions if edition["name"] == tier for sku in edition["supportedServerSkus"]]
        sizes = {str(sku["name"]).lower() for sku in skus}
        releases: Any = found.get("supportedServerVersions") or []
        versions = {str(one["name"]) for one in releases}
        if size.lower() not in sizes or version not in versions:
            raise Lacking(
                f"{region} has no Postgres {version} on {size}",
                f"az postgres flexible-server list-skus --location {region}",
            )
        return f"Postgres {version} on {size} in {region}"

    def environments(self) -> str:
        """Room for the Container Apps environments: one for the API server, one for the gateway."""
        region, wanted = self._plan.region, self._plan.server + self._plan.gateway
        named = f"Container Apps environment{'s' if wanted > 1 else ''}"
        usages = self._every(f"Microsoft.App/locations/{region}/usages", "2025-07-01")
        counts = {str(one["name"]["value"]): one for one in usages}
        count = counts.get("ManagedEnvironmentCount")
        # The service calls it `usage` (azure-cli's `containerapp list-usages`), its specification `currentValue`.
        used = int(count.get("usage", count.get("currentValue", 0))) if count else 0
        free = (int(count["limit"]) if count else 0) - used
        new = wanted - self._own_environments()
        if free < new:
            command = (
                f"az quota update --resource-name ManagedEnvironmentCount --limit-object value={used + new} --scope"
                f" /subscriptions/{self._subscription}/providers/Microsoft.App/locations/{region}"
            )
            raise Lacking(f"{new} more {named} needed in {region}, {max(free, 0)} free", command)
        return f"room for {wanted} {named} in {region}"

    def _own_environments(self) -> int:
        """Those that an earlier deployment of this environment has made already."""
        found = self._every("Microsoft.App/managedEnvironments", "2025-07-01")
        return sum(self._is_ours(one) for one in found)

    def _is_ours(self, resource: Any) -> bool:
        tags: Any = resource.get("tags") or {}
        return bool(self._plan.environment) and tags.get("azd-env-name") == self._plan.environment

    def vaults(self) -> str:
        """Deleted vaults of this environment, whose names the next deployment would use."""
        plan = self._plan
        if not plan.environment:
            return 'unknown without the environment; run: set -a; eval "$(azd env get-values)"; set +a'
        vaults = self._every("Microsoft.KeyVault/deletedVaults", "2023-07-01")
        ours = {str(one["name"]): one["properties"] for one in vaults if self._is_ours(one["properties"])}
        found = {name: str(one["vaultId"]) for name, one in ours.items() if one["location"] == plan.region}
        if found:
            names = ", ".join(found)
            group = next(iter(found.values())).split("/")[4]
            commands = [f"az group create --name {group} --location {plan.region}"]
            commands += [f"az keyvault recover --name {name} --location {plan.region}" for name in found]
            raise Lacking(f"deleted vaults hold the names: {names}", "; ".join(commands))
        return f"no deleted vault of {plan.environment}"

    def offer(self) -> str:
        """What the subscription is sold as: credits build no images, and some offers know no budgets."""
        found: Any = self._arm.get(f"/subscriptions/{self._subscription}", "2022-12-01") or {}
        policies: Any = found.get("subscriptionPolicies") or {}
        quota_id = str(policies.get("quotaId", "unknown"))
        if quota_id.startswith(_CREDITS) and (self._plan.server or self._plan.gateway):
            detail = f"the offer {quota_id} is paid by credits, and its registries build no images; upgrade it"
            raise Lacking(detail, "az account list --all")
        without = "azd env set GPULAUNCH_MONTHLY_BUDGET 0"
        if self._plan.budget and quota_id.startswith(_NO_BUDGETS):
            raise Lacking(f"the offer {quota_id} has no budgets", without)
        if self._plan.budget:
            try:
                list(self._every("Microsoft.Consumption/budgets", "2024-08-01"))
            except HttpResponseError as error:
                # A new subscription has none for up to 48 hours.
                raise Lacking(f"budgets are refused: {str(error).splitlines()[0][:200]}", without) from None
        return quota_id

    def _every(self, path: str, version: str) -> Iterator[Any]:
        return self._arm.every(f"/subscriptions/{self._subscription}/providers/{path}", version)
