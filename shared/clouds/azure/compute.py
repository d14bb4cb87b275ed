"""Machines as Azure reports them: their state in one listing, leftovers, deletion, quota.

SkyPilot gives each cluster a resource group `<cluster>-<8 hex of the user>-<region>` or, where its configuration names
one, a shared group; machines carry tags, everything else only the cluster's name in its own. Both are found here.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from gpulaunch.models.offers import Offer
from gpulaunch.models.requests import ProviderName
from shared.cache import KeyedTTLCache, TTLCache
from shared.clock import Clock
from shared.clouds.azure import quota
from shared.clouds.azure.client import AzureClient
from shared.clouds.azure.plugin import AZURE
from shared.clouds.failures import reason_of
from shared.clouds.labels import DEPLOYMENT_LABEL, is_gc_protected
from shared.domain.instance import Failure
from shared.domain.provider import CleanupStatus, Cluster, NodeState, NodeView, ProviderUnavailableError
from shared.domain.quota import QuotaNeed, RegionUsage

if TYPE_CHECKING:
    from azure.mgmt.compute.models import InstanceViewStatus, VirtualMachine

LISTING_SECONDS = 20.0
"""How old a listing may be: less than the sweep's 30 s, so that each sweep has one of its own, and all its probes the
same one."""
LISTING_PATIENCE = 60.0
"""How long others wait for the one listing that is being read: a sweep would rather know nothing than come late."""
QUOTA_SECONDS = 600.0
"""How old a quota may be. It changes by our own launches, which Azure counts, and by tickets, which take hours."""
_CLUSTER_TAG = "skypilot-cluster-name"
_ON_CLOUD = re.compile(r"(gl-[0-9a-z]{26}-[0-9]{2,})-[0-9a-f]{8}(?![0-9a-z])", re.IGNORECASE)
_MACHINE = "microsoft.compute/virtualmachines"
_COSTS = (_MACHINE, "microsoft.compute/disks", "microsoft.network/publicipaddresses")
"""What is billed while it exists."""
_ORDER: tuple[tuple[str, ...], ...] = (
    (_MACHINE,),
    ("microsoft.network/networkinterfaces", "microsoft.compute/disks"),
    ("microsoft.network/publicipaddresses", "microsoft.network/virtualnetworks"),
    ("microsoft.network/networksecuritygroups", "microsoft.managedidentity/userassignedidentities"),
)
"""What goes before what: Azure deletes nothing that something else needs."""
_STATES: Mapping[str, NodeState] = {
    "running": NodeState.UP,
    "starting": NodeState.PENDING,
    "stopping": NodeState.STOPPED,
    "stopped": NodeState.STOPPED,
    "deallocating": NodeState.STOPPED,
    "deallocated": NodeState.STOPPED,
}


@dataclass(frozen=True)
class _Machine:
    view: NodeView
    cluster: Cluster


@dataclass(frozen=True)
class _Listing:
    machines: Mapping[str, _Machine]
    groups: Mapping[str, bool]
    """Clusters that have resource groups, and whether one of these stays: False when all are being deleted."""


class AzureCompute:
    """Cloud on one Azure subscription; safe for several threads.

    `user_id` is SkyPilot's, which is part of every name in the cloud. Clusters of every user id are found, by the part
    of the name that is ours: the id may have changed while nodes ran, and nodes of others are to be seen, too.
    """

    provider: ProviderName = AZURE.name

    def __init__(self, client: AzureClient, clock: Clock, user_id: str) -> None:
        self._client = client
        self._clock = clock
        self._user_id = user_id
        self._listed = TTLCache[_Listing](LISTING_SECONDS, LISTING_PATIENCE)
        self._quotas = KeyedTTLCache[str, RegionUsage](QUOTA_SECONDS, clock)

    def close(self) -> None:
        self._client.close()

    def describe(self, cluster_name: str) -> NodeView | None:
        """See CloudCompute. Absent only where the resource group exists: that proves the right subscription."""
        listing = self._listing()
        machine = listing.machines.get(cluster_name)
        if machine is not None:
            return machine.view
        if cluster_name in listing.groups:
            return NodeView(state=NodeState.ABSENT, detail="Azure has its resource group, but no machine in it.")
        return None

    def clusters(self) -> Sequence[Cluster]:
        """See CloudCompute. Tags of any part of a cluster count for all of it; its oldest part says how old it is."""
        listing = self._listing()
        found = {name: machine.cluster for name, machine in listing.machines.items()}
        for resource in self._client.resources_named("gl-"):
            tags: Mapping[str, str] = resource.get("tags") or {}
            name = self._cluster_of(tags.get(_CLUSTER_TAG, ""), str(resource["name"]))
            if name is None:
                continue
            known = found.get(name, Cluster(cluster_name=name, state=NodeState.ABSENT, created_at=None))
            found[name] = replace(
                known,
                created_at=_earliest(known.created_at, _moment(resource.get("createdTime"))),
                gc_protected=known.gc_protected or is_gc_protected(tags),
                deployment=known.deployment or tags.get(DEPLOYMENT_LABEL),
            )
        for name, stays in listing.groups.items():
            if stays:
                found.setdefault(name, Cluster(cluster_name=name, state=NodeState.ABSENT, created_at=None))
        return list(found.values())

    def delete(self, cluster_name: str, region: str | None = None) -> CleanupStatus:
        groups = self._groups_of(cluster_name, region)
        for group in groups:
            if not _is_going(group):
                self._client.delete_group(str(group["name"]))
        parts = [
            part
            for part in self._client.resources_named(cluster_name)
            if self._cluster_of(str(part["name"])) == cluster_name
        ]
        own = {str(group["name"]).casefold() for group in groups}
        self._delete_first([part for part in parts if _group_of(part).casefold() not in own])
        if any(str(part["type"]).casefold() in _COSTS for part in parts):
            return CleanupStatus.MACHINE
        return CleanupStatus.FREE_LEFTOVERS if groups or parts else CleanupStatus.NOTHING

    def usage(self, region: str) -> RegionUsage:
        usage = self._quotas.find(region)
        if usage is None:
            lines = tuple(line for line in self._client.usage(region) if quota.concerns_gpus(line.name))
            usage = RegionUsage(region, self._clock.now(), lines)
            self._quotas.put(region, usage)
        return usage

    def quota_needs(self, offer: Offer) -> Sequence[QuotaNeed]:
        return quota.needs_of(offer)

    def _groups_of(self, cluster_name: str, region: str | None) -> list[dict[str, Any]]:
        """The cluster's own resource groups: one, or, where SkyPilot tried several regions, several.

        A listing finds those that were made under another user id, before that setting was changed.
        """
        if region is not None:
            group = self._client.group(f"{cluster_name}-{self._user_id}-{region}")
            if group is not None:
                return [group]
        return [group for group in self._client.groups() if self._cluster_of(str(group["name"])) == cluster_name]

    def _delete_first(self, parts: Sequence[Mapping[str, Any]]) -> None:
        """Of what lies in a shared group, delete what nothing else there needs any more."""
        for kinds in _ORDER:
            doomed = [part for part in parts if str(part["type"]).casefold() in kinds]
            for part in doomed:
                self._client.delete(str(part["id"]), str(part["type"]))
            if doomed:
                return

    def _listing(self) -> _Listing:
        # One caller asks Azure; whoever else needs the listing waits for it.
        try:
            return self._listed.get(self._clock.now(), self._list)
        except TimeoutError as error:
            raise ProviderUnavailableError("Azure has been listing its machines for too long") from error

    def _list(self) -> _Listing:
        """Machines come in two listings, whole ones without their power and states without tags; side by side."""
        with ThreadPoolExecutor(3, thread_name_prefix="azure-listing") as pool:
            whole = pool.submit(lambda: list(self._client.machines(status_only=False)))
            states = pool.submit(lambda: list(self._client.machines(status_only=True)))
            groups = pool.submit(self._client.groups)
            by_group: dict[str, bool] = {}
            for group in groups.result():
                name = self._cluster_of(str(group["name"]))
                if name is not None:
                    by_group[name] = by_group.get(name, False) or not _is_going(group)
            return _Listing(self._machines(whole.result(), states.result()), by_group)

    def _machines(self, whole: "Iterable[VirtualMachine]", states: "Iterable[VirtualMachine]") -> dict[str, _Machine]:
        # Ids differ in case between the two listings.
        known = {str(machine.id).casefold(): machine for machine in states}
        found: dict[str, _Machine] = {}
        for machine in whole:
            tags: Mapping[str, str] = machine.tags or {}
            name = self._cluster_of(tags.get(_CLUSTER_TAG, ""))
            if name is not None:
                found[name] = _machine(name, tags, machine, known.get(str(machine.id).casefold()))
        return found

    def _cluster_of(self, *names: str) -> str | None:
        """The cluster whose name in the cloud stands in one of these."""
        for name in names:
            match = _ON_CLOUD.search(name)
            if match is not None:
                return match[1].lower()
        return None


def _machine(
    cluster_name: str, tags: Mapping[str, str], machine: "VirtualMachine", state: "VirtualMachine | None"
) -> _Machine:
    """Join both listings of a machine."""
    properties = machine.properties
    shown = state.properties.instance_view if state is not None and state.properties is not None else None
    statuses: Sequence[InstanceViewStatus] = (shown.statuses if shown is not None else None) or []
    created_at = None if properties is None else properties.time_created
    profile = None if properties is None else properties.hardware_profile
    provisioning = "" if properties is None else str(properties.provisioning_state or "").casefold()
    # An enumeration's str() is its own name; its value is what it is as a string.
    spot = properties is not None and (properties.priority or "").casefold() in ("spot", "low")
    power, booted, error = "", "", ""
    for status in statuses:
        kind, _, value = str(status.code or "").partition("/")
        if kind == "PowerState":
            power = value.casefold()
        elif kind == "ProvisioningState":
            if provisioning == "succeeded" and created_at is not None and status.time is not None:
                seconds = max(0.0, (status.time - created_at).total_seconds())
                booted = f", {seconds:.0f} s after it was requested"
            if value.casefold().startswith("failed"):
                error = f"{value.partition('/')[2]} {status.message or ''}".strip()
    view = _view(provisioning, power, error, booted, spot=spot)
    if view.failure is None:
        view = replace(view, created_at=created_at)  # a machine whose creation failed is not billed
    return _Machine(
        view,
        Cluster(
            cluster_name=cluster_name,
            state=view.state,
            created_at=created_at,
            gc_protected=is_gc_protected(tags),
            deployment=tags.get(DEPLOYMENT_LABEL),
            provider=AZURE.name,
            region=machine.location,
            machine="" if profile is None else str(profile.vm_size or ""),
            use_spot=spot,
        ),
    )


def _view(provisioning: str, power: str, error: str, booted: str, *, spot: bool) -> NodeView:
    """What Azure's states say of a node; without its name, which looks like a token and would be redacted."""
    if provisioning == "deleting":
        return NodeView(state=NodeState.STOPPED, detail="Azure is deleting the machine.")
    if provisioning == "failed" and not power:
        failure = Failure(reason=reason_of(error), message=f"Azure could not create the machine: {error}")
        return NodeView(state=NodeState.PENDING, detail=failure.message, failure=failure)
    state = _STATES.get(power, NodeState.PENDING)
    if spot and power in ("deallocating", "deallocated"):
        return NodeView(state=state, detail=f"Azure evicted the spot machine ({power}).")
    return NodeView(state=state, detail=f"Azure reports that the machine is {power or provisioning}{booted}.")


def _is_going(group: Mapping[str, Any]) -> bool:
    properties: Mapping[str, object] = group.get("properties") or {}
    return str(properties.get("provisioningState", "")).casefold() == "deleting"


def _group_of(resource: Mapping[str, Any]) -> str:
    return str(resource["id"]).split("/")[4]


def _moment(text: object) -> datetime | None:
    return datetime.fromisoformat(text) if isinstance(text, str) else None


def _earliest(first: datetime | None, second: datetime | None) -> datetime | None:
    return min(moment for moment in (first, second) if moment is not None) if first or second else None
