"""What SkyPilot puts into a subscription for a cluster, put there without a call."""

from tests.standins.azure.manager import ResourceManager
from tests.standins.azure.shapes import Resource

_NETWORK = (
    ("Microsoft.Network", "networkSecurityGroups", "nsg"),
    ("Microsoft.Network", "virtualNetworks", "vnet"),
    ("Microsoft.ManagedIdentity", "userAssignedIdentities", "msi"),
)


def add_cluster(
    manager: ResourceManager,
    name: str,
    *,
    region: str = "eastus",
    group: str | None = None,
    spot: bool = True,
    **tags: str,
) -> Resource:
    """Add a cluster with everything that belongs to it; return its machine.

    `name` ends in SkyPilot's user id; without a `group` the cluster gets one to itself, as SkyPilot does it.
    """
    group = group or f"{name}-{region}"
    manager.add_group(group, region)
    for namespace, kind, ending in _NETWORK:
        manager.add(Resource(group, namespace, kind, f"sky-{name}-ab12-{ending}", region, manager.now()))
    tags = {"skypilot-cluster-name": name, "ray-cluster-name": name, **tags}
    return manager.machines.add(group, f"{name}-cd34-0", tags=tags, spot=spot)
