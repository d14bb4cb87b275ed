"""What the garbage collection tells people, and what it remembers while a provider does not answer."""

from collections.abc import Collection
from datetime import datetime, timedelta

import pytest

from shared.control.clusters import RunningClusters
from shared.control.garbage_report import LostCluster
from shared.control.sweep.base import ALERT_EVERY
from shared.control.sweep.garbage import COLLECT_EVERY, UNLABELLED_AFTER, GarbageCollection
from shared.control.sweep.lost_records import LostRecords
from shared.domain.instance import instance_of
from shared.lifecycle.garbage import GRACE
from shared.storage import rows
from shared.storage.base import ORPHAN, UNRECORDED_CALLER, Marker
from tests.contract.test_unreadable_rows import later_phase, rewrite
from tests.twins.clock import START
from tests.twins.factories import OTHER_DEPLOYMENT
from tests.unit.control.doubles import make_cluster
from tests.unit.control.test_garbage import AGO, MANY, SILENT, STRAY, Collecting


@pytest.fixture
def collecting() -> Collecting:
    return Collecting()


class TestAlerts:
    def show_stranger(self, collecting: Collecting) -> None:
        assert not isinstance(collecting.provider.listing, Exception)
        collecting.provider.listing = [*collecting.provider.listing, make_cluster(STRAY, created_at=AGO)]

    def test_one_about_waiting_nodes_should_be_sent_again_until_it_is_taken_and_then_every_few_hours(
        self, collecting: Collecting
    ) -> None:
        collecting.show(STRAY)
        collecting.sweep()
        collecting.taken = False
        collecting.sweep(after=timedelta(minutes=6))
        collecting.sweep()
        assert len(collecting.notices) == 2
        collecting.taken = True
        for _ in range(3):
            collecting.sweep()
        assert len(collecting.notices) == 3
        collecting.sweep(after=ALERT_EVERY)
        assert len(collecting.notices) == 4

    def test_one_about_a_node_without_a_label_should_be_sent_until_it_is_taken_and_then_never_again(
        self, collecting: Collecting
    ) -> None:
        self.show_stranger(collecting)
        collecting.sweep()
        collecting.taken = False
        collecting.sweep(after=UNLABELLED_AFTER)
        collecting.sweep()
        assert [notice.reason for notice in collecting.notices] == ["unlabelled", "unlabelled"]
        collecting.taken = True
        collecting.sweep()
        collecting.sweep(after=ALERT_EVERY)
        assert len(collecting.notices) == 3

    def test_one_about_new_waiting_nodes_should_not_wait_for_hours(self, collecting: Collecting) -> None:
        collecting.show(STRAY)
        collecting.sweep()
        collecting.sweep(after=timedelta(minutes=6))
        collecting.show(MANY[0])
        collecting.sweep()
        collecting.sweep(after=timedelta(minutes=6))
        assert [notice.count for notice in collecting.notices] == [1, 2]

    @pytest.mark.parametrize(("early", "alerts"), [(timedelta(seconds=1), 1), (timedelta(0), 2)])
    def test_one_about_waiting_nodes_should_be_repeated_after_its_time_and_not_before(
        self, collecting: Collecting, early: timedelta, alerts: int
    ) -> None:
        collecting.show(STRAY)
        collecting.sweep()
        collecting.sweep(after=timedelta(minutes=6))
        collecting.sweep(after=ALERT_EVERY - early)
        assert [notice.reason for notice in collecting.notices] == ["waiting"] * alerts

    @pytest.mark.parametrize("protected", [False, True])
    def test_one_about_a_node_without_a_label_should_not_be_sent_where_it_is_exempt(
        self, collecting: Collecting, *, protected: bool
    ) -> None:
        assert not isinstance(collecting.provider.listing, Exception)
        stranger = make_cluster(STRAY, created_at=AGO, gc_protected=protected)
        collecting.provider.listing = [*collecting.provider.listing, stranger]
        collecting.sweep()
        collecting.sweep(after=UNLABELLED_AFTER)
        assert len(collecting.notices) == (0 if protected else 1)

    @pytest.mark.parametrize("deployment", [None, OTHER_DEPLOYMENT])
    def test_one_about_a_node_that_calls_us_should_be_sent_at_once_and_once(
        self, collecting: Collecting, deployment: str | None
    ) -> None:
        assert not isinstance(collecting.provider.listing, Exception)
        stranger = make_cluster(STRAY, created_at=AGO, deployment=deployment)
        collecting.provider.listing = [*collecting.provider.listing, stranger]
        collecting.store.put_marker(Marker(kind=UNRECORDED_CALLER, key=STRAY, at=START))
        collecting.sweep()
        collecting.sweep(after=UNLABELLED_AFTER)
        (notice,) = collecting.notices
        assert (notice.reason, "they call this app" in notice.message) == ("unlabelled", True)

    def test_what_a_pass_found_should_be_known_to_the_tasks_that_follow_it(self, collecting: Collecting) -> None:
        collecting.orphan()
        collecting.sweep()
        assert collecting.reports.orphans == {STRAY}
        collecting.unlist(STRAY)
        collecting.show(MANY[0])
        collecting.sweep()
        assert collecting.reports.orphans == {MANY[0]}


class TestWhatIsNotSeen:
    """A provider that does not answer, for a pass or two."""

    def test_what_waits_and_what_is_not_ours_should_be_remembered(self, collecting: Collecting) -> None:
        collecting.show(STRAY)
        assert not isinstance(collecting.provider.listing, Exception)
        stranger = make_cluster(MANY[0], created_at=AGO, deployment=OTHER_DEPLOYMENT)
        collecting.provider.listing = [*collecting.provider.listing, stranger]
        collecting.sweep()
        collecting.sweep(after=timedelta(minutes=6))
        before, listing = collecting.reports.read().report, collecting.provider.listing
        assert ([one.cluster_name for one in before.waiting], len(before.foreign)) == ([STRAY], 1)
        collecting.provider.listing = SILENT
        collecting.sweep()
        assert collecting.reports.read().report == before
        collecting.provider.listing = listing[:-2]
        collecting.sweep()
        after = collecting.reports.read().report
        assert (after.waiting, after.foreign) == ((), ())

    def test_what_was_confirmed_should_stay_confirmed_until_its_node_is_known_to_be_deleted(
        self, collecting: Collecting
    ) -> None:
        collecting.show(STRAY)
        collecting.sweep()
        collecting.sweep(after=timedelta(minutes=6))
        collecting.reports.confirm([STRAY])
        listing, collecting.provider.listing = collecting.provider.listing, SILENT
        collecting.sweep()
        collecting.provider.listing = listing
        assert (collecting.sweep(), collecting.deleted) == (1, [STRAY])
        assert STRAY in collecting.reports.read().confirmed
        collecting.unlist(STRAY)
        collecting.sweep()
        assert collecting.reports.read().confirmed == {}


class Lossy(LostRecords):
    """Finds that one node's records are lost, as long as `lost` says so."""

    lost = True

    def __init__(self) -> None:
        pass

    def find(
        self,
        running: RunningClusters,
        listed: Collection[str],
        before: tuple[LostCluster, ...],
        now: datetime,
    ) -> tuple[LostCluster, ...]:
        return (LostCluster(cluster_name=MANY[1], since=START, why="it is not listed"),) if self.lost else ()


class TestProofs:
    def test_while_records_are_lost_no_marker_should_go_with_what_is_not_listed(self, collecting: Collecting) -> None:
        collecting.orphan()
        collecting.sweep()
        losses = Lossy()
        task = collecting.task
        collecting.task = GarbageCollection(
            task.store, task.listing, task.deployment, task.reports, losses, collecting.alert
        )
        collecting.unlist(STRAY)
        collecting.sweep()
        assert collecting.marked == {STRAY}
        losses.lost = False
        collecting.sweep()
        assert collecting.marked == set()

    def test_an_ended_record_that_cannot_be_read_should_account_for_its_node(self, collecting: Collecting) -> None:
        """It was launched by this table; a node without any record waits for a person."""
        collecting.orphan()
        rewrite(collecting.store, rows.record_key(instance_of(STRAY), ended=True), later_phase)
        collecting.sweep()
        assert collecting.sweep(after=timedelta(minutes=6)) == 1
        assert collecting.reports.read().report.waiting == ()

    @pytest.mark.parametrize(("early", "deleted"), [(timedelta(0), 1), (timedelta(seconds=1), 0)])
    def test_an_orphan_should_be_deleted_once_its_grace_is_over_and_no_moment_before(
        self, collecting: Collecting, early: timedelta, deleted: int
    ) -> None:
        collecting.orphan()
        now = collecting.clock.now() + COLLECT_EVERY
        collecting.store.put_marker(Marker(kind=ORPHAN, key=STRAY, at=now - GRACE + early))
        assert collecting.sweep() == deleted
