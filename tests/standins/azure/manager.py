"""The resource manager itself: groups, resources, deployments, usages, operations; paths without regard to case.

Everything happens by the given clock: a long-running operation is done `operation_seconds` after it began.
"""

import re
import threading
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any
from urllib.parse import urlencode

from tests.standins.azure.account import SUBSCRIPTION, Account
from tests.standins.azure.credential import TOKEN
from tests.standins.azure.machines import Machines
from tests.standins.azure.network import fill_in, refuse_if_used
from tests.standins.azure.shapes import Body, Call, Fault, Group, Operation, RefusedError, Reply, Resource, stamp

_SPELLED = {
    kind.casefold(): kind
    for kind in (
        "Microsoft.Compute/virtualMachines",
        "Microsoft.Compute/disks",
        "Microsoft.Network/networkInterfaces",
        "Microsoft.Network/publicIPAddresses",
        "Microsoft.Network/networkSecurityGroups",
        "Microsoft.Network/virtualNetworks",
        "Microsoft.ManagedIdentity/userAssignedIdentities",
        "Microsoft.Resources/deployments",
        "Microsoft.Authorization/roleAssignments",
        "Microsoft.App/managedEnvironments",
        "Microsoft.App/containerApps",
    )
}


@dataclass
class ResourceManager:
    """One subscription's resource manager."""

    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    subscription: str = SUBSCRIPTION
    operation_seconds: float = 0.0
    page_size: int = 200
    tokens: set[str] = field(default_factory=lambda: {TOKEN})
    faults: list[Fault] = field(default_factory=list[Fault])
    usages: dict[str, dict[str, tuple[int, int]]] = field(default_factory=dict[str, dict[str, tuple[int, int]]])
    """By region, then by name: current value and limit; regions without an entry answer with an empty list."""
    groups: dict[str, Group] = field(default_factory=dict[str, Group])
    resources: dict[tuple[str, str, str], Resource] = field(default_factory=dict[tuple[str, str, str], Resource])
    """By group, type and name, all in small letters."""
    operations: dict[str, Operation] = field(default_factory=dict[str, Operation])
    calls: list[str] = field(default_factory=list[str])
    """`METHOD path` of every call, in order."""
    heard: list[Call] = field(default_factory=list[Call])
    """The same calls as they came."""
    unknown: list[str] = field(default_factory=list[str])
    """Calls that it has no answer for; a test wants none."""
    address_of: Callable[[str], str] = lambda _: "203.0.113.10"
    """The address that a public address of that name gets."""
    on_boot: Callable[[Resource], None] = lambda _: None
    on_halt: Callable[[Resource], None] = lambda _: None
    """Told of machines that begin to run and that stop or go."""
    wake: Callable[[float, Callable[[], None]], object] = lambda _seconds, _settle: None
    """Called when an operation begins, with what has to be called that many seconds later, unless a call comes first.

    Needed where something other than the next call shows what has become of the subscription.
    """
    account: Account = field(default_factory=Account)
    lock: threading.RLock = field(default_factory=threading.RLock)

    def __post_init__(self) -> None:
        self.machines = Machines(self)
        self._ids = count(1)
        self._by_type: dict[str, dict[tuple[str, str, str], Resource]] = {}

    def answer(self, call: Call) -> Reply:
        with self.lock:
            self.calls.append(f"{call.method} {call.path}")
            self.heard.append(call)
            self.settle()
            try:
                self._admit(call)
                reply = self._route(call)
            except RefusedError as error:
                reply = error.reply
            reply.headers.setdefault("x-ms-request-id", self.fresh_id())
            return reply

    def count(self, pattern: str) -> int:
        return sum(re.search(pattern, call, re.IGNORECASE) is not None for call in self.calls)

    def settle(self) -> None:
        with self.lock:
            for operation in list(self.operations.values()):
                if not operation.finished and operation.done_at <= self.now():
                    operation.finished = True
                    operation.finish()

    def begin(self, finish: Callable[[], None], error: RefusedError | None = None) -> str:
        name = self.fresh_id()
        self.operations[name] = Operation(self.now() + timedelta(seconds=self.operation_seconds), finish, error)
        self.settle()
        self.wake(self.operation_seconds, self.settle)
        return name

    def fresh_id(self) -> str:
        """An id that nothing else has; the same in every run."""
        return str(uuid.UUID(int=next(self._ids)))

    def late_fault(self, call: Call) -> RefusedError | None:
        """The error with which this call's operation is to end."""
        for fault in self.faults:
            if fault.late and fault.hits(call.method, call.path, call.body):
                fault.times -= 1
                return fault.error
        return None

    def add_group(self, name: str, location: str = "eastus") -> Group:
        return self.groups.setdefault(name.casefold(), Group(name, location, {}))

    def add(self, resource: Resource) -> Resource:
        key = (resource.group.casefold(), resource.type.casefold(), resource.name.casefold())
        self.resources[key] = resource
        self._by_type.setdefault(key[1], {})[key] = resource
        return resource

    def drop(self, resource: Resource) -> None:
        key = (resource.group.casefold(), resource.type.casefold(), resource.name.casefold())
        self.resources.pop(key, None)
        self._by_type.get(key[1], {}).pop(key, None)

    def of_type(self, kind: str, group: str | None = None) -> list[Resource]:
        found = self._by_type.get(kind.casefold(), {}).values()
        return list(found) if group is None else [one for one in found if one.group.casefold() == group]

    def by_id(self, resource_id: str) -> Resource | None:
        parts = resource_id.strip("/").casefold().split("/")
        return self.resources.get((parts[3], f"{parts[5]}/{parts[6]}", parts[7])) if len(parts) >= 8 else None

    def started(self, operation: str, call: Call, location: str) -> dict[str, str]:
        """Headers that tell where an operation's status is to be asked."""
        where = f"{call.base}/subscriptions/{self.subscription}/providers/Microsoft.Compute/locations/{location}"
        version = "?api-version=2024-11-01"
        return {
            "Azure-AsyncOperation": f"{where}/operations/{operation}{version}",
            "Location": f"{where}/operations/{operation}{version}&monitor=true",
            "Retry-After": "1",
        }

    def _admit(self, call: Call) -> None:
        given = {name.casefold(): value for name, value in call.headers.items()}
        if given.get("authorization", "").removeprefix("Bearer ") not in self.tokens:
            raise RefusedError(401, "InvalidAuthenticationToken", "The access token is invalid.")
        for fault in self.faults:
            if not fault.late and fault.hits(call.method, call.path, call.body):
                fault.times -= 1
                raise fault.error
        if "api-version" not in call.query:
            message = "The api-version query parameter (?api-version=) is required for all requests."
            raise RefusedError(400, "MissingApiVersionParameter", message)

    def _route(self, call: Call) -> Reply:
        low = [part.casefold() for part in call.parts]
        if low == ["subscriptions"]:
            return self._page(call, self.account.listed())
        if low[:3] == ["providers", "microsoft.web", "locations"] and low[4:] == ["functionappstacks"]:
            return self._page(call, self.account.stacks())
        if low[:1] != ["subscriptions"]:
            return self._unknown(call)
        if low[1] != self.subscription:
            raise RefusedError(404, "SubscriptionNotFound", f"The subscription '{low[1]}' could not be found.")
        facts = self.account.facts(low[2:]) if call.method == "GET" else None
        if facts is not None:
            return self._page(call, facts)
        match [call.method, *low[2:]]:
            case ["GET"]:
                return Reply(200, next(one for one in self.account.listed() if one["subscriptionId"] == low[1]))
            case ["GET", "resourcegroups"]:
                return self._page(call, [self._group(group) for group in self.groups.values()])
            case ["GET", "resources"]:
                return self._resources(call, None)
            case [_, "resourcegroups", _]:
                return self._on_group(call, call.parts[3])
            case ["GET", "resourcegroups", group, "resources"]:
                self.group(group)
                return self._resources(call, group)
            case ["GET", "operationresults", name]:
                return self._operation(name, monitor=True)
            case ["GET", "providers", _, "locations", _, "operations", name]:
                return self._operation(name, monitor="monitor" in call.query)
            case ["GET", "providers", "microsoft.compute", "locations", region, "usages"]:
                return Reply(200, {"value": self._usages(region)})
            case [_, "providers", namespace, "register"] | ["GET", "providers", namespace]:
                return Reply(200, {"namespace": namespace, "registrationState": "Registered"})
            case ["GET", "providers", namespace, kind]:
                return self._list(call, f"{namespace}/{kind}", None)
            case ["GET", "resourcegroups", group, "providers", namespace, kind]:
                self.group(group)
                return self._list(call, f"{namespace}/{kind}", group)
            case [_, "resourcegroups", _, "providers", namespace, kind, _]:
                return self._on_resource(call, _SPELLED.get(f"{namespace}/{kind}", f"{namespace}/{kind}"))
            case [_, "resourcegroups", group, "providers", "microsoft.compute", "virtualmachines", name, action]:
                machine = self.resource(group, "Microsoft.Compute/virtualMachines", name)
                return self.machines.act(call, machine, action)
            case [_, "resourcegroups", _, "providers", *_]:
                return self.account.on_app(call) or self._unknown(call)
            case _:
                return self._unknown(call)

    def _unknown(self, call: Call) -> Reply:
        self.unknown.append(f"{call.method} {call.path}")
        return RefusedError(404, "InvalidResourceType", "The resource type could not be found.").reply

    def group(self, name: str) -> Group:
        found = self.groups.get(name.casefold())
        if found is None:
            raise RefusedError(404, "ResourceGroupNotFound", f"Resource group '{name}' could not be found.")
        return found

    def resource(self, group: str, kind: str, name: str) -> Resource:
        """The resource of that group, type and name. Raises RefusedError (404)."""
        found = self.resources.get((self.group(group).name.casefold(), kind.casefold(), name.casefold()))
        if found is None:
            code = "DeploymentNotFound" if kind.casefold().endswith("deployments") else "ResourceNotFound"
            raise RefusedError(404, code, f"The Resource '{kind}/{name}' under group '{group}' was not found.")
        return found

    def view(self, resource: Resource) -> Body:
        return {
            "id": resource.id_in(self.subscription),
            "name": resource.name,
            "type": resource.type,
            "location": resource.location,
            "tags": resource.tags,
            **resource.more,
            "properties": {"provisioningState": "Succeeded", **resource.properties},
        }

    def _group(self, group: Group) -> Body:
        return {
            "id": f"/subscriptions/{self.subscription}/resourceGroups/{group.name}",
            "name": group.name,
            "type": "Microsoft.Resources/resourceGroups",
            "location": group.location,
            "tags": group.tags,
            "properties": {"provisioningState": group.state},
        }

    def _on_group(self, call: Call, name: str) -> Reply:
        known = self.groups.get(name.casefold())
        if call.method == "PUT":
            if known is not None and known.state == "Deleting":
                message = f"The resource group '{name}' is in deprovisioning state and cannot perform this operation."
                raise RefusedError(409, "ResourceGroupBeingDeleted", message)
            made = self.add_group(name, call.body["location"])
            made.tags = call.body.get("tags") or {}
            return Reply(201 if known is None else 200, self._group(made))
        if call.method == "HEAD":
            return Reply(404 if known is None else 204)
        group = self.group(name)
        if call.method == "GET":
            return Reply(200, self._group(group))
        if call.method != "DELETE":
            return self._unknown(call)
        error = None
        if group.state != "Deleting":
            group.state, error = "Deleting", self.late_fault(call)
            operation = self.begin(lambda: self._end_group(group, error), error)
        else:
            operation = self.begin(lambda: None)
        where = f"{call.base}/subscriptions/{self.subscription}/operationresults/{operation}?api-version=2021-04-01"
        return Reply(202, None, {"Location": where, "Retry-After": "1"})

    def _end_group(self, group: Group, error: RefusedError | None) -> None:
        if error is not None:
            group.state = "Succeeded"
            return
        self.groups.pop(group.name.casefold(), None)
        for resource in [found for found in self.resources.values() if found.group.casefold() == group.name.casefold()]:
            self.machines.halted(resource)
            self.drop(resource)

    def _operation(self, name: str, *, monitor: bool) -> Reply:
        operation = self.operations.get(name)
        if operation is None:
            raise RefusedError(404, "NotFound", f"There is no operation {name}.")
        if monitor:
            if operation.finished and operation.error is not None:
                return operation.error.reply
            return Reply(200, {}) if operation.finished else Reply(202, None, {"Retry-After": "1"})
        status = "InProgress" if not operation.finished else "Failed" if operation.error else "Succeeded"
        body: Body = {"name": name, "status": status}
        if operation.finished and operation.error is not None:
            body["error"] = {"code": operation.error.code, "message": operation.error.message}
        return Reply(200, body, {"Retry-After": "1"})

    def _usages(self, region: str) -> list[Body]:
        # Azure's own names come with stray spaces and in no one case; a test gives them as it wants them seen.
        return [
            {
                "unit": "Count",
                "currentValue": current,
                "limit": limit,
                "name": {"value": name, "localizedValue": f"{name} vCPUs"},
            }
            for name, (current, limit) in self.usages.get(region, {}).items()
        ]

    def _on_resource(self, call: Call, kind: str) -> Reply:
        group, name = self.group(call.parts[3]), call.parts[7]
        if call.method == "PUT":
            if group.state == "Deleting":
                message = f"The resource group '{group.name}' is in deprovisioning state."
                raise RefusedError(409, "ResourceGroupBeingDeleted", message)
            if kind.endswith("virtualMachines"):
                return self.machines.create(call, group, name)
            if kind.endswith("deployments"):
                return self._deploy(group, name, call.body)
            return Reply(201, self.view(self._put(group.name, kind, name, call.body)), {"Retry-After": "1"})
        resource = self.resource(group.name, kind, name)
        if call.method == "GET":
            machine = kind.endswith("virtualMachines")
            return Reply(200, self.machines.shown(resource, call.query) if machine else self.view(resource))
        if call.method == "PATCH":
            resource.tags = dict(call.body.get("tags", resource.tags))
            return Reply(200, self.view(resource))
        if call.method != "DELETE":
            return self._unknown(call)
        refuse_if_used(self, resource)
        if kind.endswith("virtualMachines"):
            return self.machines.delete(call, resource)
        error = self.late_fault(call)
        operation = self.begin(lambda: None if error else self.drop(resource), error)
        return Reply(202, None, self.started(operation, call, resource.location))

    def _put(self, group: str, kind: str, name: str, body: Body) -> Resource:
        namespace, _, short = kind.partition("/")
        more = {key: value for key, value in body.items() if key in ("sku", "identity", "zones")}
        made = Resource(
            group=group,
            namespace=namespace,
            kind=short,
            name=name,
            location=body.get("location", self.group(group).location),
            created_at=self.now(),
            tags=dict(body.get("tags") or {}),
            properties=dict(body.get("properties") or {}),
            more=more,
        )
        fill_in(self, made)
        return self.add(made)

    def _deploy(self, group: Group, name: str, body: Body) -> Reply:
        """Do what SkyPilot's template says; its resources are called by nobody one by one."""
        given = {key: value["value"] for key, value in body["properties"]["parameters"].items()}
        made: dict[str, Resource] = {}
        named = {
            "Microsoft.Network/networkSecurityGroups": given["nsgName"],
            "Microsoft.Network/virtualNetworks": f"sky-{given['clusterId']}-vnet",
            "Microsoft.ManagedIdentity/userAssignedIdentities": f"sky-{given['clusterId']}-msi",
        }
        for wanted in body["properties"]["template"]["resources"]:
            kind = wanted["type"]
            if kind in named:
                properties = wanted.get("properties", {})
                made[kind] = self._put(group.name, kind, named[kind], {"properties": properties, **_located(given)})
        vnet = made["Microsoft.Network/virtualNetworks"].id_in(self.subscription)
        ids = {
            "nsg": made["Microsoft.Network/networkSecurityGroups"].id_in(self.subscription),
            "subnet": f"{vnet}/subnets/sky-{given['clusterId']}-subnet",
            "msi": made["Microsoft.ManagedIdentity/userAssignedIdentities"].id_in(self.subscription),
        }
        outputs = {key: {"type": "String", "value": value} for key, value in ids.items()}
        properties = {"mode": "Incremental", "outputs": outputs, "provisioningState": "Succeeded"}
        deployment = self._put(group.name, "Microsoft.Resources/deployments", name, {"properties": properties})
        return Reply(201, self.view(deployment), {"Retry-After": "1"})

    def _list(self, call: Call, kind: str, group: str | None) -> Reply:
        if kind not in _SPELLED:
            return self._unknown(call)
        found = self.of_type(kind, group)
        if kind.endswith("virtualmachines"):
            return self._page(call, found, lambda machine: self.machines.shown(machine, call.query))
        return self._page(call, found, self.view)

    def _resources(self, call: Call, group: str | None) -> Reply:
        found = [resource for resource in self.resources.values() if group in (None, resource.group.casefold())]
        found = [resource for resource in found if not resource.kind.startswith(("deployments", "roleAssignments"))]
        wanted = call.query.get("$filter", "")
        if name := re.fullmatch(r"substringof\('([^']+)', ?name\)", wanted):
            found = [resource for resource in found if name[1].casefold() in resource.name.casefold()]
        elif tag := re.fullmatch(r"tagName eq '([^']+)'(?: and tagValue eq '([^']+)')?", wanted):
            found = [resource for resource in found if tag[1] in resource.tags]
            found = [resource for resource in found if tag[2] in (None, resource.tags[tag[1]])]
        elif wanted:
            raise RefusedError(400, "InvalidFilterInQueryString", f"Invalid $filter '{wanted}'.")
        created = "createdTime" in call.query.get("$expand", "")

        def shown(resource: Resource) -> Body:
            brief = {key: value for key, value in self.view(resource).items() if key != "properties"}
            return {**brief, "createdTime": stamp(resource.created_at)} if created else brief

        return self._page(call, found, shown)

    def _page(self, call: Call, items: Sequence[Any], show: Callable[[Any], Body] = lambda item: item) -> Reply:
        """One page of a listing; only what is on it is drawn up."""
        begin = int(call.query.get("$skiptoken", "0"))
        end = begin + self.page_size
        body: Body = {"value": [show(item) for item in items[begin:end]]}
        if end < len(items):
            body["nextLink"] = f"{call.base}{call.path}?{urlencode({**call.query, '$skiptoken': str(end)})}"
        return Reply(200, body)


def _located(given: Body) -> Body:
    return {"location": given["location"]}
