"""A step of an endpoint: written first, done once, begun anew where somebody else was first, and put off if refused."""

import logging
from collections import Counter
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, cast

import pytest

from gpulaunch.models.endpoints import EndpointSpec
from gpulaunch.models.gateways import GatewayReport
from gpulaunch.models.instances import Phase, Reason
from gpulaunch.models.offers import Offer
from gpulaunch.models.requests import LaunchRequest
from shared.auth import Deriver
from shared.autoscaling.observed import MISSING
from shared.control import replicas
from shared.control.launch import Launcher, ReplicaLaunch
from shared.control.replicas import SILENT, ReplicaKeeper
from shared.control.routes import RouteMaker
from shared.control.sweep.endpoint_replicas import EndpointReplicas
from shared.control.termination import Terminator
from shared.domain.endpoint import EndpointRecord, SlotState, new_endpoint, paused
from shared.domain.errors import InstanceNotFoundError, InvalidFieldsError
from shared.domain.instance import AttemptState, Failure, Health
from shared.domain.provider import LaunchRefusedError
from shared.errors import AlreadyExistsError, StaleRecordError, UnreadableRowError
from shared.storage import rows
from shared.storage.base import UnreadableRecordError
from shared.storage.endpoints import VersionedEndpoint
from tests.contract.test_unreadable_rows import later_phase, rewrite
from tests.functional.world import MASTER
from tests.twins.clock import START
from tests.twins.endpoints import MemoryEndpointStore
from tests.twins.factories import make_attempt, make_instance_id, make_offer, make_request
from tests.unit.control.test_sweep_tasks import ONE, OTHER, Deployment

SPOT, ON_DEMAND = make_offer(), make_offer(use_spot=False, price_per_hour=3.2)
STALE = StaleRecordError("somebody else was first")


@dataclass
class Answer:
    offers: list[Offer]


@dataclass
class Launching:
    """Stands for the launcher: what it was asked for, and what it answers or raises, in order."""

    deployment: Deployment
    answers: list[Offer | Exception] = field(default_factory=list[Offer | Exception])
    launched: list[str] = field(default_factory=list[str])
    crowds: list[Counter[str]] = field(default_factory=list[Counter[str]])

    def launch(self, request: LaunchRequest, *, replica: ReplicaLaunch) -> Answer:
        self.crowds.append(replica.crowd)
        answer = self.answers.pop(0) if self.answers else SPOT
        if isinstance(answer, Exception):
            raise answer
        self.launched.append(replica.instance_id)
        self.deployment.create(replica.instance_id, replica_of=replica.endpoint, generation=replica.generation)
        return Answer([answer, make_offer(region="westus")])


class Keeping:
    def __init__(self, count: int = 2) -> None:
        self.deployment = Deployment()
        self.clock, self.endpoints = self.deployment.clock, MemoryEndpointStore()
        self.launcher = Launching(self.deployment)
        self.terminated: list[str] = []
        self.keeper = ReplicaKeeper(
            self.endpoints,
            self.deployment.store,
            cast("Launcher", self.launcher),
            cast("Terminator", self),
            self.deployment.records,
            self.clock,
            RouteMaker(Deriver(MASTER)),
        )
        request = make_request().model_dump(exclude_unset=True)
        spec = EndpointSpec.model_validate({"launch": request, "replicas": count})
        self.endpoints.create(new_endpoint("chat", "ep-1", spec, START))

    def terminate(self, instance_id: str) -> None:
        self.terminated.append(instance_id)

    @property
    def found(self) -> VersionedEndpoint:
        found = self.endpoints.load("chat")
        assert found is not None
        return found

    @property
    def record(self) -> EndpointRecord:
        return self.found.record

    def step(self) -> list[str]:
        """Advance the endpoint as a sweep does; what storage was asked for."""
        found = self.found
        self.endpoints.calls.seen.clear()
        self.keeper.advance(found, {})
        return self.endpoints.calls.seen.copy()

    def change(self, state: SlotState | None = None, **given: Any) -> None:
        """Write the endpoint as a person, or an earlier step, has left it; `state`: of its first slot."""
        before = self.found
        first, *others = before.record.slots or [None]
        if state is not None and first is not None:
            given["slots"] = [first.model_copy(update={"state": state, "since": START}), *others]
        self.endpoints.commit(before, before.record.model_copy(update=given))

    def is_ready(self, instance_id: str, offer: Offer = SPOT, **health: Any) -> None:
        found = self.deployment.store.load(instance_id)
        assert found is not None
        attempt = make_attempt(instance_id, state=AttemptState.SUBMITTED, offer=offer)
        change: dict[str, Any] = {"phase": Phase.READY, "attempts": [attempt]}
        if health:
            change["health"] = Health(since=START, **health)
        self.deployment.store.commit(found, found.record.model_copy(update=change), [])

    def reported(self, gateway_id: str, age: timedelta, *, readable: bool = True) -> None:
        report = GatewayReport(gateway_id=gateway_id, at=self.clock.now() - age, endpoints=[], in_flight={})
        row = rows.row_of("", f"gateway|{gateway_id}", report)
        if not readable:
            row["doc"] = "{"
        self.endpoints.rows[f"gateway|{gateway_id}"] = ("1", row)


@pytest.fixture
def keeping() -> Keeping:
    return Keeping()


class TestSteps:
    def test_slots_should_be_written_and_then_launched_each_once(self, keeping: Keeping) -> None:
        assert keeping.step() == ["commit"]
        assert keeping.launcher.launched == [slot.instance_id for slot in keeping.record.slots]
        assert len(keeping.launcher.launched) == 2

    def test_a_step_without_a_change_should_write_nothing_and_launch_nothing(self, keeping: Keeping) -> None:
        keeping.step()
        assert keeping.step() == []
        assert len(keeping.launcher.launched) == 2

    @pytest.mark.parametrize("times", [1, 7])
    def test_where_somebody_else_was_first_it_should_be_decided_anew(self, keeping: Keeping, times: int) -> None:
        for _ in range(times):
            keeping.endpoints.calls.fail_next("commit", STALE)
        assert keeping.step() == ["commit", *["load", "commit"] * times]
        assert len(keeping.launcher.launched) == 2

    def test_who_is_always_too_late_should_launch_nothing_and_leave_it_to_the_sweep(self, keeping: Keeping) -> None:
        for _ in range(9):
            keeping.endpoints.calls.fail_next("commit", STALE)
        assert keeping.step().count("commit") == 9
        assert (keeping.launcher.launched, keeping.record.slots) == ([], [])

    def test_one_that_was_deleted_and_has_no_replica_should_be_removed_and_not_looked_for_again(
        self, keeping: Keeping
    ) -> None:
        keeping.change(deleting=True)
        assert keeping.step() == ["remove"]
        assert keeping.endpoints.load("chat") is None

    def test_a_message_should_make_the_same_step(self, keeping: Keeping) -> None:
        keeping.keeper.reconcile("chat")
        assert keeping.endpoints.calls.seen[1:] == ["load", "commit"]
        keeping.keeper.reconcile("unknown")
        assert len(keeping.launcher.launched) == 2

    def test_of_its_events_only_new_ones_should_be_logged(
        self, keeping: Keeping, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.INFO, "gpulaunch.endpoints")
        keeping.change(events=[])
        for number, reason in enumerate(("no budget is left", "no offer is left"), 1):
            caplog.clear()
            keeping.launcher.answers = [LaunchRefusedError(Failure(reason=Reason.BUDGET, message=reason))]
            keeping.step()
            assert [line.getMessage() for line in caplog.records] == [f"endpoint chat: A start was refused: {reason}"]
            assert len(keeping.record.events) == number
            keeping.clock.advance(3600)

    def test_an_event_should_be_logged_once_it_is_written(
        self, keeping: Keeping, caplog: pytest.LogCaptureFixture
    ) -> None:
        keeping.step()
        keeping.is_ready(keeping.launcher.launched[0])
        caplog.set_level(logging.INFO, "gpulaunch.endpoints")
        keeping.endpoints.calls.fail_next("commit", STALE)
        keeping.step()
        (line,) = (record.getMessage() for record in caplog.records)
        assert line == f"endpoint chat: {keeping.record.events[-1].message}"

    def test_an_endpoint_without_replicas_should_stay_and_one_be_removed_only_once_they_have_ended(self) -> None:
        keeping = Keeping(count=0)
        assert keeping.step() == []
        keeping = Keeping(count=1)
        keeping.step()
        keeping.change(deleting=True)
        assert "remove" not in keeping.step()
        assert keeping.step()[-1] == "remove"

    def test_records_that_were_just_read_should_not_be_read_again_unless_somebody_else_was_first(
        self, keeping: Keeping
    ) -> None:
        keeping.step()
        keeping.is_ready(keeping.launcher.launched[0])
        known = {one: keeping.deployment.record(one) for one in keeping.launcher.launched}
        keeping.deployment.store.calls.seen.clear()
        keeping.endpoints.calls.fail_next("commit", STALE)
        keeping.keeper.reconcile("chat", known)
        assert keeping.deployment.store.calls.count("load") == 2
        keeping.keeper.reconcile("chat", known)
        assert keeping.deployment.store.calls.count("load") == 2

    def test_an_endpoint_that_cannot_be_read_should_be_left_to_a_version_that_can(
        self, keeping: Keeping, caplog: pytest.LogCaptureFixture
    ) -> None:
        keeping.endpoints.rows["endpoint|chat"][1]["doc"] = "{"
        keeping.keeper.reconcile("chat")
        assert "a step is dropped" in caplog.text
        assert keeping.launcher.launched == []

    @pytest.mark.parametrize("ended", [False, True])
    def test_the_slot_of_a_replica_that_cannot_be_read_should_be_kept_unless_that_has_ended(
        self, keeping: Keeping, *, ended: bool
    ) -> None:
        keeping.step()
        first, store = keeping.launcher.launched[0], keeping.deployment.store
        rewrite(store, rows.record_key(first, ended=False), later_phase)
        if ended:
            with pytest.raises(UnreadableRecordError) as caught:
                store.load(first)
            store.close_unreadable(caught.value.unreadable)
        keeping.step()
        assert (first in {slot.instance_id for slot in keeping.record.slots}) is not ended

    @pytest.mark.parametrize("deleting", [False, True])
    def test_one_that_turned_unreadable_should_be_terminated_only_with_its_endpoint(
        self, keeping: Keeping, *, deleting: bool
    ) -> None:
        keeping.step()
        first, store = keeping.launcher.launched[0], keeping.deployment.store
        known = {first: keeping.deployment.record(first)}
        rewrite(store, rows.record_key(first, ended=False), later_phase)
        keeping.change(SlotState.RELEASING, deleting=deleting)
        keeping.keeper.advance(keeping.found, known)
        assert keeping.terminated == ([first] if deleting else [])


class TestLaunching:
    def test_each_launch_should_know_on_which_offers_the_other_replicas_are(self, keeping: Keeping) -> None:
        keeping.launcher.answers = [SPOT, ON_DEMAND]
        keeping.step()
        assert keeping.launcher.crowds == [{}, {SPOT.key: 1}]
        keeping.change(replicas=4)
        keeping.is_ready(keeping.launcher.launched[0])
        keeping.is_ready(keeping.launcher.launched[1], ON_DEMAND)
        keeping.step()
        both = {SPOT.key: 1, ON_DEMAND.key: 1}
        assert keeping.launcher.crowds[2:] == [both, both | {SPOT.key: 2}]

    def test_one_that_is_about_to_go_should_not_count(self, keeping: Keeping) -> None:
        keeping.step()
        for instance_id in keeping.launcher.launched:
            keeping.is_ready(instance_id, running_requests=3.0)
        keeping.change(SlotState.DRAINING, replicas=3)
        keeping.change(SlotState.RELEASING)
        keeping.launcher.crowds.clear()
        keeping.step()
        assert keeping.launcher.crowds[0] == {SPOT.key: 1}

    def test_a_refusal_should_put_off_the_rest_and_say_why(self, keeping: Keeping) -> None:
        keeping.launcher.answers = [InvalidFieldsError([])]
        assert keeping.step() == ["commit", "commit"]
        assert (keeping.launcher.launched, keeping.record.failures) == ([], 1)
        assert keeping.record.failure.startswith("A start was refused: ")
        assert keeping.record.retry_at is not None
        assert keeping.step() == []

    def test_one_that_another_step_has_launched_should_not_keep_the_others(self, keeping: Keeping) -> None:
        keeping.launcher.answers = [AlreadyExistsError("it is there")]
        keeping.step()
        assert (len(keeping.launcher.launched), keeping.record.failures) == (1, 0)

    def test_a_refusal_of_an_endpoint_that_was_changed_meanwhile_should_be_left_to_the_next_step(
        self, keeping: Keeping, caplog: pytest.LogCaptureFixture
    ) -> None:
        keeping.step()
        keeping.change(replicas=3)
        keeping.step()
        gone = keeping.launcher.launched.pop()
        del keeping.deployment.store._rows[rows.record_key(gone, ended=False)]  # pyright: ignore[reportPrivateUsage]
        keeping.launcher.answers = [InvalidFieldsError([])]
        keeping.endpoints.calls.fail_next("commit", STALE)
        caplog.set_level(logging.INFO, "gpulaunch.endpoints")
        assert keeping.step() == ["commit"]
        assert keeping.record.failures == 0
        (line,) = (record.getMessage() for record in caplog.records)
        assert line.endswith("; endpoint chat was changed meanwhile")

    def test_a_slot_of_a_generation_that_is_forgotten_should_not_keep_the_others(self, keeping: Keeping) -> None:
        keeping.step()
        found = keeping.found
        first, second = found.record.slots
        slots = [first.model_copy(update={"generation": 7, "instance_id": ONE}), second]
        keeping.launcher.launched.clear()
        known = {second.instance_id: MISSING, ONE: MISSING}
        keeping.keeper._launch(found, slots, known)  # pyright: ignore[reportPrivateUsage]
        assert keeping.launcher.launched == [second.instance_id]


class TestGateways:
    def draining(self, keeping: Keeping) -> None:
        keeping.step()
        keeping.is_ready(keeping.launcher.launched[0], running_requests=1.0)
        keeping.change(SlotState.DRAINING)

    @pytest.mark.parametrize("state", [SlotState.ACTIVE, SlotState.RELEASING])
    def test_their_reports_should_be_read_only_while_a_replica_drains(self, keeping: Keeping, state: SlotState) -> None:
        keeping.step()
        keeping.change(state)
        assert "gateways" not in keeping.step()

    @pytest.mark.parametrize(
        ("age", "forgotten"), [(timedelta(0), False), (SILENT, False), (SILENT + timedelta(seconds=1), True)]
    )
    def test_one_that_is_silent_for_long_should_be_forgotten_and_no_other(
        self, keeping: Keeping, age: timedelta, *, forgotten: bool
    ) -> None:
        self.draining(keeping)
        keeping.reported("unread", SILENT * 2, readable=False)
        keeping.reported("fresh", timedelta(0))
        keeping.reported("one", age)
        asked = keeping.step()
        assert ("gateways" in asked, "forget_gateways" in asked) == (True, forgotten)
        left = {"fresh", "unread"} if forgotten else {"fresh", "one", "unread"}
        assert set(keeping.endpoints.gateways()) == left


class TestTermination:
    def test_a_replica_that_is_given_up_should_be_terminated_with_the_reason(self, keeping: Keeping) -> None:
        keeping.step()
        keeping.endpoints.commit(keeping.found, paused(keeping.record, START))
        keeping.step()
        ended = [keeping.deployment.record(one) for one in keeping.launcher.launched]
        assert [one.ended for one in ended] == [True, True]
        for one in ended:
            assert one.ending is not None
            assert (one.ending.reason, one.ending.message) == (Reason.USER_REQUEST, "Released by its endpoint chat.")
        assert keeping.terminated == []

    def test_a_stray_that_cannot_be_read_should_be_left_as_it_is(self, keeping: Keeping) -> None:
        keeping.deployment.create()
        rewrite(keeping.deployment.store, rows.record_key(ONE, ended=False), later_phase)
        assert not keeping.keeper.terminate(ONE, "It fills no slot.")
        assert keeping.terminated == []

    @pytest.mark.parametrize("error", [STALE, InstanceNotFoundError("one")])
    def test_one_that_cannot_be_read_and_is_changed_meanwhile_should_be_left_to_the_next_sweep(
        self, keeping: Keeping, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: Exception
    ) -> None:
        keeping.step()
        first = keeping.launcher.launched[0]
        rewrite(keeping.deployment.store, rows.record_key(first, ended=False), later_phase)
        keeping.change(SlotState.RELEASING, deleting=True)

        def refuse(instance_id: str) -> None:
            raise error

        monkeypatch.setattr(keeping, "terminate", refuse)
        with caplog.at_level(logging.INFO, "gpulaunch.endpoints"):
            keeping.step()
        assert f"{first} is terminated by the next sweep: {error}" in caplog.messages

    def test_one_that_keeps_changing_should_be_left_to_the_next_sweep(self, keeping: Keeping) -> None:
        keeping.deployment.create()
        for _ in range(8):
            keeping.deployment.store.calls.fail_next("commit", STALE)
        keeping.keeper.terminate(ONE, "It fills no slot.")
        keeping.keeper.terminate(make_instance_id(9), "It fills no slot.")
        assert (keeping.deployment.record().ended, keeping.terminated) == (False, [])


class TestSweep:
    def stray(self, keeping: Keeping, instance_id: str = ONE, replica_of: str = "chat", **health: Any) -> None:
        keeping.deployment.create(instance_id, replica_of=replica_of, generation=1)
        if health:
            keeping.is_ready(instance_id, **health)

    def sweep(self, keeping: Keeping) -> int:
        return keeping.deployment.sweep(EndpointReplicas(keeping.endpoints, keeping.keeper))

    def test_a_replica_without_a_slot_should_be_terminated_and_one_with_a_slot_kept(self, keeping: Keeping) -> None:
        keeping.step()
        self.stray(keeping)
        assert self.sweep(keeping) == 2
        assert keeping.deployment.record().ended
        assert not any(keeping.deployment.record(one).ended for one in keeping.launcher.launched)

    def test_one_in_use_should_be_left_until_it_is_idle(
        self, keeping: Keeping, caplog: pytest.LogCaptureFixture
    ) -> None:
        self.stray(keeping, running_requests=1.0)
        assert self.sweep(keeping) == 1
        assert keeping.deployment.record().phase is Phase.READY
        assert "is in use; DELETE it" in caplog.text

    def test_one_that_has_got_its_slot_since_should_be_left(
        self, keeping: Keeping, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        keeping.step()
        listed = VersionedEndpoint(keeping.record.with_slots([]), keeping.found.etag)
        monkeypatch.setattr(keeping.endpoints, "all", lambda: [listed])
        assert self.sweep(keeping) == 1, "the endpoint's step"
        assert not any(keeping.deployment.record(one).ended for one in keeping.launcher.launched)

    def test_replicas_of_an_endpoint_that_cannot_be_read_should_be_left_and_that_be_said(
        self, keeping: Keeping
    ) -> None:
        self.stray(keeping)
        self.stray(keeping, OTHER, replica_of="other")
        row = keeping.endpoints.rows["endpoint|chat"]
        keeping.endpoints.rows["endpoint|other"] = (row[0], row[1] | {"RowKey": "endpoint|other"})
        with pytest.raises(UnreadableRowError, match=r"replicas are left as they are: other \("):
            self.sweep(keeping)
        assert [keeping.deployment.record(one).ended for one in (ONE, OTHER)] == [True, False]

    def test_one_that_fails_should_keep_neither_other_strays_nor_the_endpoints(
        self, keeping: Keeping, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.stray(keeping, ONE)
        self.stray(keeping, OTHER)
        terminate = ReplicaKeeper.terminate

        def fails_once(keeper: ReplicaKeeper, instance_id: str, why: str) -> None:
            if instance_id == OTHER:
                raise ValueError(instance_id)
            terminate(keeper, instance_id, why)

        monkeypatch.setattr(replicas.ReplicaKeeper, "terminate", fails_once)
        with pytest.raises(ValueError, match=OTHER):
            self.sweep(keeping)
        assert keeping.deployment.record(ONE).ended
        assert len(keeping.launcher.launched) == 2
