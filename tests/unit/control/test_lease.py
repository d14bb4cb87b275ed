"""The lease of a node: who may go on living, and for how long."""

from datetime import timedelta
from typing import Any, cast

import pytest

from gpulaunch.models.instances import Phase
from shared.control.node_calls import NodeCaller, NodeCalls
from shared.control.records import Records
from shared.domain.errors import AttemptOverError
from shared.domain.instance import AttemptState, InstanceRecord
from shared.redaction import Redactor
from shared.storage.base import Versioned
from tests.twins.clock import START, ManualClock
from tests.twins.factories import make_attempt, make_record

LEASE = 900
LIVING = [Phase.PROVISIONING, Phase.INSTALLING, Phase.LOADING_MODEL, Phase.REGISTERING, Phase.READY]


class Assigning:
    def make(self, record: InstanceRecord, attempt: int) -> Any:
        return (record.instance_id, attempt)


def calls(seconds: float = 0.0) -> NodeCalls:
    clock = ManualClock()
    clock.advance(seconds)
    return NodeCalls(cast("Records", None), Assigning(), clock, Redactor([]), LEASE, lambda _: None)


def caller(attempt: int = 1, state: AttemptState = AttemptState.SUBMITTED, **given: Any) -> NodeCaller:
    gone: dict[str, Any] = {"state": AttemptState.GONE, "gone_at": START}
    attempts = [make_attempt(**gone), make_attempt(number=2, state=state)]
    fields: dict[str, Any] = {"phase": Phase.READY, "attempts": attempts, "deadline_at": START + timedelta(hours=1)}
    return NodeCaller(Versioned(make_record(**fields | given), "etag"), attempt)


@pytest.mark.parametrize("phase", LIVING)
@pytest.mark.parametrize("state", [AttemptState.SUBMITTING, AttemptState.SUBMITTED])
def test_the_latest_attempt_of_a_live_instance_should_have_one(phase: Phase, state: AttemptState) -> None:
    answer = calls().lease(caller(2, state, phase=phase))
    assert (answer.renewed, answer.lease_seconds) == (True, LEASE)


@pytest.mark.parametrize(
    ("attempt", "given"),
    [
        (1, {}),
        (3, {}),
        (2, {"state": AttemptState.RELEASING}),
        (2, {"state": AttemptState.GONE}),
        (2, {"phase": Phase.TERMINATING}),
        (2, {"phase": Phase.TERMINATED, "ended_at": START}),
        (2, {"phase": Phase.FAILED, "ended_at": START}),
        (2, {"attempts": []}),
        (2, {"deadline_at": START}),
    ],
)
def test_no_other_should(attempt: int, given: dict[str, Any]) -> None:
    answer = calls().lease(caller(attempt, **given))
    assert (answer.renewed, answer.lease_seconds) == (False, 0)
    with pytest.raises(AttemptOverError):
        calls().assignment(caller(attempt, **given))


@pytest.mark.parametrize(("seconds", "left"), [(3600 - LEASE, LEASE), (3600 - LEASE + 1, LEASE - 1), (3599, 1)])
def test_it_should_never_reach_beyond_the_deadline(seconds: float, left: int) -> None:
    assert calls(seconds).lease(caller(2)).lease_seconds == left


def test_whoever_has_one_should_get_the_assignment_of_its_own_attempt() -> None:
    made = caller(2)
    assert calls().assignment(made) == (made.found.instance_id, 2)
