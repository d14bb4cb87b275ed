"""The simulated nodes, asked directly."""

from collections.abc import Iterable, Sequence
from contextlib import suppress

from shared.backends.simulation.cloud import SimulatedCloud, SimulatedNode
from shared.backends.simulation.course import course
from shared.clock import Clock
from shared.domain.node import NodeStatus
from shared.domain.provider import NodeTarget, NodeUnreachableError, Probe
from shared.errors import StoreUnavailableError


class SimulatedNodes:
    """The simulated nodes, asked directly. Parameters as for SimulationProvider."""

    def __init__(self, cloud: SimulatedCloud, clock: Clock, speed: float = 1.0) -> None:
        self._cloud = cloud
        self._clock = clock
        self._speed = speed

    def status(self, target: NodeTarget) -> NodeStatus:
        """The agent's account of its node; one read. Raises NodeUnreachableError, also when storage does not answer."""
        try:
            node = self._cloud.get(target.cluster_name)
        except StoreUnavailableError as error:
            raise NodeUnreachableError(f"cannot reach the simulated node: {error}") from error
        if node is None:
            raise NodeUnreachableError("the simulated node does not exist")
        return course(node, self._clock.now(), self._speed).status()

    def statuses(self, targets: Sequence[NodeTarget]) -> dict[str, NodeStatus]:
        """The accounts of all targets that answer, one read each."""
        answers: dict[str, NodeStatus] = {}
        for target in targets:
            with suppress(NodeUnreachableError):
                answers[target.cluster_name] = self.status(target)
        return answers

    def probe(self, targets: Sequence[NodeTarget]) -> dict[str, Probe]:
        """Ask all targets; one read, for several one query over their range of names.

        Raises StoreUnavailableError: storage that does not answer says nothing about the nodes.
        """
        names = {target.cluster_name for target in targets}
        now = self._clock.now()
        found = {node.cluster_name: course(node, now, self._speed).probe() for node in self._find(names)}
        return {
            name: found.get(name, Probe(alive=False, message="The simulated node does not exist.")) for name in names
        }

    def _find(self, names: set[str]) -> Iterable[SimulatedNode]:
        if len(names) > 1:
            return self._cloud.nodes(min(names), max(names))
        found = [self._cloud.get(name) for name in names]
        return [node for node in found if node is not None]
