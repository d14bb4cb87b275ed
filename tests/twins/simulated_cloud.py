"""A SimulatedCloud in memory."""

from shared.backends.simulation.cloud import SimulatedNode
from tests.twins.faults import Calls


class MemorySimulatedCloud:
    """Nodes are kept as JSON, as the table keeps them."""

    def __init__(self) -> None:
        self.calls = Calls()
        self._nodes: dict[str, str] = {}

    def add(self, node: SimulatedNode) -> bool:
        with self.calls.call("add"):
            if node.cluster_name in self._nodes:
                return False
            self._nodes[node.cluster_name] = node.model_dump_json()
            return True

    def get(self, cluster_name: str) -> SimulatedNode | None:
        with self.calls.call("get"):
            found = self._nodes.get(cluster_name)
            return None if found is None else SimulatedNode.model_validate_json(found)

    def replace(self, node: SimulatedNode) -> None:
        with self.calls.call("replace"):
            if node.cluster_name in self._nodes:
                self._nodes[node.cluster_name] = node.model_dump_json()

    def remove(self, cluster_name: str) -> None:
        with self.calls.call("remove"):
            self._nodes.pop(cluster_name, None)

    def nodes(self, first: str | None = None, last: str | None = None) -> list[SimulatedNode]:
        with self.calls.call("nodes"):
            return [
                SimulatedNode.model_validate_json(self._nodes[name])
                for name in sorted(self._nodes)
                if (first is None or name >= first) and (last is None or name <= last)
            ]
