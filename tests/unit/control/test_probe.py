"""Which ready nodes are asked: those that cannot call, by how their latest attempt was launched."""

import pytest

from gpulaunch.models.instances import Phase
from shared.control.probe import NodeProbes
from shared.domain.instance import AttemptState
from shared.domain.node import NodePhase, NodeStatus
from shared.redaction import Redactor
from shared.storage.base import Versioned
from tests.twins.clock import START
from tests.twins.factories import make_attempt, make_record
from tests.unit.control.test_observer import Looking


@pytest.mark.parametrize(("calls", "asked"), [((True, False), 1), ((False, True), 0)])
def test_whether_the_latest_attempt_s_node_calls_should_decide_and_not_an_earlier_one_s(
    calls: tuple[bool, bool], asked: int
) -> None:
    looking = Looking()
    looking.provider.node = NodeStatus(phase=NodePhase.SERVING, port=8000)
    attempts = [
        make_attempt(number=1, state=AttemptState.GONE, gone_at=START, calls_us=calls[0], address="a", port=8000),
        make_attempt(number=2, state=AttemptState.SUBMITTED, calls_us=calls[1], address="10.0.0.9", port=8000),
    ]
    record = make_record(mode="real", phase=Phase.READY, attempts=attempts)
    probes = NodeProbes(looking.provider.backends(), looking.observer.specs, Redactor(()))
    ((_, report, probe),) = probes.ask("real", [Versioned(record, "1")])
    assert looking.acts == [f"statuses {asked}", "probe 8000"]
    assert (None if report is None else report.attempt, probe.alive) == (2 if asked else None, True)
