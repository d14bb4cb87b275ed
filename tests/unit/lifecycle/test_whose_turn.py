"""What an observation is about: the latest attempt, and nothing while the instance terminates."""

from datetime import timedelta

import pytest

from gpulaunch.models.instances import Phase, Reason
from shared.domain.instance import AttemptState
from shared.domain.node import NodePhase
from shared.domain.provider import NodeState
from shared.lifecycle.machine import decide
from shared.lifecycle.observations import Observation
from tests.twins.clock import START
from tests.twins.factories import make_attempt, make_record
from tests.unit.lifecycle.story import DEAD, LIMITS, ON_DEMAND, SPOT, TICK, looked, probed, reported


def test_a_starting_node_that_stopped_should_be_judged_by_its_own_offer() -> None:
    earlier = make_attempt(state=AttemptState.GONE, gone_at=START, offer=SPOT)
    latest = make_attempt(number=2, state=AttemptState.SUBMITTED, offer=ON_DEMAND)
    record = make_record(phase=Phase.INSTALLING, attempts=[earlier, latest], offers=[SPOT, ON_DEMAND], tried_in_round=2)
    decision = decide(record, looked(NodeState.STOPPED), START + timedelta(minutes=1), LIMITS)
    failure = decision.record.attempts[-1].failure
    assert failure is not None
    assert failure.reason is Reason.NODE_LOST


@pytest.mark.parametrize("observed", [TICK, probed(DEAD), looked(NodeState.STOPPED), reported(NodePhase.FAILED)])
def test_a_terminating_record_should_be_changed_by_nothing_but_its_release(observed: Observation) -> None:
    record = make_record(phase=Phase.TERMINATING, attempts=[make_attempt(state=AttemptState.SUBMITTED)])
    assert not decide(record, observed, START + timedelta(days=2), LIMITS).changed
