"""Simulated GPU nodes as a backend; `course.py` decides what becomes of a node."""

from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager, suppress

from gpulaunch.models.instances import Reason
from gpulaunch.models.requests import ProviderName
from shared.backends.simulation.cloud import SimulatedCloud, SimulatedNode
from shared.backends.simulation.course import CHECKED, Course, course, request_id_of, seconds_until
from shared.backends.simulation.faults import read_faults
from shared.clock import Clock
from shared.clouds.labels import is_gc_protected
from shared.domain.instance import Failure
from shared.domain.node import NodeStatus
from shared.domain.provider import (
    AttemptRef,
    Availability,
    Cluster,
    LaunchRefusedError,
    LaunchSpec,
    NodeState,
    NodeTarget,
    NodeUnreachableError,
    NodeView,
    Probe,
    ProviderUnavailableError,
)
from shared.errors import StoreUnavailableError


class SimulationProvider:
    """Starts and ends simulated nodes; `speed` is in simulated seconds per second of the clock."""

    def __init__(self, cloud: SimulatedCloud, clock: Clock, speed: float = 1.0) -> None:
        self._cloud = cloud
        self._clock = clock
        self._speed = speed

    def availability(self, provider: ProviderName, elapsed_seconds: float) -> Availability:
        """Always enabled, after a check of 2 simulated seconds. No storage is touched."""
        rest = seconds_until(CHECKED / self._speed - elapsed_seconds)
        return Availability(enabled=True, reason=f"Launches on {provider} are simulated.", wait_seconds=rest)

    def submit(self, launch_spec: LaunchSpec) -> str | None:
        """See Provider; one insert. Labels that ask for unknown faults are refused."""
        try:
            read_faults(launch_spec.labels)
        except ValueError as error:
            raise LaunchRefusedError(Failure(reason=Reason.INVALID_TASK, message=str(error))) from error
        node = SimulatedNode(
            cluster_name=launch_spec.cluster_name,
            instance_id=launch_spec.instance_id,
            attempt=launch_spec.attempt,
            labels=launch_spec.labels,
            started_at=launch_spec.started_at,
            created_at=self._clock.now(),
            deployment=launch_spec.deployment,
        )
        with _answers():
            self._cloud.add(node)
        return request_id_of(launch_spec.cluster_name)

    def describe(self, attempt_ref: AttemptRef) -> NodeView:
        """See Provider; one read."""
        with _answers():
            node = self._cloud.get(attempt_ref.cluster_name)
        if node is None:
            return NodeView(state=NodeState.ABSENT, detail="The simulated node does not exist")
        return self._course(node).view()

    def release(self, attempt_ref: AttemptRef) -> bool:
        """See Provider; one delete, and a read before where a fault requires more calls."""
        with _answers():
            if read_faults(attempt_ref.labels).teardown_tries:
                node = self._cloud.get(attempt_ref.cluster_name)
                if node is None:
                    return True
                if node.release_calls < read_faults(node.labels).teardown_tries:
                    self._cloud.replace(node.model_copy(update={"release_calls": node.release_calls + 1}))
                    return False
            self._cloud.remove(attempt_ref.cluster_name)
        return True

    def delete(self, cluster_name: str) -> bool:
        with _answers():
            self._cloud.remove(cluster_name)
        return True

    def clusters(self) -> Sequence[Cluster]:
        """See Provider; one request per thousand nodes."""
        with _answers():
            nodes = self._cloud.nodes()
        return [
            Cluster(
                cluster_name=node.cluster_name,
                state=state,
                created_at=node.created_at,
                gc_protected=is_gc_protected(node.labels),
                deployment=node.deployment,
            )
            for node in nodes
            if (state := self._course(node).state) is not NodeState.ABSENT
        ]

    def lost(self, cluster_names: Sequence[str]) -> Mapping[str, str]:  # noqa: ARG002
        """See Provider; its records are its cloud."""
        return {}

    def log_tail(self, attempt_ref: AttemptRef, lines: int) -> list[str]:
        """See Provider; one read."""
        with _answers():
            node = self._cloud.get(attempt_ref.cluster_name)
        if node is None or lines < 1:
            return []
        return self._course(node).launch_log()[-lines:]

    def _course(self, node: SimulatedNode) -> Course:
        return course(node, self._clock.now(), self._speed)


class SimulatedNodes:
    def __init__(self, cloud: SimulatedCloud, clock: Clock, speed: float = 1.0) -> None:
        self._cloud = cloud
        self._clock = clock
        self._speed = speed

    def status(self, target: NodeTarget) -> NodeStatus:
        """See Nodes; one read. Storage that does not answer is a node that does not."""
        try:
            node = self._cloud.get(target.cluster_name)
        except StoreUnavailableError as error:
            raise NodeUnreachableError(f"cannot reach the simulated node: {error}") from error
        if node is None:
            raise NodeUnreachableError("the simulated node does not exist")
        return course(node, self._clock.now(), self._speed).status()

    def statuses(self, targets: Sequence[NodeTarget]) -> dict[str, NodeStatus]:
        """See Nodes; one read each."""
        answers: dict[str, NodeStatus] = {}
        for target in targets:
            with suppress(NodeUnreachableError):
                answers[target.cluster_name] = self.status(target)
        return answers

    def probe(self, targets: Sequence[NodeTarget]) -> dict[str, Probe]:
        """See Nodes; one read, for several one query over their range of names.

        Raises:
            StoreUnavailableError: Storage did not answer, which says nothing about the nodes.
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


@contextmanager
def _answers() -> Generator[None]:
    """Storage is this provider's cloud: where it does not answer, the provider doesn't."""
    try:
        yield
    except StoreUnavailableError as error:
        raise ProviderUnavailableError(f"the simulated cloud does not answer: {error}") from error
