"""A resource manager that runs, and the program's own view of it through the real client."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from shared.clouds.azure.client import AzureClient
from shared.clouds.azure.compute import AzureCompute
from shared.settings import Settings
from tests.standins.azure import AzureServer, ResourceManager, StaticCredential
from tests.standins.azure.shapes import Resource
from tests.twins.clock import ManualClock

USER_ID = str(Settings.model_fields["skypilot_user_id"].default)
"""What SkyPilot is told that our user is."""


def cluster(number: int, attempt: int = 1) -> str:
    """The name of an attempt's cluster."""
    return f"gl-01k{number:023d}-{attempt:02d}"


@dataclass
class AzureWorld:
    """One subscription with a clock that a test moves."""

    manager: ResourceManager
    server: AzureServer
    clock: ManualClock
    azure: AzureCompute

    def launch(
        self, name: str, *, region: str = "eastus", spot: bool = True, group: str | None = None, **labels: str
    ) -> Resource:
        """Put there what SkyPilot leaves behind after a launch of that cluster."""
        on_cloud = f"{name}-{USER_ID}"
        group = group or f"{on_cloud}-{region}"
        self.manager.add_group(group, region)
        tags = {
            "skypilot-cluster-name": on_cloud,
            "ray-cluster-name": on_cloud,
            "gpulaunch-instance": f"inst-{name[3:29].upper()}",
            "gpulaunch-attempt": "1",
            "gpulaunch-workspace": "default",
            **{key.replace("_", "-"): value for key, value in labels.items()},
        }
        for kind, ending in (
            ("Microsoft.Network/networkSecurityGroups", "nsg"),
            ("Microsoft.Network/virtualNetworks", "vnet"),
            ("Microsoft.ManagedIdentity/userAssignedIdentities", "msi"),
        ):
            namespace, _, short = kind.partition("/")
            part = Resource(group, namespace, short, f"sky-{on_cloud}-ab12-{ending}", region, self.clock.now())
            self.manager.add(part)
        return self.manager.machines.add(group, f"{on_cloud}-cd34-0", tags=tags, spot=spot)

    def left(self) -> list[str]:
        """Types of everything that is left in the subscription, groups among them."""
        groups = ["group"] * len(self.manager.groups)
        return sorted([resource.kind for resource in self.manager.resources.values()] + groups)


def azure_world(folder: Path, clock: ManualClock | None = None) -> Iterator[AzureWorld]:
    """A world, ended when the test is."""
    clock = clock or ManualClock()
    manager = ResourceManager(now=clock.now)
    with AzureServer(manager, folder) as server:
        client = AzureClient(
            manager.subscription, clock, credential=StaticCredential(), endpoint=server.endpoint, ca=str(server.ca)
        )
        azure = AzureCompute(client, clock, USER_ID)
        yield AzureWorld(manager, server, clock, azure)
        azure.close()
        assert manager.unknown == []
