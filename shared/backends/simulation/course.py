"""Simulated GPU nodes: the way of a real launch in 82 simulated seconds, at no cost, with faults on demand.

| simulated seconds | what happens |
|---|---|
| 0 to 2 of validating | the provider is being checked |
| 0 to 30 of the attempt | provisioning: a request is under way |
| 30 to 45 | installing; the model is being fetched beside it |
| 45 to 65 | loading the model |
| 65 to 75 | starting the server |
| 75 to 80 | the server runs on its node, its address does not answer yet |
| from 80 | ready |

Seconds pass `speed` times as fast as the clock's. What is to become of a node follows from when its attempt began and
from its labels (see shared.backends.simulation.faults), so nothing has to run, and a restart changes nothing.
"""

import math
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Final

from gpulaunch.models.instances import Phase, Reason
from shared.backends.simulation.cloud import SimulatedNode
from shared.backends.simulation.faults import Faults, read_faults
from shared.domain.instance import Failure
from shared.domain.node import NodePhase, NodeStatus
from shared.domain.provider import NodeState, NodeUnreachableError, NodeView, Probe

CHECKED: Final = 2.0
REFUSED: Final = 5.0
UP: Final = 30.0
SETUP_FAILED: Final = 40.0
LOADING: Final = 45.0
STARTING: Final = 65.0
SERVING: Final = 75.0
READY: Final = 80.0

PORT: Final = 8000
MODEL_BYTES: Final = 16_060_000_000
"""An 8B model in bfloat16."""

_EXACT: Final = 2e-6
"""Seconds: clocks count microseconds, so a time that was waited for may be short by one of them."""

_LAUNCH_LOG: Final = (
    (0.0, "Simulated launch: no machine is rented"),
    (4.0, "Capacity found; creating the machine"),
    (21.0, "Machine is running; waiting for its network"),
    (UP, "Node is up; set-up begins"),
)
_NODE_LOG: Final = (
    (UP, "Installing vLLM"),
    (UP, f"Fetching the model: {MODEL_BYTES / 1e9:.1f} GB in 4 files"),
    (LOADING, "vLLM is installed"),
    (STARTING, "All files of the model are here and have their sizes"),
    (STARTING, "Starting vLLM"),
    (70.0, "Model weights loaded"),
    (SERVING, f"Application startup complete; listening on port {PORT}"),
)


@dataclass(frozen=True, kw_only=True)
class Course:
    node: SimulatedNode
    faults: Faults
    elapsed: float
    """Seconds of the clock since the attempt began."""
    speed: float

    @property
    def state(self) -> NodeState:
        if self._refused:
            return NodeState.ABSENT if self._past(REFUSED) else NodeState.PENDING
        if not self._past(UP):
            return NodeState.PENDING
        return NodeState.STOPPED if self._evicted else NodeState.UP

    def view(self) -> NodeView:
        state = self.state
        view = partial(
            NodeView,
            state=state,
            request_id=request_id_of(self.node.cluster_name),
            look_again_seconds=self._next_change(),
        )
        if state is NodeState.ABSENT:
            failure = Failure(reason=Reason.NO_CAPACITY, message="Simulated: no capacity for this offer.")
            return view(detail="The launch was refused", failure=failure)
        if state is NodeState.PENDING:
            return view(detail="The simulated machine is being created")
        if state is NodeState.STOPPED:
            return view(detail="The simulated machine was evicted")
        failure = None
        if self._setup_failed:
            failure = Failure(reason=Reason.SETUP_FAILED, message="Simulated: the set-up of the node failed.")
        return view(detail="The simulated machine is running", address=_address(self.node), failure=failure)

    def status(self) -> NodeStatus:
        if self.state is not NodeState.UP or self._dead:
            raise NodeUnreachableError(f"simulated node {self.node.cluster_name} does not answer")
        share = min(1.0, (self._seconds - UP) / (STARTING - UP))
        log = [text for at, text in _NODE_LOG if at <= self._last_stage and self._past(at)]
        phase, detail = NodePhase.INSTALLING, "Installing vLLM"
        if self._setup_failed:
            phase, detail, share = NodePhase.FAILED, "Simulated: the set-up of the node failed.", min(share, 0.28)
            log.append(detail)
        elif self._past(SERVING) and self._last_stage >= SERVING:
            phase, detail = NodePhase.SERVING, "vLLM serves"
        elif self._past(STARTING):
            phase, detail = NodePhase.STARTING_SERVER, "Starting vLLM"
        elif self._past(LOADING):
            phase, detail = NodePhase.LOADING_MODEL, "Fetching the model"
        return NodeStatus(
            phase=phase,
            detail=detail,
            fetched_bytes=int(MODEL_BYTES * share),
            total_bytes=MODEL_BYTES,
            port=PORT if phase is NodePhase.SERVING else None,
            log_tail=log,
        )

    def probe(self) -> Probe:
        if self.state is not NodeState.UP or self._dead:
            return Probe(alive=False, message="The simulated node does not answer.")
        if self._last_stage < READY or not self._past(READY):
            return Probe(alive=False, message="vLLM's address does not answer yet.")
        until = self.faults.busy_until
        busy = until is not None and not self._past(READY + until)
        return Probe(
            alive=True,
            message="",
            running_requests=float(busy),
            waiting_requests=0.0,
            finished_requests=float(until is not None and not busy),
        )

    def launch_log(self) -> list[str]:
        if self._refused:
            refusal = ["No capacity"] if self._past(REFUSED) else []
            return [_LAUNCH_LOG[0][1], *refusal]
        return [text for at, text in _LAUNCH_LOG if self._past(at)]

    @property
    def _seconds(self) -> float:
        return max(0.0, self.elapsed + _EXACT) * self.speed

    @property
    def _refused(self) -> bool:
        return self.node.attempt <= self.faults.no_capacity

    @property
    def _last_stage(self) -> float:
        """The last of the stages that the node reaches."""
        if self.node.attempt <= self.faults.setup_failure:
            return UP
        return STARTING if self.node.attempt <= self.faults.never_registers else READY

    @property
    def _setup_failed(self) -> bool:
        return self.node.attempt <= self.faults.setup_failure and self._past(SETUP_FAILED)

    @property
    def _eviction(self) -> float | None:
        after = self.faults.evict_after if self.node.attempt == 1 else None
        return None if after is None or self._last_stage < READY else READY + after

    @property
    def _evicted(self) -> bool:
        return self._eviction is not None and self._past(self._eviction)

    @property
    def _dead(self) -> bool:
        after = self.faults.dead_after if self.node.attempt == 1 else None
        return after is not None and self._last_stage >= READY and self._past(READY + after)

    def _past(self, moment: float) -> bool:
        return self._left(moment) <= _EXACT

    def _left(self, moment: float) -> float:
        return moment / self.speed - self.elapsed

    def _next_change(self) -> float | None:
        """Seconds of the clock until there is something new to see."""
        if self._refused:
            moments = [REFUSED]
        elif self._last_stage < LOADING:
            moments = [UP, SETUP_FAILED]
        else:
            moments = [one for one in (UP, LOADING, STARTING, SERVING, READY) if one <= self._last_stage]
        if self._eviction is not None:
            moments.append(self._eviction)
        return min((seconds_until(self._left(one)) for one in moments if not self._past(one)), default=None)


def course(node: SimulatedNode, now: datetime, speed: float) -> Course:
    elapsed = (now - node.started_at).total_seconds()
    return Course(node=node, faults=read_faults(node.labels), elapsed=elapsed, speed=speed)


def seconds_until(seconds: float) -> float:
    """Seconds to wait, up to the next microsecond, so that the clock is there then; 0 when there is nothing to wait."""
    return 0.0 if seconds <= _EXACT else math.ceil(seconds * 1e6) / 1e6


def request_id_of(cluster_name: str) -> str:
    return f"simulated-{cluster_name}"


def _address(node: SimulatedNode) -> str:
    # `.invalid` is reserved: it never reaches a real host by mistake
    return f"simulated-{node.cluster_name}.invalid"


def expected_seconds(speed: float) -> dict[Phase, float]:
    simulated = {
        Phase.VALIDATING: CHECKED,
        Phase.PROVISIONING: UP,
        Phase.INSTALLING: LOADING - UP,
        Phase.LOADING_MODEL: STARTING - LOADING,
        Phase.STARTING_SERVER: SERVING - STARTING,
        Phase.REGISTERING: READY - SERVING,
    }
    return {phase: seconds / speed for phase, seconds in simulated.items()}
