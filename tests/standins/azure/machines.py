"""Virtual machines: creation with their disks, instance views, power, eviction, deletion."""

from typing import TYPE_CHECKING, Any

from tests.standins.azure.shapes import Body, Call, Group, RefusedError, Reply, Resource, stamp

if TYPE_CHECKING:
    from tests.standins.azure.manager import ResourceManager

_POWER = {"start": "running", "deallocate": "deallocated", "poweroff": "stopped", "restart": "running"}
_SHOWN = {"running": "VM running", "deallocated": "VM deallocated", "stopped": "VM stopped"}


class Machines:
    def __init__(self, manager: "ResourceManager") -> None:
        self._manager = manager

    def create(self, call: Call, group: Group, name: str) -> Reply:
        """Make a machine and its disk; 201 with an operation to ask for."""
        manager, body = self._manager, call.body
        properties: Body = dict(body["properties"])
        profile: Body = properties.get("networkProfile") or {}
        for reference in profile.get("networkInterfaces", []):
            if manager.by_id(reference["id"]) is None:
                message = f"Resource {reference['id']} referenced by {name} was not found."
                raise RefusedError(400, "InvalidResourceReference", message)
        machine = Resource(
            group=group.name,
            namespace="Microsoft.Compute",
            kind="virtualMachines",
            name=name,
            location=body["location"],
            created_at=manager.now(),
            tags=dict(body.get("tags") or {}),
            properties=properties,
            more={key: body[key] for key in ("identity", "zones") if key in body},
        )
        properties |= {
            "provisioningState": "Creating",
            "vmId": manager.fresh_id(),
            "timeCreated": stamp(manager.now()),
        }
        # Azure gives back no password and no custom data.
        for secret in ("adminPassword", "customData"):
            properties.get("osProfile", {}).pop(secret, None)
        manager.add(machine)
        self._provisioning(machine, "creating")
        error = manager.late_fault(call)
        operation = manager.begin(lambda: self._created(machine, error), error)
        return Reply(201, manager.view(machine), manager.started(operation, call, machine.location))

    def add(self, group: str, name: str, *, tags: dict[str, str], spot: bool = True, size: str = "") -> Resource:
        """Put a running machine with disk, interface and address there, without calls, for a test's beginning."""
        manager = self._manager
        location = manager.add_group(group).location
        network = "Microsoft.Network"
        address = manager.add(Resource(group, network, "publicIPAddresses", f"{name}-ip", location, manager.now()))
        address.properties = {"ipAddress": manager.address_of(name)}
        nic = manager.add(Resource(group, network, "networkInterfaces", f"{name}-nic-public", location, manager.now()))
        used = {"publicIPAddress": {"id": address.id_in(manager.subscription)}}
        nic.properties = {"ipConfigurations": [{"name": "ip", "properties": used}]}
        machine = Resource(group, "Microsoft.Compute", "virtualMachines", name, location, manager.now(), dict(tags))
        machine.properties = {
            "hardwareProfile": {"vmSize": size or "Standard_NV36ads_A10_v5"},
            "storageProfile": {"osDisk": {"createOption": "FromImage", "deleteOption": "Delete"}},
            "networkProfile": {"networkInterfaces": [{"id": nic.id_in(manager.subscription)}]},
            "timeCreated": stamp(manager.now()),
            **({"priority": "Spot"} if spot else {}),
        }
        manager.add(machine)
        self._created(machine, None)
        return machine

    def evict(self, machine: Resource) -> None:
        """What Azure does to a spot machine that it wants back, without an eviction policy."""
        self.set_power(machine, "deallocated")

    def vanish(self, machine: Resource) -> None:
        """Delete a machine behind everybody's back; its disk goes along as its option says, the rest stays."""
        self._deleted(machine)

    def set_power(self, machine: Resource, state: str) -> None:
        machine.statuses = [status for status in machine.statuses if not status["code"].startswith("PowerState/")]
        shown = {"code": f"PowerState/{state}", "level": "Info", "displayStatus": _SHOWN.get(state, f"VM {state}")}
        machine.statuses.append(shown)
        if state == "running":
            self._manager.on_boot(machine)
        else:
            self._manager.on_halt(machine)

    def shown(self, machine: Resource, query: Body) -> Body:
        manager = self._manager
        if query.get("statusOnly", "").casefold() == "true":
            return {
                "id": machine.id_in(manager.subscription, shouting=True),
                "name": machine.name,
                "type": machine.type,
                "location": machine.location,
                "properties": {
                    "vmId": machine.properties.get("vmId", ""),
                    "provisioningState": machine.properties["provisioningState"],
                    "instanceView": {"statuses": machine.statuses},
                },
            }
        body = manager.view(machine)
        if "instanceview" in query.get("$expand", "").casefold():
            body["properties"] = {**body["properties"], "instanceView": {"statuses": machine.statuses}}
        return body

    def act(self, call: Call, machine: Resource, action: str) -> Reply:
        manager = self._manager
        if (call.method, action) == ("GET", "instanceview"):
            return Reply(200, {"computerName": machine.name, "statuses": machine.statuses})
        if call.method != "POST":
            raise RefusedError(405, "MethodNotAllowed", f"{call.method} is not allowed here.")
        if action == "simulateeviction":
            self.evict(machine)
            return Reply(204)
        if action not in _POWER:
            raise RefusedError(404, "InvalidResourceType", f"There is no action {action}.")
        error = manager.late_fault(call)
        operation = manager.begin(lambda: None if error else self.set_power(machine, _POWER[action]), error)
        return Reply(202, None, manager.started(operation, call, machine.location))

    def delete(self, call: Call, machine: Resource) -> Reply:
        manager = self._manager
        error = manager.late_fault(call)
        self._provisioning(machine, "deleting")
        operation = manager.begin(lambda: None if error else self._deleted(machine), error)
        return Reply(202, None, manager.started(operation, call, machine.location))

    def halted(self, resource: Resource) -> None:
        """A resource of whatever kind goes; a machine that ran is told."""
        if resource.kind == "virtualMachines" and any(s["code"] == "PowerState/running" for s in resource.statuses):
            self._manager.on_halt(resource)

    def _created(self, machine: Resource, error: RefusedError | None) -> None:
        if error is not None:
            self._provisioning(machine, f"failed/{error.code}", error.message)
            return
        manager, disk = self._manager, machine.properties["storageProfile"]["osDisk"]
        made = Resource(
            group=machine.group,
            namespace="Microsoft.Compute",
            kind="disks",
            name=f"{machine.name}_OsDisk_1_{manager.fresh_id()}",
            location=machine.location,
            created_at=manager.now(),
            tags=dict(machine.tags),
            properties={"diskState": "Attached", "diskSizeGB": disk.get("diskSizeGB", 30)},
        )
        manager.add(made)
        disk.update(name=made.name, managedDisk={**disk.get("managedDisk", {}), "id": made.id_in(manager.subscription)})
        self._provisioning(machine, "succeeded")
        self.set_power(machine, "running")

    def _deleted(self, machine: Resource) -> None:
        self.halted(machine)
        self._manager.drop(machine)
        disk: dict[str, Any] = machine.properties.get("storageProfile", {}).get("osDisk", {})
        held = self._manager.by_id(disk.get("managedDisk", {}).get("id", ""))
        if held is None:
            return
        if disk.get("deleteOption") == "Delete":
            self._manager.drop(held)
        else:
            held.properties["diskState"] = "Unattached"

    def _provisioning(self, machine: Resource, state: str, message: str | None = None) -> None:
        machine.properties["provisioningState"] = state.partition("/")[0].capitalize()
        level = "Error" if state.startswith("failed") else "Info"
        status: Body = {
            "code": f"ProvisioningState/{state}",
            "level": level,
            "displayStatus": f"Provisioning {state.partition('/')[0]}",
            "time": stamp(self._manager.now()),
        }
        if message is not None:
            status["message"] = message
        kept = [known for known in machine.statuses if not known["code"].startswith("ProvisioningState/")]
        machine.statuses = [status, *kept]
