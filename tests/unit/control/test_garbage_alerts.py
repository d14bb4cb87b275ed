"""What the garbage collection tells people, and what it remembers while a provider does not answer."""

from datetime import timedelta

import pytest

from shared.control.sweep.base import ALERT_EVERY
from shared.control.sweep.garbage import UNLABELLED_AFTER
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
