"""What Azure really has of the simulated clusters, and the program's own client for it, under faults.

SkyPilot makes a cluster a resource group of its own, or puts it into a shared one. What is here costs money, but for an
empty group, and is here whatever SkyPilot's cluster records say.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from typing import Any

from gpulaunch.models.offers import Offer
from gpulaunch.models.requests import ProviderName
from shared.clouds.azure.client import AzureClient
from shared.clouds.azure.compute import AzureCompute
from shared.domain.provider import CleanupStatus, Cluster, NodeView, ProviderUnavailableError
from shared.domain.quota import QuotaNeed, RegionUsage
from tests.simulation.chaos import Chaos
from tests.simulation.scheduler import Process
from tests.standins.azure import Fault, ResourceManager
from tests.standins.azure.clusters import add_cluster
from tests.standins.azure.shapes import Call, RefusedError, Reply, Resource
from tests.standins.azure.transport import InProcessClient

SHARED = "shared-group"
_CLUSTER = re.compile(r"gl-[0-9a-z]{26}-[0-9]{2,}")
_MACHINE = "microsoft.compute/virtualmachines"
_BILLED = frozenset({_MACHINE, "microsoft.compute/disks", "microsoft.network/publicipaddresses"})
_THROTTLED_SECONDS = 40.0
_PLENTY: dict[str, tuple[int, int]] = dict.fromkeys(
    ("cores", "lowPriorityCores", "virtualMachines", "StandardNVADSA10v5Family"), (0, 1000)
)
_NO_SPOT: dict[str, tuple[int, int]] = {**_PLENTY, "lowPriorityCores": (0, 0)}


class FaultyAzure:
    """One subscription whose calls fail and whose deletions take their time, or don't succeed.

    Parameters
    ----------
    ended
        Called with the cluster whose machine Azure deletes.
    """

    def __init__(self, chaos: Chaos, user_id: str, ended: Callable[[str], None], *, shared: bool) -> None:
        self._chaos = chaos
        self._user_id = user_id
        self._ended = ended
        self._group = SHARED if shared else None
        self._quiet_until = 0.0
        self._manager = ResourceManager(now=chaos.scheduler.now, wake=self._wake)
        if shared:
            self._manager.add_group(SHARED)

    # What SkyPilot and the cloud do.

    def made(self, name: str, region: str, tags: Mapping[str, str], *, spot: bool) -> None:
        on_cloud = f"{name}-{self._user_id}"
        machine = add_cluster(self._manager, on_cloud, region=region, group=self._group, spot=spot, **tags)
        machine.properties["storageProfile"]["osDisk"]["deleteOption"] = "Detach"

    def removed(self, name: str) -> None:
        if self._chaos.strikes(self._chaos.rates.sky_leaves) and self._parts(name):
            self._chaos.scheduler.note(f"{name[-7:]} leaves its disk and group")
            self.machine_ended(name)
        else:
            self._drop(self._parts(name))
            self._drop_group(name)

    def machine_stopped(self, name: str) -> None:
        """The machine was taken back and kept."""
        for machine in self._parts(name, _MACHINE):
            self._manager.machines.evict(machine)

    def machine_ended(self, name: str) -> None:
        for machine in self._parts(name, _MACHINE):
            self._manager.machines.vanish(machine)

    def deletes_itself(self, name: str) -> None:
        """A machine asks for the end of all that belongs to it."""

        def delete() -> None:
            if not self._keeps(name):
                self._observed(lambda: (self._drop(self._parts(name)), self._drop_group(name)))

        if self._parts(name):
            self._chaos.scheduler.after(self._chaos.random.uniform(20, 240), delete)

    def costs(self, name: str) -> bool:
        return any(part.type.casefold() in _BILLED for part in self._parts(name))

    def clusters(self) -> set[str]:
        manager = self._manager
        names = [*manager.groups, *(part.name for part in manager.resources.values())]
        return {found[0] for name in names if (found := _CLUSTER.search(name))}

    # What the program asks.

    def client(self) -> AzureClient:
        return InProcessClient(self._manager.subscription, self._chaos.scheduler, self._answer)

    def _answer(self, call: Call) -> Reply:
        chaos = self._chaos
        if chaos.strikes(chaos.rates.azure_throttles):
            chaos.scheduler.note("Azure throttles us")
            self._quiet_until = chaos.scheduler.seconds + _THROTTLED_SECONDS
        if chaos.scheduler.seconds < self._quiet_until:
            return RefusedError(429, "TooManyRequests", "Slow down.", {"Retry-After": f"{_THROTTLED_SECONDS}"}).reply

        def effect() -> Reply:
            self._observed(self._manager.settle)
            self._prepare(call)
            return self._manager.answer(call)

        return chaos.azure(f"{call.method} {_brief(call)}", effect)

    def _prepare(self, call: Call) -> None:
        chaos, manager = self._chaos, self._manager
        if call.path.casefold().endswith("/usages"):
            short = chaos.strikes(chaos.rates.quota_short)
            manager.usages[call.parts[-2]] = _NO_SPOT if short else _PLENTY
        if call.method != "DELETE":
            return
        cluster = _CLUSTER.search(call.path)
        assert cluster is not None
        if len(call.parts) == 4:
            manager.operation_seconds = chaos.random.uniform(20, 240)
            # What costs money goes first, whether the rest can be deleted or not.
            billed = [part for part in self._parts(cluster[0]) if part.type.casefold() in _BILLED]
            chaos.scheduler.after(manager.operation_seconds / 2, lambda: self._observed(lambda: self._drop(billed)))
        else:
            manager.operation_seconds = chaos.random.uniform(5, 60)
        if self._keeps(cluster[0]):
            manager.faults = [Fault("DELETE", ".", 409, "Conflict", late=True)]

    def _keeps(self, name: str) -> bool:
        if not self._chaos.strikes(self._chaos.rates.azure_keeps):
            return False
        self._chaos.scheduler.note(f"{name[-7:]}: its group could not be deleted")
        return True

    def _wake(self, seconds: float, settle: Callable[[], None]) -> None:
        # The scheduler counts in milliseconds, the operation's end is exact.
        self._chaos.scheduler.after(seconds + 0.001, lambda: self._observed(settle))

    def _observed(self, act: Callable[[], object]) -> None:
        """Do something, and write down and pass on what it deleted."""
        before = set(self._manager.groups), dict(self._manager.resources)
        act()
        for group in sorted(before[0] - self._manager.groups.keys()):
            self._chaos.scheduler.note(f"{_tail(group)}: Azure has deleted its group")
        for key, part in before[1].items():
            if key in self._manager.resources:
                continue
            if self._group is not None:
                self._chaos.scheduler.note(f"{_tail(part.name)}: Azure has deleted its {part.kind}")
            cluster = _CLUSTER.search(part.name)
            if part.type.casefold() == _MACHINE and cluster is not None:
                self._ended(cluster[0])

    def _drop(self, parts: Sequence[Resource]) -> None:
        for part in parts:
            self._manager.drop(part)

    def _drop_group(self, name: str) -> None:
        for group in [one for one in self._manager.groups if name in one]:
            del self._manager.groups[group]

    def _parts(self, name: str, kind: str | None = None) -> list[Resource]:
        found = list(self._manager.resources.values()) if kind is None else self._manager.of_type(kind)
        return [part for part in found if name in part.name]


def _brief(call: Call) -> str:
    cluster = _CLUSTER.search(call.path) or _CLUSTER.search(call.query.get("$filter", ""))
    what = "group" if len(call.parts) == 4 else call.parts[-2] if call.method == "DELETE" else call.parts[-1]
    return f"{what} of {cluster[0][-7:]}" if cluster is not None else what


def _tail(name: str) -> str:
    found = _CLUSTER.search(name)
    return name if found is None else found[0][-7:]


class AzureOfProcesses:
    """The Cloud as the program sees it: each process has listings of its own, which end with it."""

    provider: ProviderName = "azure"

    def __init__(self, chaos: Chaos, azure: FaultyAzure, user_id: str, asked: Callable[[str], None]) -> None:
        self._chaos = chaos
        self._azure = azure
        self._asked = asked
        self._user_id = user_id
        self._made: dict[Process | None, AzureCompute] = {}

    def describe(self, cluster_name: str) -> NodeView | None:
        return self._own().describe(cluster_name)

    def clusters(self) -> Sequence[Cluster]:
        return self._own().clusters()

    def delete(self, cluster_name: str, region: str | None = None) -> CleanupStatus:
        if region is None:
            self._chaos.scheduler.note(f"{cluster_name[-7:]} is removed from Azure as garbage")
        self._asked(cluster_name)
        return self._own().delete(cluster_name, region)

    def usage(self, region: str) -> RegionUsage:
        return self._own().usage(region)

    def quota_needs(self, offer: Offer) -> Sequence[QuotaNeed]:
        return self._own().quota_needs(offer)

    def _own(self) -> AzureCompute:
        current = self._chaos.scheduler.current
        process = current.process if current is not None else None
        if process not in self._made:
            self._made[process] = made = AzureCompute(self._azure.client(), self._chaos.scheduler, self._user_id)
            # A task that waits holds up the whole simulation; two listings at once are the harder case.
            made.__dict__["_listed"].__dict__["_lock"] = nullcontext()
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
