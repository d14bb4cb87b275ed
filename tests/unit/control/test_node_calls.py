"""Which calls are a node's, of which attempt, and what a heartbeat is answered."""

from typing import Any

import pytest

from gpulaunch.models.instances import Phase
from shared.auth import Deriver, Purpose
from shared.control import node_calls
from shared.control.node_calls import CALLED_FOR, NodeCaller, NodeCalls, NodeDoor
from shared.domain.errors import NodeTokenError, UnrecordedNodeError
from shared.domain.instance import AttemptState, cluster_name
from shared.domain.node import NodePhase, ReportRequest
from shared.errors import StoreUnavailableError
from shared.redaction import Redactor
from shared.storage import rows
from shared.storage.base import UNRECORDED_CALLER, UnreadableRecordError, Versioned
from tests.contract.test_unreadable_rows import later_phase, rewrite
from tests.functional.scripted import Assigning
from tests.functional.world import MASTER
from tests.twins.clock import START
from tests.twins.factories import make_attempt, make_instance_id
from tests.unit.control.test_sweep_tasks import AWAY, ONE, OTHER, Deployment

DERIVER = Deriver(MASTER)
LEASE = 900
MOST = node_calls._ATTEMPTS  # pyright: ignore[reportPrivateUsage]
GONE: dict[str, Any] = {"state": AttemptState.GONE, "gone_at": START}


def token(attempt: int, instance_id: str = ONE, purpose: Purpose = Purpose.NODE) -> str:
    return DERIVER.derive(instance_id, attempt, purpose)


class TestDoor:
    def caller(self, deployment: Deployment, given: str, instance_id: str = ONE) -> NodeCaller:
        return NodeDoor(deployment.store, DERIVER, deployment.clock).caller(instance_id, given)

    @pytest.fixture
    def deployment(self) -> Deployment:
        made = Deployment()
        made.create(attempts=[make_attempt(**GONE), make_attempt(number=2)])
        return made

    @pytest.mark.parametrize("attempt", [1, 2])
    def test_a_node_should_be_known_by_its_attempt_s_token(self, deployment: Deployment, attempt: int) -> None:
        caller = self.caller(deployment, token(attempt))
        assert (caller.attempt, caller.found.instance_id) == (attempt, ONE)
        assert deployment.marked(UNRECORDED_CALLER) == {}

    @pytest.mark.parametrize("attempt", [3, 2 + MOST])
    def test_one_of_a_later_attempt_should_be_noted_as_not_recorded(self, deployment: Deployment, attempt: int) -> None:
        with pytest.raises(UnrecordedNodeError):
            self.caller(deployment, token(attempt))
        (marker,) = deployment.store.markers(UNRECORDED_CALLER)
        assert (marker.key, marker.at, marker.until) == (cluster_name(ONE, attempt), START, START + CALLED_FOR)

    @pytest.mark.parametrize(
        "given", [token(3 + MOST), token(0), token(1, OTHER), token(1, purpose=Purpose.AGENT), "", "é"]
    )
    def test_any_other_token_should_be_refused_and_not_noted(self, deployment: Deployment, given: str) -> None:
        with pytest.raises(NodeTokenError):
            self.caller(deployment, given)
        assert deployment.marked(UNRECORDED_CALLER) == {}

    @pytest.mark.parametrize(("attempt", "noted"), [(1, True), (MOST, True), (0, False), (1 + MOST, False)])
    @pytest.mark.parametrize("readable", [None, False])
    def test_of_a_record_that_is_lost_or_unreadable_every_attempt_s_node_should_be_noted(
        self, deployment: Deployment, readable: bool | None, attempt: int, *, noted: bool
    ) -> None:
        if readable is False:
            deployment.create(OTHER)
            rewrite(deployment.store, rows.record_key(OTHER, ended=False), later_phase)
        with pytest.raises(UnrecordedNodeError if noted else NodeTokenError):
            self.caller(deployment, token(attempt, OTHER), OTHER)
        assert set(deployment.marked(UNRECORDED_CALLER)) == ({cluster_name(OTHER, attempt)} if noted else set())

    def test_of_an_instance_that_has_ended_no_further_node_should_be_noted(self, deployment: Deployment) -> None:
        deployment.create(OTHER, phase=Phase.TERMINATED, ended_at=START)
        with pytest.raises(NodeTokenError):
            self.caller(deployment, token(1, OTHER), OTHER)
        deployment.create(make_instance_id(3))
        rewrite(deployment.store, rows.record_key(make_instance_id(3), ended=False), later_phase)
        with pytest.raises(UnreadableRecordError) as caught:
            deployment.store.load(make_instance_id(3))
        deployment.store.close_unreadable(caught.value.unreadable)
        with pytest.raises(UnreadableRecordError):
            self.caller(deployment, token(1, make_instance_id(3)), make_instance_id(3))
        assert deployment.marked(UNRECORDED_CALLER) == {}


class TestHeartbeat:
    def beat(self, phase: Phase, *attempts: dict[str, Any], attempt: int = 2, fails: bool = False) -> Any:
        deployment = Deployment()
        made = [make_attempt(number=number, **given) for number, given in enumerate(attempts, 1)]
        deployment.create(phase=phase, attempts=made, mode="real")
        calls = NodeCalls(deployment.records, Assigning(), deployment.clock, Redactor([]), LEASE, lambda _: None)
        found = deployment.store.load(ONE)
        assert isinstance(found, Versioned)
        if fails:
            deployment.store.calls.fail_next("commit", AWAY)
        answer = calls.heartbeat(NodeCaller(found, attempt))
        self.heard_at = deployment.record().attempts[-1].heard_at
        return answer

    @pytest.mark.parametrize(
        ("phase", "first", "latest", "asked"),
        [
            (Phase.INSTALLING, NodePhase.SERVING, None, True),
            (Phase.INSTALLING, NodePhase.SERVING, NodePhase.INSTALLING, True),
            (Phase.STARTING_SERVER, None, NodePhase.SERVING, False),
            (Phase.READY, NodePhase.SERVING, None, False),
            (Phase.READY, None, NodePhase.SERVING, False),
        ],
    )
    def test_a_node_that_serves_should_be_asked_for_the_reports_that_its_latest_attempt_lacks(
        self, phase: Phase, first: NodePhase | None, latest: NodePhase | None, *, asked: bool
    ) -> None:
        earlier = {**GONE, "node_phase": first}
        answer = self.beat(phase, earlier, {"state": AttemptState.SUBMITTED, "node_phase": latest})
        assert (answer.renewed, answer.lease_seconds) == (True, LEASE)
        assert isinstance(answer, ReportRequest) is asked

    @pytest.mark.parametrize(("attempt", "state"), [(1, AttemptState.SUBMITTED), (2, AttemptState.RELEASING)])
    def test_one_without_a_lease_should_not(self, attempt: int, state: AttemptState) -> None:
        answer = self.beat(Phase.INSTALLING, GONE, {"state": state}, attempt=attempt)
        assert (answer.renewed, isinstance(answer, ReportRequest)) == (False, False)

    @pytest.mark.parametrize("fails", [False, True])
    def test_that_it_was_heard_should_be_written_down_where_storage_allows(self, *, fails: bool) -> None:
        serving = {"state": AttemptState.SUBMITTED, "node_phase": NodePhase.SERVING}
        assert self.beat(Phase.READY, GONE, serving, fails=fails).renewed
        assert (self.heard_at is None) is fails


def test_a_node_that_the_table_has_lost_should_keep_its_lease() -> None:
    deployment = Deployment()
    calls = NodeCalls(deployment.records, Assigning(), deployment.clock, Redactor([]), LEASE, lambda _: None)
    answer = calls.unrecorded()
    assert (answer.renewed, answer.lease_seconds) == (True, LEASE)


def test_storage_without_an_answer_should_not_be_taken_for_a_wrong_token() -> None:
    deployment = Deployment()
    deployment.store.calls.fail_next("load", AWAY)
    with pytest.raises(StoreUnavailableError):
        NodeDoor(deployment.store, DERIVER, deployment.clock).caller(ONE, token(1))
