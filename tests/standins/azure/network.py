"""What Azure fills in for networks and identities, and which deletions it refuses."""

import json
from typing import TYPE_CHECKING, Any

from tests.standins.azure.shapes import RefusedError, Resource

if TYPE_CHECKING:
    from tests.standins.azure.manager import ResourceManager


def fill_in(manager: "ResourceManager", resource: Resource) -> None:
    properties = resource.properties
    properties.setdefault("provisioningState", "Succeeded")
    match resource.kind:
        case "publicIPAddresses":
            properties["ipAddress"] = manager.address_of(resource.name)
        case "networkInterfaces":
            for number, ip in enumerate(properties.get("ipConfigurations", [])):
                ip["id"] = f"{resource.id_in(manager.subscription)}/ipConfigurations/{ip['name']}"
                ip.setdefault("properties", {}).update(privateIPAddress=f"10.0.0.{4 + number}", primary=number == 0)
        case "userAssignedIdentities":
            properties |= {name: manager.fresh_id() for name in ("principalId", "clientId", "tenantId")}
        case "disks":
            properties.setdefault("diskState", "Unattached")
        case _:
            pass


def refuse_if_used(manager: "ResourceManager", resource: Resource) -> None:
    """Raise RefusedError where Azure won't delete a resource because another one needs it."""
    own = resource.id_in(manager.subscription).casefold()
    match resource.kind:
        case "disks" if resource.properties.get("diskState") == "Attached":
            message = f"Disk {resource.name} is attached to a VM."
            raise RefusedError(409, "OperationNotAllowed", message)
        case "networkInterfaces" if any(own in nics(machine) for machine in _all(manager, "Compute/virtualMachines")):
            message = f"Network Interface {resource.name} is used by an existing resource."
            raise RefusedError(400, "NicInUse", message)
        case "publicIPAddresses" | "networkSecurityGroups" | "virtualNetworks":
            users = _all(manager, "Network/networkInterfaces")
            if any(f'"{own}' in _text(user) for user in users):
                code = "PublicIPAddressCannotBeDeleted" if resource.kind.startswith("public") else "InUseResource"
                raise RefusedError(400, code, f"{resource.name} is in use.")
        case _:
            return


def nics(machine: Resource) -> list[str]:
    profile: dict[str, Any] = machine.properties.get("networkProfile") or {}
    return [str(reference["id"]).casefold() for reference in profile.get("networkInterfaces", [])]


def _all(manager: "ResourceManager", kind: str) -> list[Resource]:
    return manager.of_type(f"Microsoft.{kind}")


def _text(resource: Resource) -> str:
    return json.dumps(resource.properties).casefold()
