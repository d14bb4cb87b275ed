"""Another deployment's nodes on the same cloud and the same SkyPilot server: nothing may ever happen to them."""

from dataclasses import dataclass, field
from datetime import timedelta
from random import Random
from typing import TYPE_CHECKING

from shared.backends.simulation.cloud import SimulatedNode
from shared.clouds.labels import DEPLOYMENT_LABEL
from shared.control.garbage_report import GARBAGE, GarbageReport
from shared.domain.instance import instance_of
from tests.functional.world import ADMIN
from tests.simulation.cloud import Cluster
from tests.simulation.scheduler import Process
from tests.twins.factories import OTHER_DEPLOYMENT
from tests.twins.simulated_cloud import MemorySimulatedCloud

if TYPE_CHECKING:
    from tests.simulation.simulator import Simulator

SHARE = 0.3
"""Of the seeds that have neighbours."""
CONFIRMED_EVERY = 60.0
"""Seconds between two looks of the operator at what waits for a confirmation."""


@dataclass
class Neighbours:
    """Their draws are their own, so that a seed with them is otherwise the one without."""

    seed: int
    names: frozenset[str] = field(default=frozenset(), init=False)

    def move_in(self, simulator: "Simulator") -> None:
        random = Random(f"neighbours {self.seed}")
        if random.random() >= SHARE:
            return
        self.names = frozenset(f"gl-01k{random.randrange(10**23):023d}-01" for _ in range(random.randint(1, 4)))
        simulator.checks.neighbours = self.names
        begun = simulator.scheduler.start - timedelta(hours=3)
        for name in sorted(self.names):
            # Made before there were labels, or by a version that has them.
            owner = OTHER_DEPLOYMENT if random.random() < 0.7 else None
            labels = {} if owner is None else {DEPLOYMENT_LABEL: owner}
            if simulator.kind == "simulation":
                node = SimulatedNode(
                    cluster_name=name,
                    instance_id=instance_of(name),
                    attempt=1,
                    started_at=begun,
                    created_at=begun,
                    deployment=owner,
                )
                MemorySimulatedCloud.add(simulator.simulated, node)
                continue
            if simulator.azure is not None:
                simulator.azure.made(name, "eastus", labels, spot=False)
            if simulator.azure is None or random.random() < 0.5:
                simulator.sky.has(Cluster(name, begun.timestamp(), labels, "UP", begun.timestamp()))
            simulator.machines.running[name] = "up"

    def lost(self, there: set[str]) -> set[str]:
        return set(self.names - there)


def operate(simulator: "Simulator") -> None:
    """A person confirms whatever the garbage collection asks about, without a second look."""

    def confirm() -> None:
        simulator.host.call("confirm_garbage", {}, {"clusters": waiting}, {"X-Admin-Token": ADMIN})

    texts = [marker.text for marker in simulator.table.markers(GARBAGE) if marker.key == "report"]
    waiting = [one.cluster_name for text in texts for one in GarbageReport.model_validate_json(text).waiting]
    if waiting:
        simulator.scheduler.note(f"{len(waiting)} nodes are confirmed as garbage")
        simulator.scheduler.spawn("operator", Process("operator"), confirm)
    simulator.scheduler.after(CONFIRMED_EVERY * simulator.workload.pace, lambda: operate(simulator))
