"""A SkyPilot server and the machines behind it, under faults; the real SkyPilot provider talks to it.

Three things are kept apart, as in life: what the server remembers of requests, what its books say of clusters, and
which machines really run. Only the last ones cost money.
"""

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from gpulaunch.models.instances import Reason
from shared.backends.base import Provider
from shared.backends.skypilot.client import DOWN, LAUNCH, SkyClient, SkyCluster, SkyHistory, SkyRequest
from shared.backends.skypilot.http import SkyFailedError, SkyRefusalError
from shared.domain.instance import Failure
from shared.domain.provider import AttemptRef, LaunchRefusedError, LaunchSpec, NodeView
from tests.simulation.azure import FaultyAzure
from tests.simulation.chaos import Chaos

REFUSALS = (
    Reason.NO_CAPACITY,
    Reason.QUOTA_EXCEEDED,
    Reason.PERMISSION_DENIED,
    Reason.IMAGE_UNAVAILABLE,
    Reason.NETWORK_FAILED,
    Reason.SETUP_FAILED,
    Reason.INVALID_TASK,
    Reason.PROVISIONING_FAILED,
    Reason.PORT_TAKEN,
    Reason.PROVIDER_UNAVAILABLE,
)
_WITH_MACHINE = (
    ("ClusterSetUpError", "Failed to set up the runtime"),
    ("NetworkError", "Failed to SSH to the machine"),
    ("RuntimeError", "nobody knows why"),
)
"""What a launch may end with that has a machine, which has cost money then."""
_RAISED = (
    ("ResourcesUnavailableError", "SkuNotAvailable: no room for the machine"),
    ("ResourcesUnavailableError", "QuotaExceeded: 0 of 36 cores are left"),
    ("ResourcesUnavailableError", "AuthorizationFailed: the client may not write"),
    ("ResourcesUnavailableError", "PlatformImageNotFound: the image is gone"),
    *_WITH_MACHINE,
)


class Watcher(Protocol):
    launches: Counter[str]

    def machine_comes(self, name: str, *, spot: bool | None) -> None: ...

    def deletion_asked(self, name: str) -> None: ...

    def launched(self, name: str) -> None: ...

    def lies(self, name: str) -> bool: ...

    def taken(self, name: str) -> bool: ...


@dataclass(eq=False)
class Request:
    request_id: str
    name: Literal["sky.launch", "sky.down"]
    cluster_name: str
    created_at: float
    status: str = "RUNNING"
    finished_at: float | None = None
    error: tuple[str, str] | None = None
    task: Mapping[str, object] = field(default_factory=dict[str, object])

    @property
    def live(self) -> bool:
        return self.status == "RUNNING"


@dataclass(eq=False)
class Cluster:
    name: str
    launched_at: float
    labels: dict[str, str]
    status: str = "INIT"
    compared_at: float = 0.0


@dataclass
class Machines:
    """What really runs, whoever started it."""

    running: dict[str, str] = field(default_factory=dict[str, str])
    """By cluster name: `up`, or `stopped` by an eviction (its disks are there)."""


class SkyServer(SkyClient):
    """Takes the place of the HTTP client.

    Parameters
    ----------
    machines
        What really runs.
    started
        Called with the environment of a task whose machine is up: the agent's begin.
    ended
        Called when a machine is gone.
    azure
        Where the machines are, if somebody besides the server knows of them.
    """

    def __init__(
        self,
        chaos: Chaos,
        machines: Machines,
        watcher: Watcher,
        started: Callable[[str, Mapping[str, str]], None],
        ended: Callable[[str], None],
        *,
        azure: FaultyAzure | None,
    ) -> None:
        self.azure = azure
        self.endpoint = "https://sky.example.com"
        self.machines = machines
        self._chaos = chaos
        self._watcher = watcher
        self._started = started
        self._ended = ended
        self._remembered: dict[str, Request] = {}
        self._clusters: dict[str, Cluster] = {}
        self._history: set[str] = set()
        """Names of all clusters that the books ever had."""
        self._count = 0

    # What the provider calls.

    def close(self) -> None: ...

    def health(self) -> Literal["healthy", "waking", "away"]:
        self._perhaps_refuse()
        if self._chaos.strikes(self._chaos.rates.sky_before):
            return "waking" if self._chaos.random.random() < 0.5 else "away"
        return "healthy"

    def requests_of(self, cluster_name: str) -> list[SkyRequest]:
        self._perhaps_refuse()
        return self._chaos.sky(f"requests of {cluster_name[-7:]}", lambda: self._seen(cluster_name))

    def live_checks(self) -> list[SkyRequest]:
        return []

    def has(self, cluster: Cluster) -> None:
        """Put a cluster there that somebody else launched."""
        self._clusters[cluster.name] = cluster

    def clusters(
        self, names: Sequence[str] | None = None, refresh: Literal["NONE", "FORCE"] = "NONE"
    ) -> list[SkyCluster]:
        self._perhaps_refuse()

        def effect() -> list[SkyCluster]:
            found = [one for name, one in self._clusters.items() if names is None or name in names]
            return [
                SkyCluster.model_construct(
                    name=one.name,
                    status=one.status,
                    launched_at=one.launched_at,
                    status_updated_at=one.compared_at,
                    labels=one.labels,
                    node_names=None,
                    init_status_reason=None,
                    last_event=None,
                )
                for one in found
            ]

        return self._chaos.sky("clusters" if names is None else f"cluster {names[0][-7:]}", effect, longest=30.0)

    def history(self, names: Sequence[str]) -> list[SkyHistory]:
        self._perhaps_refuse()

        def effect() -> list[SkyHistory]:
            found = [name for name in names if name in self._history]
            status = {name: one.status for name, one in self._clusters.items()}
            return [SkyHistory.model_construct(name=name, status=status.get(name)) for name in found]

        return self._chaos.sky("history", effect)

    def ask_for_refresh(self, name: str) -> None:
        self._chaos.sky("refresh", lambda: self._chaos.scheduler.after(5.0, lambda: self._compare(name)))

    def validate(self, task: Mapping[str, object]) -> None:
        self._chaos.sky("validate", lambda: None)

    def launch(self, task: Mapping[str, object], cluster_name: str, config: Mapping[str, object]) -> str:
        def effect() -> str:
            self._watcher.launched(cluster_name)
            request = self._new(LAUNCH, cluster_name)
            request.task = task
            self._chaos.scheduler.after(
                self._chaos.random.uniform(1, 15), lambda: self._machine(request, cancelled=False)
            )
            return request.request_id

        return self._chaos.sky(f"launch {cluster_name[-7:]}", effect)

    def down(self, cluster_name: str) -> str:
        def effect() -> str:
            self._watcher.deletion_asked(cluster_name)
            self._cancel([one for one in self._of(cluster_name) if one.name == LAUNCH and one.live])
            request = self._new(DOWN, cluster_name)
            self._chaos.scheduler.after(self._chaos.random.uniform(2, 40), lambda: self._finish_down(request))
            return request.request_id

        return self._chaos.sky(f"down {cluster_name[-7:]}", effect)

    def cancel(self, request_ids: Sequence[str]) -> None:
        found = [self._remembered[one] for one in request_ids if one in self._remembered]

        def effect() -> None:
            for one in found:
                self._watcher.deletion_asked(one.cluster_name)
            self._cancel([one for one in found if one.live])

        self._chaos.sky("cancel", effect)

    def enabled_clouds(self) -> list[str]:
        return self._chaos.sky("enabled clouds", lambda: ["azure", "kubernetes"])

    def endpoint_address(self, cluster_name: str, port: int) -> str | None:
        return self._chaos.sky("endpoint", lambda: f"{cluster_name}.example.com")

    def failure_of(self, request_id: str) -> SkyFailedError | None:
        def effect() -> SkyFailedError | None:
            found = self._remembered.get(request_id)
            return None if found is None or found.error is None else SkyFailedError(*found.error)

        return self._chaos.sky("failure of", effect)

    def log(self, request_id: str, lines: int) -> str:
        return self._chaos.sky("log", lambda: "")

    # What happens in the cloud.

    def live_launches(self) -> set[str]:
        return {one.cluster_name for one in self._remembered.values() if one.live and one.name == LAUNCH}

    def restart(self) -> None:
        """The server forgets its requests and ends them; its books of clusters stay."""
        self._chaos.scheduler.note("the SkyPilot server restarts")
        for one in self._remembered.values():
            one.status = "FORGOTTEN"
        self._remembered.clear()

    def evict(self, name: str, *, delete: bool) -> None:
        """The cloud takes a machine back behind the server's back."""
        if self.machines.running.get(name) != "up":
            return
        self._chaos.scheduler.note(f"{name[-7:]} is evicted, and {'deleted' if delete else 'stopped'}")
        if delete:
            del self.machines.running[name]
            if self.azure is not None:
                self.azure.machine_ended(name)
        else:
            self.machines.running[name] = "stopped"
            if self.azure is not None:
                self.azure.machine_stopped(name)
        self._ended(name)

    def ends_itself(self, name: str) -> None:
        """A machine takes itself away: the dead man's switch."""
        if self.machines.running.get(name) != "up":
            return
        if self.azure is not None:
            self.azure.deletes_itself(name)
            return
        del self.machines.running[name]
        self._ended(name)

    def lose_books(self, names: Collection[str], seconds: float) -> None:
        """The server is given books without these clusters, and its own again after some time."""
        lost = {name: self._clusters.pop(name) for name in sorted(names) if name in self._clusters}
        if not lost:
            return
        self._chaos.scheduler.note(f"the SkyPilot server's books lack {len(lost)} clusters")
        self.restart()
        self._history -= lost.keys()

        def restore() -> None:
            self._chaos.scheduler.note("the SkyPilot server has its own books again")
            self._clusters.update(lost)
            self._history.update(lost)

        self._chaos.scheduler.after(seconds, restore)

    def _lose(self, name: str) -> None:
        """The books lose a cluster that the program knows to be launched; its machine runs on."""
        # Before that a second launch of its name would be right, and would find the machine.
        if self._watcher.taken(name) and self._clusters.pop(name, None) is not None:
            self._history.discard(name)
            self._chaos.scheduler.note(f"{name[-7:]} is forgotten by the SkyPilot server")

    def _machine(self, request: Request, *, cancelled: bool) -> None:
        """A launch gets its machine, which shows in the books."""
        if request.status == "FORGOTTEN" or (request.status == "CANCELLED" and not cancelled):
            return
        name, chaos = request.cluster_name, self._chaos
        resources: Any = request.task.get("resources", {})
        labels: dict[str, str] = dict(resources.get("labels", {}))
        if request.live and chaos.strikes(chaos.rates.launch_fails / 2):
            if self.azure is not None and chaos.strikes(chaos.rates.sky_leaves):
                self.azure.made(name, _region(resources), labels, spot=bool(resources.get("use_spot")))
                self.azure.machine_ended(name)
            self._fail(request)
            return
        self._watcher.machine_comes(name, spot=bool(resources.get("use_spot")))
        self.machines.running[name] = "up"
        if self.azure is not None:
            self.azure.made(name, _region(resources), labels, spot=bool(resources.get("use_spot")))
        now = chaos.scheduler.now().timestamp()
        self._clusters[name] = Cluster(name, now, labels, compared_at=now)
        self._history.add(name)
        chaos.scheduler.note(f"{name[-7:]} has a machine")
        if chaos.strikes(chaos.rates.launch_hangs):
            return
        chaos.scheduler.after(chaos.random.uniform(15, 60), lambda: self._finish_launch(request))

    def _finish_launch(self, request: Request) -> None:
        name, chaos = request.cluster_name, self._chaos
        cluster = self._clusters.get(name)
        if not request.live or cluster is None:
            return
        if chaos.strikes(chaos.rates.launch_fails / 2):
            if chaos.random.random() < 0.5:
                self._remove(name)
            self._fail(request, _WITH_MACHINE)
            return
        self._end_request(request, "SUCCEEDED")
        cluster.status = "UP"
        cluster.compared_at = chaos.scheduler.now().timestamp()
        environment: Any = {**_mapping(request.task.get("envs")), **_mapping(request.task.get("secrets"))}
        if self.machines.running.get(name) == "up":
            self._started(name, environment)
        if self.azure is not None and chaos.strikes(chaos.rates.sky_forgets):
            chaos.scheduler.after(chaos.random.uniform(0, 600), lambda: self._lose(name))

    def _finish_down(self, request: Request) -> None:
        if not request.live:
            return
        if request.cluster_name not in self._clusters:
            request.error = ("ClusterDoesNotExist", "there is no such cluster")
            self._end_request(request, "FAILED")
            return
        if self._chaos.strikes(self._chaos.rates.down_fails):
            request.error = ("AzureError", "the resource group is locked")
            self._end_request(request, "FAILED")
            return
        self._remove(request.cluster_name)
        self._end_request(request, "SUCCEEDED")

    def _cancel(self, requests: Sequence[Request]) -> None:
        chaos = self._chaos
        for one in requests:
            self._end_request(one, "CANCELLED")
            if one.name == LAUNCH and one.cluster_name not in self._clusters and chaos.strikes(0.3):
                # The launch's process may write for a moment.
                chaos.scheduler.after(chaos.random.uniform(0, 4), lambda one=one: self._machine(one, cancelled=True))

    def _compare(self, name: str) -> None:
        cluster, state = self._clusters.get(name), self.machines.running.get(name)
        if cluster is None:
            return
        if state is None:
            del self._clusters[name]
        elif state == "stopped":
            cluster.status = "STOPPED"
        cluster.compared_at = self._chaos.scheduler.now().timestamp()

    def _remove(self, name: str) -> None:
        self._clusters.pop(name, None)
        if self.machines.running.pop(name, None) is not None:
            self._chaos.scheduler.note(f"{name[-7:]} has no machine any more")
            self._ended(name)
        if self.azure is not None:
            self.azure.removed(name)

    def _fail(self, request: Request, raised: Sequence[tuple[str, str]] = _RAISED) -> None:
        request.error = self._chaos.random.choice(raised)
        self._end_request(request, "FAILED")

    def _end_request(self, request: Request, status: str) -> None:
        request.status, request.finished_at = status, self._chaos.scheduler.now().timestamp()

    def _new(self, name: Literal["sky.launch", "sky.down"], cluster_name: str) -> Request:
        self._count += 1
        now = self._chaos.scheduler.now().timestamp()
        made = Request(f"request-{self._count}", name, cluster_name, now)
        self._remembered[made.request_id] = made
        return made

    def _of(self, cluster_name: str) -> list[Request]:
        return [one for one in reversed(self._remembered.values()) if one.cluster_name == cluster_name]

    def _seen(self, cluster_name: str) -> list[SkyRequest]:
        now = self._chaos.scheduler.now().timestamp()
        return [
            SkyRequest.model_construct(
                request_id=one.request_id,
                name=one.name,
                status=one.status,
                created_at=one.created_at,
                finished_at=one.finished_at,
                asked_at=now,
                cluster_name=one.cluster_name,
                status_msg=None,
            )
            for one in self._of(cluster_name)
        ]

    def _perhaps_refuse(self) -> None:
        if self._chaos.strikes(self._chaos.rates.sky_refuses):
            raise SkyRefusalError("The SkyPilot server refuses us (401)")


class FaultyProvider:
    """A provider whose submissions may be refused, and whose releases may lie."""

    def __init__(self, inner: Provider, chaos: Chaos, watcher: Watcher, discarded: Callable[[str], None]) -> None:
        self._inner = inner
        self._chaos = chaos
        self._lied = watcher.lies
        self._discarded = discarded
        self._launches = watcher.launches
        self.availability = inner.availability
        self.clusters = inner.clusters
        self.log_tail = inner.log_tail
        self.lost = inner.lost

    def submit(self, launch_spec: LaunchSpec) -> str | None:
        if self._chaos.strikes(self._chaos.rates.sky_invalid):
            reason = self._chaos.random.choice(REFUSALS)
            self._chaos.scheduler.note(f"{launch_spec.cluster_name[-7:]} is refused: {reason.value}")
            raise LaunchRefusedError(Failure(reason=reason, message="The offer can't be had."))
        before = self._launches[launch_spec.cluster_name]
        request_id = self._inner.submit(launch_spec)
        if before and self._launches[launch_spec.cluster_name] == before:
            self._chaos.scheduler.note(f"{launch_spec.cluster_name[-7:]} is adopted")
        return request_id

    def describe(self, attempt_ref: AttemptRef) -> NodeView:
        return self._inner.describe(attempt_ref)

    def delete(self, cluster_name: str) -> bool:
        self._discarded(cluster_name)
        return self._inner.delete(cluster_name)

    def release(self, attempt_ref: AttemptRef) -> bool:
        if self._chaos.strikes(self._chaos.rates.release_lies) and self._lied(attempt_ref.cluster_name):
            self._chaos.scheduler.note(f"{attempt_ref.cluster_name[-7:]} is said to be gone: a lie")
            return True
        return self._inner.release(attempt_ref)


def _region(resources: Mapping[str, Any]) -> str:
    return str(resources.get("infra", "")).partition("/")[2]


def _mapping(value: object) -> dict[str, str]:
    return dict(value) if isinstance(value, dict) else {}  # pyright: ignore[reportUnknownArgumentType]
