"""One sweep: each task on its own, what an incomplete walk proves, and what is stored of it."""

import logging
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import pytest

from gpulaunch.deadlines import time_left, time_limit
from gpulaunch.models.instances import Phase
from shared.control.sweep import sweep
from shared.control.sweep.base import TaskRun, Walk
from shared.control.sweep.status import REWRITTEN, STATUS, SweepStatus, SweepStatusStore
from shared.control.sweep.sweep import WALK, Sweep
from shared.errors import StoreUnavailableError
from shared.storage import rows
from shared.storage.base import Marker, Versioned
from tests.contract.test_unreadable_rows import later_phase, rewrite
from tests.twins.clock import START, ManualClock
from tests.twins.factories import make_instance_id, make_record
from tests.twins.store import MemoryInstanceStore

AWAY = StoreUnavailableError("no answer")
HALF_A_MINUTE = timedelta(seconds=30)


@dataclass
class Task(TaskRun):
    """A task that writes down what it gets; `at` says where it raises."""

    name: str
    at: str = ""
    due: bool = True
    seen: list[str] = field(default_factory=list[str])
    walks: list[Walk] = field(default_factory=list[Walk])

    def _may_fail(self, place: str) -> None:
        if self.at == place:
            raise RuntimeError(f"a fault in {place}")

    def begin(self, now: datetime) -> TaskRun | None:
        self._may_fail("begin")
        return self if self.due else None

    def see(self, found: Versioned) -> None:
        self._may_fail("see")
        self.seen.append(found.instance_id)

    def finish(self, walk: Walk) -> int:
        self._may_fail("finish")
        self.walks.append(walk)
        return 1


class Sweeping:
    def __init__(self, *tasks: Task) -> None:
        self.store, self.clock = MemoryInstanceStore(), ManualClock()
        self.statuses = SweepStatusStore(self.store)
        self.tasks = tasks
        for number in (1, 2):
            record = make_record(instance_id=make_instance_id(number), phase=Phase.READY)
            self.store.create(record, [], None)

    def run(self, after: timedelta = HALF_A_MINUTE) -> SweepStatus:
        self.clock.set(self.clock.now() + after)
        return Sweep(self.store, self.tasks, self.clock, self.statuses).run()

    @property
    def stored(self) -> SweepStatus:
        """As another process reads it."""
        found = SweepStatusStore(self.store).read()
        assert found is not None
        return found


class TestTasks:
    @pytest.mark.parametrize("place", ["begin", "see", "finish"])
    def test_one_that_fails_should_be_named_and_leave_the_others_alone(self, place: str) -> None:
        good, bad, last = Task("good"), Task("bad", at=place), Task("last")
        sweeping = Sweeping(good, bad, last)
        status = sweeping.run()
        assert set(status.failing) == {"bad"}
        assert status.failing["bad"].error.startswith("RuntimeError")
        for task in (good, last):
            assert (len(task.seen), len(task.walks)) == (2, 1)
        assert (status.live, status.ready) == (2, 2)

    def test_a_fault_should_name_the_instance_and_show_where_it_was(self, caplog: pytest.LogCaptureFixture) -> None:
        status = Sweeping(Task("bad", at="see")).run()
        named, other = make_instance_id(1), make_instance_id(2)
        assert status.failing["bad"].error in {f"RuntimeError at {one}: a fault in see" for one in (named, other)}
        assert all(record.exc_info is not None for record in caplog.records if record.levelno >= logging.ERROR)

    def test_a_fault_of_the_whole_task_should_name_no_instance(self) -> None:
        assert Sweeping(Task("bad", at="finish")).run().failing["bad"].error == "RuntimeError: a fault in finish"

    def test_a_fault_s_line_should_name_the_task_and_the_instance_if_it_is_one_s(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        Sweeping(Task("bad", at="see")).run()
        Sweeping(Task("worse", at="finish")).run()
        named = {(vars(line)["task"], vars(line)["instance_id"]) for line in caplog.records if "task" in vars(line)}
        assert named == {("bad", make_instance_id(1)), ("bad", make_instance_id(2)), ("worse", None)}

    def test_a_long_fault_should_be_cut_in_the_status_and_whole_in_the_log(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        def fails(*_: object) -> None:
            raise RuntimeError("x" * 1000)

        monkeypatch.setattr(Task, "finish", fails)
        error = Sweeping(Task("bad")).run().failing["bad"].error
        assert (len(error), error.startswith("RuntimeError: xxx")) == (300, True)
        assert "x" * 1000 in caplog.text

    def test_storage_that_is_away_should_be_a_line_without_a_traceback(self, caplog: pytest.LogCaptureFixture) -> None:
        sweeping = Sweeping(Task("good"))
        sweeping.store.calls.fail_next("live", AWAY)
        sweeping.run()
        errors = [record for record in caplog.records if record.levelno >= logging.ERROR]
        assert errors
        assert [record for record in errors if record.exc_info] == []

    def test_a_task_that_failed_or_was_not_due_should_have_done_nothing(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.INFO)
        Sweeping(Task("good"), Task("bad", at="finish"), Task("later", due=False)).run()
        (line,) = (record.getMessage() for record in caplog.records if record.getMessage().startswith("sweep: "))
        assert line == "sweep: live 2, ready 2, unreadable 0, good 1, bad 0, later 0; failed: bad"

    def test_one_that_fails_at_a_record_should_still_finish(self) -> None:
        bad = Task("bad", at="see")
        Sweeping(bad).run()
        assert len(bad.walks) == 1

    def test_one_that_is_not_due_should_neither_run_nor_count_as_ended(self) -> None:
        sweeping = Sweeping(idle := Task("idle", due=False))
        assert "idle" not in sweeping.run().tasks
        assert (idle.seen, idle.walks) == ([], [])
        idle.due = True
        assert sweeping.run().tasks["idle"].ended_at == sweeping.clock.now()
        ended = sweeping.clock.now()
        idle.due = False
        assert sweeping.run().tasks["idle"].ended_at == ended


class TestTime:
    def test_what_begins_too_late_should_be_left_to_the_next(self, caplog: pytest.LogCaptureFixture) -> None:
        sweeping = Sweeping(task := Task("task"))
        with time_limit(0):
            status = sweeping.run()
        assert "left to the next sweep" in status.failing["task"].error
        assert (task.seen, task.walks) == ([], [])
        assert [record for record in caplog.records if record.exc_info] == []
        assert sweeping.run().failing == {}

    def test_a_walk_that_takes_the_sweeps_time_should_be_incomplete(self, monkeypatch: pytest.MonkeyPatch) -> None:
        sweeping = Sweeping(task := Task("task"))

        def see(_: Task, __: Versioned) -> None:
            monkeypatch.setattr(sweep, "time_left", lambda: 0.0)

        monkeypatch.setattr(Task, "see", see)
        assert sweeping.run().tasks[WALK].error != ""
        assert task.walks == []

    @pytest.mark.parametrize("place", ["begin", "finish"])
    def test_a_task_should_leave_time_for_the_others(self, place: str, monkeypatch: pytest.MonkeyPatch) -> None:
        left: list[float] = []

        def work(*_: object) -> None:
            left.append(time_left())

        monkeypatch.setattr(Task, place, work)
        with time_limit(1000):
            Sweeping(Task("task")).run()
        assert left == [pytest.approx(sweep.TASK_SECONDS, abs=5)]


class TestWalk:
    def test_one_that_breaks_off_should_be_incomplete_and_the_tasks_finish(self) -> None:
        sweeping = Sweeping(task := Task("task"))
        sweeping.store.calls.fail_next("live", AWAY)
        status = sweeping.run()
        assert [walk.complete for walk in task.walks] == [False]
        assert set(status.failing) == {WALK}
        assert set(sweeping.run().failing) == set()
        assert [walk.complete for walk in task.walks] == [False, True]


class TestStatus:
    def test_rows_that_cannot_be_read_should_be_counted_and_named(self) -> None:
        sweeping = Sweeping(task := Task("task"))
        rewrite(sweeping.store, rows.record_key(make_instance_id(1), ended=False), later_phase)
        status = sweeping.run()
        assert (status.live, status.ready, status.unreadable_count) == (2, 1, 1)
        assert [row.instance_id for row in status.unreadable] == [make_instance_id(1)]
        assert (sweeping.stored.unreadable, task.seen) == (status.unreadable, [make_instance_id(2)])

    def test_a_task_that_failed_should_keep_when_it_last_ended_well_until_it_does_again(self) -> None:
        sweeping = Sweeping(task := Task("task"))
        sweeping.run()
        well = sweeping.clock.now()
        task.at = "finish"
        sweeping.run()
        found = sweeping.stored.tasks["task"]
        assert (found.ended_at, found.failed_at, found.error != "") == (well, sweeping.clock.now(), True)
        task.at = ""
        sweeping.run()
        found = sweeping.stored.tasks["task"]
        assert (found.ended_at, found.failed_at, found.error) == (sweeping.clock.now(), None, "")

    def test_what_another_process_stored_should_be_known_where_something_fails(self) -> None:
        """Several processes take turns; a failure must not make one forget what the other has seen end."""
        sweeping = Sweeping(task := Task("task"), Task("other", at="begin"))
        sweeping.run()
        elsewhere = SweepStatusStore(sweeping.store)
        sweeping.clock.advance(90)
        Sweep(sweeping.store, [task], sweeping.clock, elsewhere).run()
        ended = sweeping.clock.now()
        task.at = "finish"
        assert sweeping.run().tasks["task"].ended_at == ended

    def test_what_ended_in_a_sweep_that_was_not_stored_should_be_known_where_something_fails(self) -> None:
        rare, broken = Task("rare", due=False), Task("broken", at="finish")
        sweeping = Sweeping(rare, broken)
        sweeping.run()
        rare.due = True
        sweeping.run()
        ended = sweeping.clock.now()
        assert "rare" not in sweeping.stored.tasks
        rare.due = False
        sweeping.run()
        assert sweeping.stored.tasks["rare"].ended_at == ended

    def test_without_news_it_should_be_stored_once_a_minute_and_with_news_at_once(self) -> None:
        sweeping = Sweeping(task := Task("task"))
        sweeping.run()
        first = sweeping.clock.now()
        sweeping.run()
        assert sweeping.stored.ended_at == first
        sweeping.run(after=REWRITTEN - HALF_A_MINUTE)
        assert sweeping.stored.ended_at == sweeping.clock.now()
        task.at = "finish"
        sweeping.run()
        assert sweeping.stored.ended_at == sweeping.clock.now()

    @pytest.mark.parametrize("refused", [True, False])
    def test_one_that_storage_refused_should_be_stored_by_the_next_sweep(self, *, refused: bool) -> None:
        sweeping = Sweeping(task := Task("task"))
        sweeping.run()
        task.at = "finish"
        if refused:
            sweeping.store.calls.fail_next("put_marker", AWAY)
        sweeping.run()
        assert bool(sweeping.stored.failing) is not refused
        sweeping.run()
        assert set(sweeping.stored.failing) == {"task"}

    def test_one_that_cannot_be_read_should_be_replaced(self) -> None:
        sweeping = Sweeping(Task("task"))
        sweeping.store.put_marker(Marker(kind=STATUS, key="last", at=START, text="{"))
        assert sweeping.statuses.read() is None
        sweeping.run()
        assert sweeping.stored.live == 2

    def test_storage_that_does_not_say_should_not_end_the_sweep(self) -> None:
        sweeping = Sweeping(task := Task("task"))
        sweeping.store.calls.fail_next("markers", AWAY)
        assert set(sweeping.run().failing) == {WALK}
        assert len(task.walks) == 1
