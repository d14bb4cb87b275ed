"""One Azure subscription and one SkyPilot server that several deployments share, with the nodes that live there.

Everything happens on one clock. Who asked for the end of which machine is noted where the request arrives, whatever the
deployments believe: `SharedCloud.deletions` is the record that a test judges them by.
"""

import heapq
import itertools
import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from shared import app as runtime
from shared.adapters import identity, with_user
from shared.backends.base import Backend
from shared.backends.skypilot.provider import SkyPilotProvider
from shared.clouds.azure.compute import AzureCompute
from shared.domain.node import NodeStatus
from shared.domain.provider import NodeTarget, NodeUnreachableError, Probe
from shared.queues import QUEUES
from shared.redaction import Redactor
from tests.functional.scripted import Assigning
from tests.functional.world import World, settings
from tests.standins.azure import ResourceManager
from tests.standins.azure.clusters import add_cluster
from tests.standins.azure.shapes import Call, Reply, Resource
from tests.standins.azure.transport import InProcessClient
from tests.standins.sky_server import FULL, LIVE, Request, SkyServer
from tests.twins.clock import ManualClock
from tests.twins.store import MemoryInstanceStore

_CLUSTER = re.compile(r"gl-[0-9a-z]{26}-[0-9]{2,}", re.IGNORECASE)
_MACHINE = "microsoft.compute/virtualmachines"
_BEAT = 60.0
"""Seconds between two reports of an agent."""
_LOOPS = 10_000_000
FAILS = "standin.fails"
"""A node with this label fails in its set-up."""


@dataclass(frozen=True, kw_only=True)
class Deletion:
    """Somebody asked for the end of a machine, or of what belongs to it."""

    at: datetime
    cluster: str
    by: str
    """A deployment's name, or `node` for the machine itself."""


class Deployed(World):
    """A deployment with default settings, as `name` in the records of the cloud that it shares."""

    def __init__(self, cloud: "SharedCloud", name: str) -> None:
        given = settings(
            GPULAUNCH_ORCHESTRATOR="skypilot",
            GPULAUNCH_PUBLIC_URL=f"https://{name}.example.com",
            SKYPILOT_API_SERVER_ENDPOINT=cloud.server.url,
            AZURE_SUBSCRIPTION_ID=cloud.manager.subscription,
        )
        self.name = name
        self.defaults = given
        self.cloud_shared = cloud
        super().__init__(
            given=given, backend=lambda _: self.real, assignments=Assigning(), deployment=None, clock=cloud.clock
        )
        self._join()

    def _join(self) -> None:
        """Connect to SkyPilot and Azure under the identity that the table has."""
        cloud, user_id = self.cloud_shared, self.given.skypilot_user_id
        self.provider = SkyPilotProvider(self.given, self.clock, Redactor(), script=lambda: "echo hi")
        http = self.provider._client._http  # pyright: ignore[reportPrivateUsage]
        http._transport = cloud.server.transport()  # pyright: ignore[reportPrivateUsage] - a day is 100,000 calls
        http._mounts = {}  # pyright: ignore[reportPrivateUsage]
        self.real = Backend(self.provider, cloud)
        client = InProcessClient(cloud.manager.subscription, self.clock, lambda call: cloud.answer(self.name, call))
        self.rebuild(clouds={"azure": AzureCompute(client, self.clock, user_id)})
        cloud.users[user_id] = self.name

    def restart(self, table: MemoryInstanceStore) -> None:
        """Start anew on another table, with the settings as they were given."""
        self.close()
        self.store = table
        self.deployment = deployment = identity(table, self.clock)
        self.given = with_user(self.defaults, deployment)
        self.rebuild(store=table, settings=self.given, deployment=deployment)
        self._join()

    def copy_of_table(self) -> MemoryInstanceStore:
        copied = MemoryInstanceStore()
        copied._rows = dict(self.store._rows)  # pyright: ignore[reportPrivateUsage]
        return copied

    def own(self) -> set[str]:
        """Clusters with a machine that this deployment launched."""
        return {name for name in self.cloud_shared.machines() if self.cloud_shared.owners[name] == self.name}

    def close(self) -> None:
        self.provider.close()


@dataclass
class Agent:
    """What runs on a machine: it reports, obeys, and ends its machine at its deadline or when its lease is lost."""

    name: str
    world: Deployed
    instance_id: str
    token: str
    deadline: datetime
    lease: timedelta
    heard: datetime
    course: Iterator[tuple[float, str, object]]
    serving: bool = False


def _course(*, fails: bool) -> Iterator[tuple[float, str, object]]:
    yield 5, "progress", {"phase": "installing"}
    yield 60, "progress", {"phase": "loading_model"}
    if fails:
        yield 60, "progress", {"phase": "failed", "failure": "server_failed", "detail": "the set-up failed"}
        while True:
            yield _BEAT, "progress", {"phase": "failed", "failure": "server_failed", "detail": "the set-up failed"}
    yield 60, "progress", {"phase": "starting_server"}
    yield 60, "progress", {"phase": "serving", "port": 8000}
    yield 1, "register", {"port": 8000}
    while True:
        yield _BEAT, "heartbeat", {"running_requests": 1, "waiting_requests": 0}


@dataclass
class SharedCloud:
    """Also the Nodes that each deployment asks."""

    server: SkyServer
    clock: ManualClock = field(default_factory=ManualClock)
    worlds: list[Deployed] = field(default_factory=list[Deployed])
    users: dict[str, str] = field(default_factory=dict[str, str])
    """Names of the deployments by SkyPilot's user id."""
    owners: dict[str, str] = field(default_factory=dict[str, str])
    """Who launched each cluster."""
    deletions: list[Deletion] = field(default_factory=list[Deletion])
    started: dict[str, datetime] = field(default_factory=dict[str, datetime])
    """When each machine began to run."""
    ended: dict[str, datetime] = field(default_factory=dict[str, datetime])
    """When each machine stopped to run."""
    deadlines: dict[str, datetime] = field(default_factory=dict[str, datetime])
    """When each machine ends itself."""
    agents: dict[str, Agent] = field(default_factory=dict[str, Agent])

    def __post_init__(self) -> None:
        self.manager = ResourceManager(now=self.clock.now, operation_seconds=45.0, on_halt=self._halted)
        self.server.now = lambda: self.clock.now().timestamp()
        self._plan: list[tuple[datetime, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self._taken: set[str] = set()

    def deploy(self, name: str) -> Deployed:
        made = Deployed(self, name)
        self.worlds.append(made)
        return made

    def after(self, seconds: float, act: Callable[[], None]) -> None:
        moment = self.clock.now() + timedelta(seconds=seconds)
        heapq.heappush(self._plan, (moment, next(self._numbers), act))

    def run(self, seconds: float) -> None:
        """Let time pass for everybody; what is due is done in the order of time."""
        until = self.clock.now() + timedelta(seconds=seconds)
        for _ in range(_LOOPS):
            for world in self.worlds:
                runtime.use(world.app)
                world.serve()
            self._take_requests()
            due = [moment for world in self.worlds for moment in _due(world)]
            coming = min(due + ([self._plan[0][0]] if self._plan else []))
            if coming > until:
                break
            self.clock.set(max(coming, self.clock.now()))
            self.manager.settle()
            while self._plan and self._plan[0][0] <= self.clock.now():
                heapq.heappop(self._plan)[2]()
            for world in self.worlds:
                if self.clock.now() >= world.next_sweep_at:
                    runtime.use(world.app)
                    world.sweep()
        else:
            raise AssertionError("the cloud does not come to rest")
        self.clock.set(max(until, self.clock.now()))

    # Azure.

    def answer(self, who: str, call: Call) -> Reply:
        """What Azure answers a deployment; what it was asked to delete or to stop is noted."""
        if call.method != "GET":
            self._deletes(who, call.path)
        return self.manager.answer(call)

    def machines(self) -> set[str]:
        """Clusters that have a machine, running or stopped."""
        return {_cluster(machine.name) for machine in self.manager.of_type(_MACHINE)}

    def left(self) -> set[str]:
        """Clusters of which anything is left: a machine, a part, a group, an entry of SkyPilot's."""
        names = [*self.manager.groups, *(part.name for part in self.manager.resources.values()), *self.server.nodes]
        return {_cluster(name) for name in names}

    def evict(self, cluster: str) -> None:
        """Azure takes a spot machine back."""
        for machine in self._machine(cluster):
            self.manager.machines.evict(machine)
            self.server.nodes[cluster].status = "STOPPED"

    def vanish(self, cluster: str) -> None:
        """A machine goes behind everybody's back; its group stays."""
        for machine in self._machine(cluster):
            self.manager.machines.vanish(machine)

    def _machine(self, cluster: str) -> list[Resource]:
        return [one for one in self.manager.of_type(_MACHINE) if cluster in one.name]

    def _deletes(self, who: str, text: str) -> None:
        self.deletions.append(Deletion(at=self.clock.now(), cluster=_cluster(text), by=who))

    def _halted(self, machine: Resource) -> None:
        self.ended[_cluster(machine.name)] = self.clock.now()
        self.agents.pop(_cluster(machine.name), None)
        self.after(0, lambda: self._compare(_cluster(machine.name)))

    def _compare(self, cluster: str) -> None:
        """What SkyPilot finds at the next comparison of its records with the cloud."""
        if cluster in self.server.nodes:
            self.server.nodes[cluster].machine = bool(self._machine(cluster))

    def _drop(self, cluster: str) -> None:
        for part in [one for one in self.manager.resources.values() if cluster in one.name]:
            self.manager.machines.halted(part)
            self.manager.drop(part)
        for group in [name for name in self.manager.groups if cluster in name]:
            del self.manager.groups[group]

    # SkyPilot's server.

    def _take_requests(self) -> None:
        """Begin what was asked of SkyPilot since the last time; forget short requests, as the real server does."""
        for request in list(self.server.requests.values()):
            if request.name not in ("sky.launch", "sky.down"):
                if request.status not in LIVE:
                    del self.server.requests[request.id]
            elif request.id not in self._taken:
                self._taken.add(request.id)
                self._take(request)

    def _take(self, request: Request) -> None:
        who, cluster = self.users[request.body["env_vars"]["SKYPILOT_USER_ID"]], str(request.cluster_name)
        if request.name == "sky.launch":
            assert self.owners.setdefault(cluster, who) == who
            self.after(60, lambda: self._start(request, who))
        else:
            self._deletes(who, cluster)
            self.after(20, lambda: self._down(request, cluster))

    def _start(self, request: Request, who: str) -> None:
        if request.status not in LIVE:
            return
        self.server.start(request)
        task, cluster = json.loads(request.body["task"]), str(request.cluster_name)
        resources = task["resources"]
        if FULL not in resources["labels"]:
            region = resources["infra"].partition("/")[2]
            on_cloud = f"{cluster}-{request.body['env_vars']['SKYPILOT_USER_ID']}"
            spot = resources.get("use_spot", False)
            add_cluster(self.manager, on_cloud, region=region, spot=spot, **resources["labels"])
            self.started[cluster] = self.clock.now()
        self.after(120, lambda: self._up(request, who, task))

    def _up(self, request: Request, who: str, task: Any) -> None:
        cluster = str(request.cluster_name)
        if request.status not in LIVE:
            return
        self.server.finish(request)
        if cluster not in self.server.nodes or not self._machine(cluster):
            return
        environment = task["envs"]
        agent = Agent(
            name=cluster,
            world=next(world for world in self.worlds if world.name == who),
            instance_id=environment["GPULAUNCH_INSTANCE"],
            token=task["secrets"]["GPULAUNCH_NODE_TOKEN"],
            deadline=datetime.fromisoformat(environment["GPULAUNCH_DEADLINE"]),
            lease=timedelta(seconds=int(environment["GPULAUNCH_LEASE_SECONDS"])),
            heard=self.clock.now(),
            course=_course(fails=FAILS in task["resources"]["labels"]),
        )
        self.agents[cluster], self.deadlines[cluster] = agent, agent.deadline
        self._next(agent)

    def _down(self, request: Request, cluster: str) -> None:
        if request.status not in LIVE:
            return
        stays = self.server.lying_downs > 0
        self.server.finish(request)
        if not stays:
            self._drop(cluster)

    # Nodes.

    def _next(self, agent: Agent) -> None:
        seconds, call, body = next(agent.course)
        self.after(seconds, lambda: self._report(agent, call, body))

    def _report(self, agent: Agent, call: str, body: object) -> None:
        now = self.clock.now()
        if self.agents.get(agent.name) is not agent:
            return
        runtime.use(agent.world.app)
        headers = {"Authorization": f"Bearer {agent.token}"}
        answer = agent.world.call("POST", f"/api/nodes/{agent.instance_id}/{call}", body, token=None, headers=headers)
        over = answer.status == 410 or (answer.status < 300 and not answer.json["renewed"])
        if answer.status < 300 and not over:
            agent.heard, agent.lease = now, timedelta(seconds=answer.json["lease_seconds"])
        if over or now >= agent.deadline or now - agent.heard > agent.lease:
            # As the agent's own end does it: the machine asks Azure for the end of its group.
            self._deletes("node", agent.name)
            del self.agents[agent.name]
            self.after(45, lambda: self._drop(agent.name))
            return
        agent.serving |= call == "register"
        self._next(agent)

    def status(self, target: NodeTarget) -> NodeStatus:
        raise NodeUnreachableError("nodes that call by themselves are not asked")

    def statuses(self, targets: Sequence[NodeTarget]) -> dict[str, NodeStatus]:
        return {}

    def probe(self, targets: Sequence[NodeTarget]) -> dict[str, Probe]:
        return {target.cluster_name: self._probe(target.cluster_name) for target in targets}

    def _probe(self, cluster: str) -> Probe:
        agent = self.agents.get(cluster)
        if agent is None or not agent.serving:
            return Probe(alive=False, message="no answer in time")
        return Probe(alive=True, running_requests=1.0, waiting_requests=0.0)


def _due(world: Deployed) -> list[datetime]:
    waiting = world.queues.next_visible_at(*QUEUES)
    return [world.next_sweep_at] if waiting is None else [world.next_sweep_at, waiting]


def _cluster(text: str) -> str:
    found = _CLUSTER.search(text)
    assert found is not None, f"{text} belongs to no cluster of ours"
    return found[0].lower()
