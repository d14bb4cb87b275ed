"""What Azure really has of the simulated clusters, under faults; the program's own AzureCompute asks it.

SkyPilot makes a cluster a resource group of its own, or puts it into a shared one. What is here costs money, but for an
empty group, and is here whatever the books of SkyPilot say.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import datetime
from types import SimpleNamespace
from typing import Any, TypeVar

from gpulaunch.models.requests import ProviderName
from shared.clouds.azure.client import AzureClient
from shared.clouds.azure.compute import AzureCompute
from shared.domain.provider import CleanupStatus, Cluster, NodeView, ProviderUnavailableError
from shared.domain.quota import RegionUsage, Usage
from tests.simulation.chaos import Chaos
from tests.simulation.scheduler import Process

T = TypeVar("T")

SHARED = "shared-group"
_KINDS = {
    "vm": "Microsoft.Compute/virtualMachines",
    "disk": "Microsoft.Compute/disks",
    "nic": "Microsoft.Network/networkInterfaces",
    "ip": "Microsoft.Network/publicIPAddresses",
}
_COSTS = frozenset({"vm", "disk", "ip"})
_THROTTLED_SECONDS = 40.0
_PLENTY = tuple(
    Usage(name, 0, 1000) for name in ("cores", "lowPriorityCores", "virtualMachines", "StandardNVADSA10v5Family")
)


@dataclass(eq=False)
class Rest:
    """What there is of one cluster."""

    name: str
    region: str
    tags: Mapping[str, str]
    spot: bool
    since: datetime
    parts: set[str] = field(default_factory=lambda: set(_KINDS))
    deleting: bool = False
    """Its group is being deleted."""

    @property
    def costs(self) -> bool:
        """Whether anything of it is billed."""
        return bool(self.parts & _COSTS)


class Subscription(AzureClient):
    """Takes the place of the management client.

    Parameters
    ----------
    power
        `up` or `stopped` of a cluster's machine, None when it has none.
    ended
        Called when Azure deletes a machine.
    """

    def __init__(
        self,
        chaos: Chaos,
        user_id: str,
        power: Callable[[str], str | None],
        ended: Callable[[str], None],
        *,
        shared: bool,
    ) -> None:
        self.subscription_id = "subscription"
        self.rest: dict[str, Rest] = {}
        """By cluster."""
        self._chaos = chaos
        self._user_id = user_id
        self._power = power
        self._ended = ended
        self._shared = shared
        self._quiet_until = 0.0

    # What SkyPilot and the cloud do.

    def made(self, name: str, region: str, tags: Mapping[str, str], *, spot: bool) -> None:
        """SkyPilot has made a cluster."""
        tagged = {**tags, "skypilot-cluster-name": self._on_cloud(name)}
        self.rest[name] = Rest(name, region, tagged, spot, self._chaos.scheduler.now())

    def removed(self, name: str) -> None:
        """SkyPilot has taken a cluster away; sometimes it leaves all but the machine."""
        if self._chaos.strikes(self._chaos.rates.sky_leaves) and name in self.rest:
            self._chaos.scheduler.note(f"{name[-7:]} leaves its disk and group")
            self.rest[name].parts.discard("vm")
        else:
            self.rest.pop(name, None)

    def machine_ended(self, name: str) -> None:
        """The machine was taken back and deleted; nothing else was."""
        if name in self.rest:
            self.rest[name].parts.discard("vm")

    def deletes_itself(self, name: str) -> None:
        """A machine asks for the end of its own group."""
        rest = self.rest.get(name)
        if rest is not None:
            self._chaos.scheduler.after(self._chaos.random.uniform(20, 240), lambda: self._deleted(rest))

    def costs(self, name: str) -> bool:
        """Whether anything of a cluster is billed."""
        return name in self.rest and self.rest[name].costs

    # What the program asks.

    def close(self) -> None:
        """Nothing is open."""

    def machines(self, *, status_only: bool) -> Iterator[Any]:
        """See AzureClient."""
        return self._ask("list machines", lambda: iter([self._machine(one) for one in self._with_machine()]))

    def groups(self) -> list[dict[str, Any]]:
        """See AzureClient."""
        shared = [{"name": SHARED}] if self._shared else []
        return self._ask("list groups", lambda: shared or [self._group(one) for one in self.rest.values()])

    def group(self, name: str) -> dict[str, Any] | None:
        """See AzureClient."""

        def effect() -> dict[str, Any] | None:
            if self._shared:
                return None
            return next((self._group(one) for one in self.rest.values() if self._group_name(one) == name), None)

        return self._ask(f"group {name[:32][-7:]}", effect)

    def resources_named(self, part: str) -> list[dict[str, Any]]:
        """See AzureClient."""

        def effect() -> list[dict[str, Any]]:
            return [
                self._part(one, kind) for one in self.rest.values() for kind in sorted(one.parts) if part in one.name
            ]

        return self._ask(f"resources of {part[-7:]}", effect)

    def delete_group(self, name: str) -> None:
        """See AzureClient."""

        def effect() -> None:
            found = next((one for one in self.rest.values() if self._group_name(one) == name), None)
            if found is not None and not found.deleting and not self._shared:
                found.deleting = True
                takes = self._chaos.random.uniform(20, 240)
                self._chaos.scheduler.after(takes / 2, lambda: self._emptied(found))
                self._chaos.scheduler.after(takes, lambda: self._deleted(found))

        self._ask(f"delete group {name[:32][-7:]}", effect)

    def delete(self, resource_id: str, kind: str) -> bool:
        """See AzureClient."""
        name, short = resource_id.rpartition("/")[2].split(".")

        def effect() -> bool:
            found = self.rest.get(name)
            if found is None:
                return True
            needed = {"disk": "vm", "nic": "vm", "ip": "nic"}.get(short)
            if needed in found.parts:
                return False
            self._chaos.scheduler.after(self._chaos.random.uniform(5, 60), lambda: self._part_deleted(found, short))
            return True

        return self._ask(f"delete {short} of {name[-7:]}", effect)

    def usage(self, region: str) -> list[Usage]:
        """See AzureClient."""
        short = self._chaos.strikes(self._chaos.rates.quota_short)
        lines = [Usage("lowPriorityCores", 0, 0), *_PLENTY[2:]] if short else list(_PLENTY)
        return self._ask(f"usage of {region}", lambda: lines)

    def _ask(self, what: str, effect: Callable[[], T]) -> T:
        chaos = self._chaos
        if chaos.scheduler.seconds < self._quiet_until:
            raise ProviderUnavailableError("Azure throttles us")
        if chaos.strikes(chaos.rates.azure_throttles):
            chaos.scheduler.note("Azure throttles us")
            self._quiet_until = chaos.scheduler.seconds + _THROTTLED_SECONDS
            raise ProviderUnavailableError("Azure throttles us")
        return chaos.azure(what, effect)

    def _emptied(self, rest: Rest) -> None:
        """What costs money goes first."""
        if self.rest.get(rest.name) is rest:
            rest.parts -= _COSTS
            self._ended(rest.name)

    def _deleted(self, rest: Rest) -> None:
        rest.deleting = False
        if self._chaos.strikes(self._chaos.rates.azure_keeps):
            self._chaos.scheduler.note(f"{rest.name[-7:]}: its group could not be deleted")
            return
        if self.rest.get(rest.name) is rest:
            self._chaos.scheduler.note(f"{rest.name[-7:]}: Azure has deleted its group")
            del self.rest[rest.name]
            self._ended(rest.name)

    def _part_deleted(self, rest: Rest, short: str) -> None:
        if self._chaos.strikes(self._chaos.rates.azure_keeps) or short not in rest.parts:
            return
        rest.parts.discard(short)
        self._chaos.scheduler.note(f"{rest.name[-7:]}: Azure has deleted its {short}")
        if not rest.parts and self.rest.get(rest.name) is rest:
            del self.rest[rest.name]
        if short == "vm":
            self._ended(rest.name)

    def _with_machine(self) -> list[Rest]:
        return [one for one in self.rest.values() if "vm" in one.parts]

    def _on_cloud(self, name: str) -> str:
        return f"{name}-{self._user_id}"

    def _group_name(self, rest: Rest) -> str:
        return SHARED if self._shared else f"{self._on_cloud(rest.name)}-{rest.region}"

    def _group(self, rest: Rest) -> dict[str, Any]:
        state = "Deleting" if rest.deleting else "Succeeded"
        return {"name": self._group_name(rest), "properties": {"provisioningState": state}}

    def _part(self, rest: Rest, kind: str) -> dict[str, Any]:
        group = f"/subscriptions/s/resourceGroups/{self._group_name(rest)}"
        return {
            "id": f"{group}/providers/{_KINDS[kind]}/{rest.name}.{kind}",
            "name": f"{self._on_cloud(rest.name)}-{kind}",
            "type": _KINDS[kind],
            "tags": rest.tags if kind == "vm" else {},
            "createdTime": rest.since.isoformat(),
        }

    def _machine(self, rest: Rest) -> Any:
        power = "deallocated" if self._power(rest.name) == "stopped" else "running"
        states = [
            SimpleNamespace(code=f"PowerState/{power}", time=None, message=None),
            SimpleNamespace(code="ProvisioningState/succeeded", time=rest.since, message=None),
        ]
        return SimpleNamespace(
            id=self._part(rest, "vm")["id"],
            name=f"{self._on_cloud(rest.name)}-vm",
            tags=rest.tags,
            properties=SimpleNamespace(
                priority="Spot" if rest.spot else "Regular",
                provisioning_state="Deleting" if rest.deleting else "Succeeded",
                time_created=rest.since,
                instance_view=SimpleNamespace(statuses=states),
            ),
        )


class AzureOfProcesses:
    """The Cloud as the program sees it: each process has listings of its own, which end with it."""

    provider: ProviderName = "azure"

    def __init__(self, chaos: Chaos, subscription: Subscription, user_id: str) -> None:
        self._chaos = chaos
        self._subscription = subscription
        self._user_id = user_id
        self._made: dict[Process | None, AzureCompute] = {}

    def look(self, cluster_name: str) -> NodeView | None:
        """See Cloud."""
        return self._own().look(cluster_name)

    def clusters(self) -> Sequence[Cluster]:
        """See Cloud."""
        return self._own().clusters()

    def remove(self, cluster_name: str, region: str | None = None) -> CleanupStatus:
        """See Cloud."""
        if region is None:
            self._chaos.scheduler.note(f"{cluster_name[-7:]} is removed from Azure as garbage")
        return self._own().remove(cluster_name, region)

    def usage(self, region: str) -> RegionUsage:
        """See Cloud."""
        return self._own().usage(region)

    def _own(self) -> AzureCompute:
        current = self._chaos.scheduler.current
        process = current.process if current is not None else None
        if process not in self._made:
            self._made[process] = made = AzureCompute(self._subscription, self._chaos.scheduler, self._user_id)
            # A task that waits holds up the whole simulation; two listings at once are the harder case.
            made.__dict__["_listing_lock"] = made.__dict__["_quota_lock"] = nullcontext()
        return self._made[process]


class AtOnce:
    """Takes the place of a pool of threads: what is submitted is done there and then."""

    def __init__(self, *_: object, **__: object) -> None:
        return

    def __enter__(self) -> "AtOnce":
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def submit(self, act: Callable[..., object], *given: object) -> "_Done":
        """See ThreadPoolExecutor."""
        try:
            return _Done(act(*given), None)
        except ProviderUnavailableError as error:
            return _Done(None, error)


class _Done:
    def __init__(self, value: Any, error: Exception | None) -> None:
        self._value = value
        self._error = error

    def result(self) -> Any:
        if self._error is not None:
            raise self._error
        return self._value
