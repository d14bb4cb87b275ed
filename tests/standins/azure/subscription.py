"""A subscription behind HTTPS, and the program's own view of it through the real client."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from shared.clouds.azure.client import AzureClient
from shared.clouds.azure.compute import AzureCompute
from shared.domain.deployment import skypilot_user
from tests.standins.azure.clusters import add_cluster
from tests.standins.azure.credential import StaticCredential
from tests.standins.azure.manager import ResourceManager
from tests.standins.azure.server import AzureServer
from tests.standins.azure.shapes import Resource
from tests.twins.clock import ManualClock
from tests.twins.factories import DEPLOYMENT

USER_ID = skypilot_user(DEPLOYMENT)
"""SkyPilot's user id, a part of every name in the cloud."""


def cluster(number: int, attempt: int = 1) -> str:
    return f"gl-01k{number:023d}-{attempt:02d}"


@dataclass
class Subscription:
    manager: ResourceManager
    server: AzureServer
    clock: ManualClock
    azure: AzureCompute

    def launch(
        self, name: str, *, region: str = "eastus", spot: bool = True, group: str | None = None, **labels: str
    ) -> Resource:
        """Put there what SkyPilot leaves behind after a launch of that cluster."""
        tags = {
            "gpulaunch-instance": f"inst-{name[3:29].upper()}",
            "gpulaunch-attempt": "1",
            "gpulaunch-workspace": "default",
            "gpulaunch-deployment": DEPLOYMENT,
            **{key.replace("_", "-"): value for key, value in labels.items()},
        }
        return add_cluster(self.manager, f"{name}-{USER_ID}", region=region, group=group, spot=spot, **tags)

    def left(self) -> list[str]:
        """Types of everything that is left in the subscription, groups among them."""
        groups = ["group"] * len(self.manager.groups)
        return sorted([resource.kind for resource in self.manager.resources.values()] + groups)


def serve_subscription(folder: Path, clock: ManualClock | None = None) -> Iterator[Subscription]:
    """Serve an empty subscription for one test, which may make no call that the stand-in doesn't know."""
    clock = clock or ManualClock()
    manager = ResourceManager(now=clock.now)
    with AzureServer(manager, folder) as server:
        client = AzureClient(
            manager.subscription, clock, credential=StaticCredential(), endpoint=server.endpoint, ca=str(server.ca)
        )
        azure = AzureCompute(client, clock, USER_ID)
        yield Subscription(manager, server, clock, azure)
        azure.close()
        assert manager.unknown == []
