"""What the program is given that needs no room of its own: settings, ids, a model store, the simulation's own cloud."""

from collections.abc import Callable
from datetime import datetime
from functools import cache
from random import Random

from ulid import ULID

from gpulaunch.models.requests import LaunchRequest
from shared.adapters import with_user
from shared.backends.simulation.cloud import SimulatedNode
from shared.domain.references import Reference
from shared.model_sources.base import HubSource, ModelListing
from shared.settings import Settings
from tests.functional.world import settings
from tests.simulation.chaos import Chaos
from tests.simulation.checks import Checks
from tests.simulation.witness import WEBHOOK
from tests.twins.factories import DEPLOYMENT
from tests.twins.simulated_cloud import MemorySimulatedCloud


class Ids:
    """Instance ids out of the seed."""

    def __init__(self, random: Random) -> None:
        self._random = random

    def instance_id(self, now: datetime) -> str:
        head = int(now.timestamp() * 1000).to_bytes(6, "big")
        return f"inst-{ULID.from_bytes(head + self._random.randbytes(10))}"


class Files:
    """A model store."""

    def __init__(self, chaos: Chaos, name_of: Callable[[LaunchRequest], str]) -> None:
        self._chaos = chaos
        self._name_of = name_of

    def list_files(self, request: LaunchRequest, until: datetime | None = None) -> ModelListing:
        # In pages, each with its own time limit and tries.
        what = f"list files of {self._name_of(request)}"
        return self._chaos.sky(what, lambda: ModelListing([], request.model_name), longest=150.0)

    def beside(self, reference: Reference, name: str, revision: str) -> tuple[HubSource, ModelListing]:
        raise AssertionError(f"no user of the simulation names {reference}")


class FaultySimulatedCloud(MemorySimulatedCloud):
    """The simulation's own cloud under faults."""

    def __init__(self, chaos: Chaos, checks: Checks) -> None:
        super().__init__()
        self._chaos = chaos
        self._checks = checks

    @property
    def names(self) -> set[str]:
        return set(self._nodes)

    def add(self, node: SimulatedNode) -> bool:
        def effect() -> bool:
            if node.cluster_name not in self._nodes:
                self._checks.machine_comes(node.cluster_name)
                self._checks.launches[node.cluster_name] += 1
            return super(FaultySimulatedCloud, self).add(node)

        return self._chaos.storage(f"add node {node.cluster_name[-7:]}", effect)

    def get(self, cluster_name: str) -> SimulatedNode | None:
        act = super().get
        return self._chaos.storage(f"get node {cluster_name[-7:]}", lambda: act(cluster_name))

    def replace(self, node: SimulatedNode) -> None:
        act = super().replace
        self._chaos.storage(f"replace node {node.cluster_name[-7:]}", lambda: act(node))

    def remove(self, cluster_name: str) -> None:
        act = super().remove

        def effect() -> None:
            self._checks.deletion_asked(cluster_name)
            act(cluster_name)
            self._checks.machine_ended(cluster_name)

        self._chaos.storage(f"remove node {cluster_name[-7:]}", effect)

    def nodes(self, first: str | None = None, last: str | None = None) -> list[SimulatedNode]:
        act = super().nodes
        return self._chaos.storage("list nodes", lambda: act(first, last))


@cache
def settings_of(kind: str, money: tuple[tuple[str, str], ...], lease: str) -> Settings:
    given = dict(money) | WEBHOOK
    if kind == "simulation":
        return with_user(settings(**given), DEPLOYMENT)
    given["GPULAUNCH_LEASE_SECONDS"] = lease
    given |= {"GPULAUNCH_ORCHESTRATOR": "skypilot", "SKYPILOT_API_SERVER_ENDPOINT": "https://sky.example.com"}
    if kind == "push":
        given["GPULAUNCH_PUBLIC_URL"] = "https://app.example.com"
    return with_user(settings(**given), DEPLOYMENT)


def draw_money(random: Random) -> tuple[tuple[str, str], ...]:
    """What a deployment counts; most seeds count nothing."""
    if random.random() < 0.6:
        return ()
    given = [("GPULAUNCH_MONTHLY_BUDGET_USD", random.choice(("60", "120", "1000")))]
    if random.random() < 0.5:
        given.append(("GPULAUNCH_BUDGET_ACTION", "end"))
    if random.random() < 0.5:
        given.append(("GPULAUNCH_MAX_INSTANCES", random.choice(("2", "4"))))
    return tuple(given)
