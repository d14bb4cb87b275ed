"""Tasks of the sweep, one by one: what they send, settle and note, in which order, and when again."""

import logging
from contextlib import nullcontext
from datetime import timedelta
from typing import Any, cast

import pytest

from gpulaunch.models.instances import Phase
from shared.billing.budget import Budgets
from shared.billing.gate import LedgerGate
from shared.billing.ledger import AttemptCosts
from shared.catalog.snapshot import snapshot
from shared.control.probe import NodeProbes, Prober
from shared.control.records import Lifecycle, Records, RecordWriter
from shared.control.release import NodeKeeper
from shared.control.sweep import requeue
from shared.control.sweep.base import Cadence, SweepTask, TaskRun, Walk, each, named
from shared.control.sweep.budget_cap import BudgetCap
from shared.control.sweep.expiry import KEPT, Expiry
from shared.control.sweep.poison import PoisonQueues
from shared.control.sweep.probes import BEHIND, ProbeReady
from shared.control.sweep.requeue import Requeue
from shared.domain.instance import AttemptState, InstanceRecord
from shared.domain.messages import ProbeMessage, StepMessage
from shared.domain.money import Account, Ledger, Reservation
from shared.errors import StaleRecordError, StoreUnavailableError
from shared.lifecycle.resending import FIRST_PAUSE, GRACE
from shared.observability.instances import InstanceTelemetry
from shared.queues import LAUNCHES, PROBES, TEARDOWNS
from shared.storage.base import UNRECORDED_CALLER, Booking, Marker, Versioned
from tests.twins.clock import START, ManualClock
from tests.twins.factories import make_attempt, make_event, make_idempotency, make_instance_id, make_record
from tests.twins.queues import MemoryQueues
from tests.twins.store import MemoryInstanceStore

AWAY = StoreUnavailableError("no answer")
ONE, OTHER = make_instance_id(1), make_instance_id(2)
SECOND = timedelta(seconds=1)


class Deployment:
    def __init__(self) -> None:
        self.store, self.clock = MemoryInstanceStore(), ManualClock()
        self.queues = MemoryQueues(self.clock)
        gate = LedgerGate(self.store, self._pause)
        writer = RecordWriter(self.store, gate, AttemptCosts(snapshot()), InstanceTelemetry())
        self.records = Records(self.store, writer, Lifecycle(self.clock), self.queues, [], self._pause)

    def _pause(self, seconds: float) -> None:
        pass

    def create(self, instance_id: str = ONE, **given: Any) -> None:
        self.store.create(make_record(instance_id=instance_id, **{"event_count": 1} | given), [make_event()], None)

    def record(self, instance_id: str = ONE) -> InstanceRecord:
        found = self.store.load(instance_id)
        assert found is not None
        return found.record

    def wait(self, time: timedelta) -> None:
        self.clock.set(self.clock.now() + time)

    def sweep(self, task: SweepTask, *, complete: bool = True) -> int:
        run: TaskRun | None = task.begin(self.clock.now())
        if run is None:
            return 0
        walk = Walk(complete=complete)
        for found in self.store.live():
            walk.count(found)
            if isinstance(found, Versioned):
                run.see(found)
        return run.finish(walk)

    def requeue(self) -> Requeue:
        return Requeue(self.queues, self.store, self.clock)

    def marked(self, kind: str) -> dict[str, str]:
        return {marker.key: marker.text for marker in self.store.markers(kind)}


@pytest.fixture
def deployment() -> Deployment:
    return Deployment()


class TestRequeue:
    @pytest.mark.parametrize(("phase", "queue"), [(Phase.PROVISIONING, LAUNCHES), (Phase.TERMINATING, TEARDOWNS)])
    def test_a_step_should_be_sent_again_once_it_is_overdue(
        self, deployment: Deployment, phase: Phase, queue: str
    ) -> None:
        attempt = make_attempt(state=AttemptState.RELEASING)
        deployment.create(phase=phase, due_at=START, attempts=[attempt], epoch=3)
        deployment.wait(GRACE - SECOND)
        assert deployment.sweep(deployment.requeue()) == 0
        deployment.wait(SECOND)
        assert deployment.sweep(deployment.requeue()) == 1
        (body,) = deployment.queues.bodies(queue)
        step = "teardown" if queue == TEARDOWNS else "advance"
        assert StepMessage.model_validate_json(body) == StepMessage(instanceId=ONE, epoch=3, step=step)

    def test_a_ready_instance_should_have_no_grace_and_one_without_a_step_none(self, deployment: Deployment) -> None:
        attempt = make_attempt(state=AttemptState.SUBMITTED)
        deployment.create(phase=Phase.READY, due_at=START, attempts=[attempt])
        deployment.create(OTHER, due_at=None)
        assert deployment.sweep(deployment.requeue()) == 1

    def test_a_message_that_is_refused_should_not_count_as_sent(self, deployment: Deployment) -> None:
        deployment.create(due_at=START)
        deployment.wait(GRACE)
        deployment.queues.calls.fail_next("send", AWAY)
        run = deployment.requeue().begin(deployment.clock.now())
        (found,) = deployment.store.live()
        assert isinstance(found, Versioned)
        run.see(found)
        with pytest.raises(StoreUnavailableError):
            run.finish(Walk())
        assert deployment.queues.depth(LAUNCHES) == 0

    def test_a_message_that_storage_may_have_taken_should_be_waited_for(self, deployment: Deployment) -> None:
        deployment.create(due_at=START)
        deployment.wait(2 * GRACE)
        task = deployment.requeue()
        deployment.queues.calls.fail_next("send", AWAY)
        with pytest.raises(StoreUnavailableError):
            deployment.sweep(task)
        deployment.queues.send(LAUNCHES, StepMessage(instanceId=OTHER, epoch=1, step="advance"))
        deployment.wait(2 * FIRST_PAUSE)
        assert deployment.sweep(task) == 0, "what waits may have been sent before it"
        deployment.queues.forget(*deployment.queues.take(LAUNCHES))
        assert deployment.sweep(task) == 1

    def test_what_was_sent_should_be_remembered_of_a_record_that_cannot_be_read_for_a_moment(
        self, deployment: Deployment
    ) -> None:
        deployment.create(due_at=START)
        deployment.create(OTHER, due_at=START + timedelta(minutes=3))
        deployment.wait(2 * GRACE)
        task = deployment.requeue()
        assert deployment.sweep(task) == 1
        deployment.wait(timedelta(minutes=4))
        run = task.begin(deployment.clock.now())
        (other,) = (
            one for one in deployment.store.live() if isinstance(one, Versioned) and one.record.instance_id == OTHER
        )
        run.see(other)
        run.finish(Walk())
        assert deployment.sweep(task) == 0, "its message still waits"

    def test_one_that_storage_refuses_should_not_hold_up_the_others(self, deployment: Deployment) -> None:
        for number in (1, 2, 3):
            deployment.create(make_instance_id(number), due_at=START)
        deployment.wait(2 * GRACE)
        deployment.queues.calls.fail_next("send", AWAY)
        with pytest.raises(StoreUnavailableError):
            deployment.sweep(deployment.requeue())
        assert deployment.queues.depth(LAUNCHES) == 2

    def test_a_record_that_cannot_be_read_again_should_be_sent(self, deployment: Deployment) -> None:
        deployment.create(due_at=START)
        deployment.wait(GRACE)
        deployment.store.calls.fail_next("load", AWAY)
        assert deployment.sweep(deployment.requeue()) == 1

    def test_of_a_queue_that_does_not_answer_only_deadlines_should_be_sent(self, deployment: Deployment) -> None:
        deployment.create(due_at=START)
        attempt = make_attempt(state=AttemptState.SUBMITTED)
        deployment.create(OTHER, phase=Phase.READY, due_at=START, attempts=[attempt])
        deployment.wait(GRACE)
        deployment.queues.calls.fail_next("waiting_since", AWAY)
        with pytest.raises(StoreUnavailableError):
            deployment.sweep(deployment.requeue())
        (body,) = deployment.queues.bodies(LAUNCHES)
        assert OTHER in body.decode()

    def test_a_step_that_was_done_since_the_walk_should_not_be_sent_again(self, deployment: Deployment) -> None:
        deployment.create(due_at=START)
        deployment.wait(GRACE)
        run = deployment.requeue().begin(deployment.clock.now())
        (found,) = deployment.store.live()
        assert isinstance(found, Versioned)
        run.see(found)
        later = found.record.model_copy(update={"due_at": deployment.clock.now()})
        deployment.store.commit(found, later, [])
        assert run.finish(Walk()) == 0

    def test_a_sweep_should_send_only_so_many_and_for_so_long(
        self, deployment: Deployment, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for number in range(5):
            deployment.create(make_instance_id(number), due_at=START)
        deployment.wait(2 * GRACE)
        monkeypatch.setattr(requeue, "MOST", 2)
        task = deployment.requeue()
        assert [deployment.sweep(task) for _ in range(3)] == [2, 2, 1]
        monkeypatch.setattr(requeue, "MOST", 1000)
        send = deployment.queues.send

        def slow(*given: Any) -> None:
            send(*given)
            deployment.wait(requeue.SENDING / 2 + SECOND)

        monkeypatch.setattr(deployment.queues, "send", slow)
        assert deployment.sweep(deployment.requeue()) == 2

    def test_deadlines_should_be_sent_before_what_may_be_lost(
        self, deployment: Deployment, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(requeue, "MOST", 1)
        deployment.create(due_at=START - GRACE)
        ready = {"phase": Phase.READY, "attempts": [make_attempt(state=AttemptState.SUBMITTED)]}
        deployment.create(OTHER, due_at=START + GRACE, **ready)
        deployment.wait(GRACE)
        deployment.sweep(deployment.requeue())
        (body,) = deployment.queues.bodies(LAUNCHES)
        assert OTHER in body.decode()

    def test_how_many_are_not_sent_again_should_be_logged_unless_all_are(
        self, deployment: Deployment, caplog: pytest.LogCaptureFixture
    ) -> None:
        deployment.create(due_at=START)
        deployment.create(OTHER, due_at=START)
        deployment.wait(GRACE)
        task = deployment.requeue()
        with caplog.at_level(logging.INFO, "gpulaunch.sweep"):
            assert (deployment.sweep(task), caplog.messages) == (2, [])
            for message in deployment.queues.take(LAUNCHES, 2):
                deployment.queues.forget(message)
            deployment.create(make_instance_id(3), due_at=START)
            assert deployment.sweep(task) == 1
        assert caplog.messages == ["2 overdue steps wait for their turn or were sent again lately"]


class TestPoison:
    def bury(
        self, deployment: Deployment, queue: str = LAUNCHES, instance_id: str = ONE, step: str = "advance"
    ) -> None:
        message = StepMessage.model_validate({"instanceId": ONE, "epoch": 1, "step": step})
        deployment.queues.bury(queue, message.model_dump_json().encode())

    def read(self, deployment: Deployment) -> int:
        deployment.wait(timedelta(minutes=10))  # what was read is hidden for a minute
        return PoisonQueues(deployment.queues, deployment.records).read()

    def test_a_message_should_be_forgotten_once_its_instance_has_learnt_of_it(self, deployment: Deployment) -> None:
        deployment.create(due_at=START)
        self.bury(deployment)
        assert self.read(deployment) == 1
        assert (deployment.record().poisoned, deployment.queues.depth(f"{LAUNCHES}-poison")) == (1, 0)

    def test_one_that_storage_does_not_delete_should_count_once(self, deployment: Deployment) -> None:
        deployment.create(due_at=START)
        self.bury(deployment)
        for _ in range(4):
            deployment.queues.calls.fail_next("forget", AWAY)
            with pytest.raises(StoreUnavailableError):
                self.read(deployment)
        assert self.read(deployment) == 1
        assert (deployment.record().poisoned, deployment.record().phase) == (1, Phase.QUEUED)
        self.bury(deployment)
        assert (self.read(deployment), deployment.record().poisoned) == (1, 2)

    def test_one_whose_instance_cannot_learn_of_it_should_stay_until_it_can(self, deployment: Deployment) -> None:
        deployment.create(due_at=START)
        self.bury(deployment)
        for _ in range(8):
            deployment.store.calls.fail_next("commit", StaleRecordError("another was first"))
        assert self.read(deployment) == 0
        assert deployment.queues.depth(f"{LAUNCHES}-poison") == 1
        assert self.read(deployment) == 1

    def test_a_write_that_fails_should_leave_the_message(self, deployment: Deployment) -> None:
        deployment.create(due_at=START)
        self.bury(deployment)
        deployment.store.calls.fail_next("commit", AWAY)
        with pytest.raises(StoreUnavailableError):
            self.read(deployment)
        assert deployment.queues.depth(f"{LAUNCHES}-poison") == 1

    @pytest.mark.parametrize(("step", "left"), [("inspect", 0), ("a b", 1)])
    def test_a_step_of_a_later_version_should_be_forgotten_and_nonsense_stay(
        self, deployment: Deployment, step: str, left: int
    ) -> None:
        deployment.create(due_at=START)
        deployment.queues.bury(LAUNCHES, f'{{"instanceId": "{ONE}", "epoch": 1, "step": "{step}"}}'.encode())
        assert self.read(deployment) == 1 - left
        assert (deployment.record().poisoned, deployment.queues.depth(f"{LAUNCHES}-poison")) == (0, left)

    def test_probes_should_be_forgotten_and_messages_of_every_queue_read(self, deployment: Deployment) -> None:
        deployment.create(due_at=START)
        self.bury(deployment, TEARDOWNS, step="teardown")
        probe = ProbeMessage(instanceId=OTHER, lastInstanceId=ONE)
        deployment.queues.bury(PROBES, probe.model_dump_json().encode())
        assert self.read(deployment) == 2
        assert [deployment.queues.depth(f"{queue}-poison") for queue in (PROBES, TEARDOWNS)] == [0, 0]

    def test_one_about_no_instance_should_stay(self, deployment: Deployment) -> None:
        self.bury(deployment)
        assert self.read(deployment) == 0
        assert deployment.queues.depth(f"{LAUNCHES}-poison") == 1

    @pytest.mark.parametrize(("late", "read"), [(False, 0), (True, 1)])
    def test_they_should_be_read_where_a_step_is_overdue_and_else_now_and_then(
        self, deployment: Deployment, late: bool, read: int
    ) -> None:
        deployment.wait(timedelta(minutes=1))
        deployment.create(due_at=START if late else START + timedelta(hours=1))
        self.bury(deployment)
        assert deployment.sweep(PoisonQueues(deployment.queues, deployment.records)) == read


class TestBudgetCap:
    HELD = Reservation(month="2026-01", scopes=("simulation",), micro_usd=9, gpus=1)

    def run(self, deployment: Deployment, *, spent: int, end_at_cap: bool = True) -> int:
        for instance_id in (ONE, OTHER):
            deployment.create(instance_id, reservation=self.HELD)
        deployment.store.book(Booking(Ledger(accounts={"2026-01/simulation": Account(spent=spent, reserved=18)}), None))
        budgets = Budgets(monthly=100, end_at_cap=end_at_cap)
        return deployment.sweep(BudgetCap(deployment.store, deployment.records, budgets))

    @pytest.mark.parametrize(("spent", "cap", "ended"), [(100, True, 2), (99, True, 0), (100, False, 0)])
    def test_what_runs_on_a_budget_that_is_spent_should_end_where_that_is_set(
        self, deployment: Deployment, spent: int, cap: bool, ended: int
    ) -> None:
        assert self.run(deployment, spent=spent, end_at_cap=cap) == ended
        assert [deployment.record(one).ended for one in (ONE, OTHER)] == [bool(ended)] * 2

    def test_one_that_changes_all_the_time_should_not_keep_the_others(self, deployment: Deployment) -> None:
        for _ in range(8):
            deployment.store.calls.fail_next("commit", StaleRecordError("another was first"))
        assert self.run(deployment, spent=100) == 1
        assert sorted(deployment.record(one).ended for one in (ONE, OTHER)) == [False, True]

    def test_where_nothing_has_a_reservation_nothing_should_be_read_or_counted(self, deployment: Deployment) -> None:
        deployment.create()
        task = BudgetCap(deployment.store, deployment.records, Budgets(monthly=100, end_at_cap=True))
        assert (deployment.sweep(task), deployment.store.calls.count("ledger")) == (0, 0)


class TestExpiry:
    def test_what_is_over_should_go_once_an_hour_and_the_rest_stay(self, deployment: Deployment) -> None:
        old = make_idempotency(key_hash="c" * 64, created_at=START - KEPT - SECOND)
        fresh = make_idempotency(key_hash="d" * 64, created_at=START - KEPT)
        for number, entry in enumerate((old, fresh), 3):
            deployment.store.create(make_record(instance_id=make_instance_id(number)), [], entry)
        for name, until in (("gl-over", START), ("gl-calls", START + SECOND)):
            deployment.store.put_marker(Marker(kind=UNRECORDED_CALLER, key=name, at=START, until=until))
        deployment.clock.set(START + timedelta(minutes=30))
        assert deployment.sweep(Expiry(deployment.store)) == 0
        deployment.clock.set(START)
        assert deployment.sweep(Expiry(deployment.store)) == 2
        assert [deployment.store.idempotency(one.key_hash) is None for one in (old, fresh)] == [True, False]
        assert set(deployment.marked(UNRECORDED_CALLER)) == {"gl-calls"}


class TestHelpers:
    def test_each_should_do_all_and_then_raise_what_went_wrong_but_end_at_once_without_storage(self) -> None:
        seen: list[int] = []

        def act(number: int) -> bool:
            seen.append(number)
            if number == 2:
                raise ValueError(number)
            if number == 4:
                raise AWAY
            return number != 3

        assert each([1, 3, 1], act, str) == 2
        with pytest.raises(ValueError, match="2"):
            each([2, 1, 3], act, str)
        assert seen == [1, 3, 1, 2, 1, 3]
        with pytest.raises(StoreUnavailableError):
            each([4, 1], act, str)
        assert seen[-1] == 4

    def test_of_many_names_ten_should_be_shown(self) -> None:
        assert named([str(number) for number in range(10)]) == "0, 1, 2, 3, 4, 5, 6, 7, 8, 9"
        assert named([str(number) for number in range(12)]) == "0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 2 more"

    @pytest.mark.parametrize(
        ("minute", "second", "due"), [(0, 0, True), (0, 29, True), (0, 30, False), (1, 0, False), (10, 0, True)]
    )
    def test_a_new_process_should_begin_with_the_first_sweep_of_a_stretch(
        self, minute: int, second: int, due: bool
    ) -> None:
        assert Cadence(timedelta(minutes=10)).take(START.replace(minute=minute, second=second)) is due

    @pytest.mark.parametrize("early", [0, 1, 900_000])
    @pytest.mark.parametrize("skipped", [0, 1, 5])
    def test_each_stretch_should_have_one_turn_however_early_or_late_its_sweeps_come(
        self, early: int, skipped: int
    ) -> None:
        """The genuine host ticks up to a millisecond early, and a sweep that takes long skips the following ones."""
        cadence = Cadence(timedelta(minutes=10))
        ticks = [START + tick * timedelta(seconds=30) for tick in range(120) if tick % 20 >= skipped]
        taken = [tick for tick in ticks if cadence.take(tick - timedelta(microseconds=early))]
        assert [(tick - START) // timedelta(minutes=10) for tick in taken][-5:] == [1, 2, 3, 4, 5]
        assert len(taken) <= 6


class TestProbes:
    class Probing:
        """Stands for the prober of this process."""

        def __init__(self) -> None:
            self.probed: list[str] = []

        def probe(self, ready: list[Versioned]) -> None:
            self.probed += [found.instance_id for found in ready]

    def test_all_but_the_last_slice_should_be_sent_to_others(self, deployment: Deployment) -> None:
        ids = [make_instance_id(number) for number in range(1, 6)]
        for instance_id in ids:
            deployment.create(instance_id, phase=Phase.READY)
        deployment.create(make_instance_id(9))
        probing = self.Probing()
        assert deployment.sweep(ProbeReady(deployment.queues, cast("Prober", probing), slice_size=2)) == 2
        sent = [ProbeMessage.model_validate_json(body) for body in deployment.queues.bodies(PROBES)]
        assert [(one.instanceId, one.lastInstanceId) for one in sent] == [(ids[4], ids[3]), (ids[2], ids[1])]
        assert probing.probed == [ids[0]]

    def test_slices_that_wait_should_not_be_sent_again_until_they_are_taken(self, deployment: Deployment) -> None:
        for number in range(1, 6):
            deployment.create(make_instance_id(number), phase=Phase.READY)
        task = ProbeReady(deployment.queues, cast("Prober", self.Probing()), slice_size=2)
        sent: list[int] = []
        for _ in range(40):
            sent.append(deployment.sweep(task))
            deployment.wait(30 * SECOND)
        # Only the two minutes between two reads go by unseen.
        assert deployment.queues.depth(PROBES) == sum(sent) <= 2 * 4
        for message in deployment.queues.take(PROBES, 100):
            deployment.queues.forget(message)
        assert deployment.sweep(task) == 2

    @pytest.mark.parametrize(("waits", "sent"), [(BEHIND - SECOND, 2), (BEHIND, 0)])
    def test_messages_of_an_earlier_sweep_should_keep_new_ones_back(
        self, deployment: Deployment, waits: timedelta, sent: int
    ) -> None:
        for number in range(1, 6):
            deployment.create(make_instance_id(number), phase=Phase.READY)
        deployment.queues.put(PROBES, b"an earlier one")
        deployment.wait(waits)
        assert deployment.sweep(ProbeReady(deployment.queues, cast("Prober", self.Probing()), slice_size=2)) == sent

    def test_a_process_that_has_read_nothing_yet_should_send(self, deployment: Deployment) -> None:
        for number in range(1, 6):
            deployment.create(make_instance_id(number), phase=Phase.READY)
        deployment.wait(timedelta(minutes=1))
        assert deployment.sweep(ProbeReady(deployment.queues, cast("Prober", self.Probing()), slice_size=2)) == 2
        assert deployment.queues.calls.count("waiting_since") == 0

    def test_of_a_slice_only_what_is_ready_should_be_probed(self, deployment: Deployment) -> None:
        for number, phase in enumerate((Phase.READY, Phase.PROVISIONING, Phase.READY), 1):
            deployment.create(make_instance_id(number), phase=phase)
        asked: list[str] = []

        class Probes:
            def ask(self, mode: str, ready: list[Versioned]) -> list[object]:
                asked.extend(found.instance_id for found in ready)
                return []

        given = (cast("NodeProbes", Probes()), cast("NodeKeeper", None), deployment.records)
        prober = Prober(deployment.store, *given, deployment.records.lifecycle, nullcontext())
        prober.run(ProbeMessage(instanceId=make_instance_id(3), lastInstanceId=make_instance_id(1)))
        assert asked == [make_instance_id(3), make_instance_id(1)]

    def test_a_full_slice_should_be_probed_here(self, deployment: Deployment) -> None:
        for number in (1, 2):
            deployment.create(make_instance_id(number), phase=Phase.READY)
        probing = self.Probing()
        assert deployment.sweep(ProbeReady(deployment.queues, cast("Prober", probing), slice_size=2)) == 0
        assert (deployment.queues.depth(PROBES), len(probing.probed)) == (0, 2)
