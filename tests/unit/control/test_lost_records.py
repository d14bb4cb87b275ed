"""Nodes of which SkyPilot has lost its records: what counts as lost, for how long, and when there is an alert."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import cast

import pytest

from shared.control.clusters import ClusterListing, RunningClusters
from shared.control.garbage_report import LostCluster
from shared.control.sweep.base import ALERT_EVERY
from shared.control.sweep.lost_records import LostRecords
from shared.domain.messages import GarbageNotice
from shared.domain.provider import ProviderUnavailableError
from tests.twins.clock import START

ONE, OTHER = "gl-01k0000000000000000000000a-01", "gl-01k0000000000000000000000b-01"
WHY = "is not in its history"


@dataclass
class Listing:
    """Stands for the listing: which nodes the server has lost, and which it was asked about."""

    gone: dict[str, str] | Exception = field(default_factory=lambda: {ONE: WHY})
    asked: list[frozenset[str]] = field(default_factory=list[frozenset[str]])

    def lost(self, names: Collection[str]) -> Mapping[str, str]:
        self.asked.append(frozenset(names))
        if isinstance(self.gone, Exception):
            raise self.gone
        return self.gone


class Losses:
    def __init__(self) -> None:
        self.listing = Listing()
        self.notices: list[GarbageNotice] = []
        self.taken = True
        self.now = START
        self.known: tuple[LostCluster, ...] = ()
        self._losses = LostRecords(cast("ClusterListing", self.listing), self._alert)

    def _alert(self, notice: GarbageNotice) -> bool:
        self.notices.append(notice)
        return self.taken

    def find(self, *, after: timedelta = timedelta(minutes=2), listed: frozenset[str] | None = frozenset()) -> set[str]:
        self.now += after
        running = RunningClusters({}, listed is not None, listed)
        self.known = self._losses.find(running, {ONE, OTHER}, self.known, self.now)
        return {one.cluster_name for one in self.known}


@pytest.fixture
def losses() -> Losses:
    return Losses()


def test_only_what_is_not_listed_should_be_asked_for(losses: Losses) -> None:
    assert losses.find(listed=frozenset({OTHER})) == {ONE}
    assert losses.listing.asked == [{ONE}]


def test_while_the_server_is_not_asked_or_does_not_answer_what_was_lost_should_remain(losses: Losses) -> None:
    losses.find()
    assert losses.find(listed=None) == {ONE}
    losses.listing.gone = ProviderUnavailableError("no answer")
    assert losses.find() == {ONE}
    losses.listing.gone = {}
    assert losses.find() == set()


def test_when_it_was_lost_should_be_remembered_and_why_should_be_what_is_so_now(losses: Losses) -> None:
    losses.find()
    losses.listing.gone = {ONE: "is hidden"}
    losses.find()
    (found,) = losses.known
    assert (found.since, found.why) == (START + timedelta(minutes=2), "is hidden")


def test_an_alert_should_be_sent_again_until_it_is_taken_and_then_every_few_hours(losses: Losses) -> None:
    losses.taken = False
    losses.find()
    losses.find()
    assert len(losses.notices) == 2
    losses.taken = True
    for _ in range(3):
        losses.find()
    assert len(losses.notices) == 3
    losses.find(after=ALERT_EVERY)
    assert [notice.count for notice in losses.notices] == [1, 1, 1, 1]


def test_four_hours_to_the_second_should_be_time_for_another(losses: Losses) -> None:
    losses.find()
    losses.find(after=ALERT_EVERY - timedelta(seconds=1))
    assert len(losses.notices) == 1
    losses.find(after=timedelta(seconds=1))
    assert len(losses.notices) == 2


def test_one_more_should_be_news_and_one_less_not(losses: Losses) -> None:
    losses.find()
    losses.listing.gone = {ONE: WHY, OTHER: WHY}
    losses.find()
    losses.listing.gone = {OTHER: WHY}
    losses.find()
    assert [notice.count for notice in losses.notices] == [1, 2]
