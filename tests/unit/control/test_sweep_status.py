"""What one process knows of the last sweep: its own, another's, and the newest of both for each task."""

from datetime import datetime, timedelta

import pytest

from shared.control.sweep.status import SweepStatus, SweepStatusStore, TaskStatus, after
from shared.errors import StoreUnavailableError
from tests.twins.clock import START
from tests.twins.store import MemoryInstanceStore

AWAY = StoreUnavailableError("no answer")
MINUTE = timedelta(minutes=1)


def status(at: datetime = START, **tasks: TaskStatus) -> SweepStatus:
    return SweepStatus(ended_at=at, live=0, tasks=tasks)


def well(at: datetime = START) -> TaskStatus:
    return TaskStatus(ended_at=at)


@pytest.fixture
def store() -> MemoryInstanceStore:
    return MemoryInstanceStore()


class TestLast:
    def test_before_any_sweep_there_should_be_none(self, store: MemoryInstanceStore) -> None:
        assert SweepStatusStore(store).last(fresh=True) is None

    @pytest.mark.parametrize("fresh", [False, True])
    def test_a_new_process_should_know_what_another_has_stored(
        self, store: MemoryInstanceStore, *, fresh: bool
    ) -> None:
        SweepStatusStore(store).write(status(one=well()))
        assert SweepStatusStore(store).last(fresh=fresh) == status(one=well())

    @pytest.mark.parametrize("fresh", [False, True])
    def test_one_that_was_not_stored_should_be_known_to_its_own_process(
        self, store: MemoryInstanceStore, *, fresh: bool
    ) -> None:
        statuses = SweepStatusStore(store)
        store.calls.fail_next("put_marker", AWAY)
        statuses.write(status(one=well()))
        assert statuses.last(fresh=fresh) == status(one=well())
        assert SweepStatusStore(store).last(fresh=fresh) is None

    def test_what_others_have_stored_should_be_read_only_where_that_is_asked_for(
        self, store: MemoryInstanceStore
    ) -> None:
        statuses = SweepStatusStore(store)
        statuses.write(status(one=well()))
        SweepStatusStore(store).write(status(START + MINUTE, one=well(START + MINUTE)))
        store.calls.seen.clear()
        assert statuses.last(fresh=False) == status(one=well())
        assert store.calls.seen == []
        found = statuses.last(fresh=True)
        assert found is not None
        assert found.tasks == {"one": well(START + MINUTE)}

    @pytest.mark.parametrize(
        ("here", "there", "newest"),
        [
            (well(START + MINUTE), well(), well(START + MINUTE)),
            (well(), well(START + MINUTE), well(START + MINUTE)),
            (TaskStatus(), well(), well()),
            (well(), TaskStatus(), well()),
            (well(), TaskStatus(failed_at=START + MINUTE, error="x"), TaskStatus(failed_at=START + MINUTE, error="x")),
            (well(), TaskStatus(failed_at=START, error="of another"), well()),
        ],
    )
    def test_of_each_task_what_ended_last_should_count_and_of_two_at_once_this_process_s_own(
        self, store: MemoryInstanceStore, here: TaskStatus, there: TaskStatus, newest: TaskStatus
    ) -> None:
        statuses = SweepStatusStore(store)
        statuses.write(status(task=here, ours=well()))
        SweepStatusStore(store).write(status(task=there, theirs=well()))
        found = statuses.last(fresh=True)
        assert found is not None
        assert found.tasks == {"task": newest, "ours": well(), "theirs": well()}


def test_a_run_should_change_what_was_due_and_keep_the_rest() -> None:
    later = START + MINUTE
    before = status(idle=well(), fails=well(), recovers=TaskStatus(ended_at=START, failed_at=START, error="x"))
    assert after(before, later, {"fails": "y", "recovers": "", "new": "z", "newer": ""}) == {
        "idle": well(),
        "fails": TaskStatus(ended_at=START, failed_at=later, error="y"),
        "recovers": well(later),
        "new": TaskStatus(failed_at=later, error="z"),
        "newer": well(later),
    }
    assert after(None, later, {"new": ""}) == {"new": well(later)}


def test_of_many_unreadable_rows_twenty_should_be_stored_with_their_number(store: MemoryInstanceStore) -> None:
    rows = tuple({"instance_id": f"inst-{number}", "why": "it is damaged"} for number in range(30))
    given = SweepStatus.model_validate({"ended_at": START, "live": 30, "unreadable_count": 30, "unreadable": rows})
    SweepStatusStore(store).write(given)
    stored = SweepStatusStore(store).read()
    assert stored is not None
    assert (stored.unreadable, stored.unreadable_count) == (given.unreadable[:20], 30)
