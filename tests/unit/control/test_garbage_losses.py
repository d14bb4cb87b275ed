"""Of which nodes SkyPilot is asked whether it has lost their records, and when it is asked for a listing at all."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

import pytest

from gpulaunch.models.instances import Phase
from shared.control.clusters import ClusterListing
from shared.control.garbage_report import GarbageReports
from shared.control.sweep.base import Walk
from shared.control.sweep.garbage import COLLECT_EVERY, GarbageCollection
from shared.control.sweep.lost_records import LostRecords
from shared.domain.instance import AttemptState
from shared.domain.messages import GarbageNotice
from shared.storage.base import Versioned
from tests.twins.clock import START, ManualClock
from tests.twins.factories import DEPLOYMENT, make_attempt, make_ended, make_instance_id, make_record
from tests.twins.store import MemoryInstanceStore
from tests.unit.control.doubles import CloudDouble, ProviderDouble, make_cluster

SERVING: dict[str, Any] = {"state": AttemptState.SUBMITTED, "listed": True}
GONE: dict[str, Any] = {"state": AttemptState.GONE, "gone_at": START, "listed": True}
STRAY = "gl-01k0000000000000000000000a-01"


class Losing(ProviderDouble):
    """A server that lists nothing, and has lost whatever it is asked about unless `knows`."""

    def __init__(self) -> None:
        super().__init__()
        self.knows = False
        self.asked: list[str] = []

    def lost(self, cluster_names: Sequence[str]) -> Mapping[str, str]:
        self.asked = list(cluster_names)
        return {} if self.knows else dict.fromkeys(cluster_names, "is not in its history")


class Collecting:
    def __init__(self, *, with_cloud: bool = False) -> None:
        self.store, self.clock = MemoryInstanceStore(), ManualClock()
        self.provider, self.cloud = Losing(), CloudDouble()
        self.notices: list[GarbageNotice] = []
        clouds: Any = {"azure": self.cloud} if with_cloud else {}
        listing = ClusterListing(self.store, self.provider.backends(), clouds, ["real"])
        self.reports = GarbageReports(self.store, self.clock, DEPLOYMENT)
        losses = LostRecords(listing, self._alert)
        self.task = GarbageCollection(self.store, listing, DEPLOYMENT, self.reports, losses, self._alert)

    def _alert(self, notice: GarbageNotice) -> bool:
        self.notices.append(notice)
        return True

    def create(self, *attempts: dict[str, Any], mode: str = "real") -> list[str]:
        """A live instance; the names of its attempts' clusters."""
        made = [make_attempt(None, number=number, **given) for number, given in enumerate(attempts, 1)]
        self.store.create(make_record(mode=mode, phase=Phase.READY, attempts=made), [], None)
        return [attempt.cluster_name for attempt in made]

    def sweep(self) -> None:
        self.clock.set(self.clock.now() + COLLECT_EVERY)
        self.provider.acts.clear()
        self.cloud.acts.clear()
        run = self.task.begin(self.clock.now())
        assert run is not None
        for found in self.store.live():
            if isinstance(found, Versioned):
                run.see(found)
        run.finish(Walk())

    @property
    def lost(self) -> list[str]:
        return [one.cluster_name for one in self.reports.read().report.lost]


@pytest.fixture
def collecting() -> Collecting:
    return Collecting()


@pytest.mark.parametrize(
    ("attempts", "asked"),
    [
        ([SERVING], [1]),
        ([GONE, SERVING], [2]),
        ([{**SERVING, "listed": False, "node_up_at": START}], [1]),
        ([{**SERVING, "listed": False}], []),
        ([GONE, {**SERVING, "listed": False}], []),
        ([GONE], []),
        ([], []),
    ],
)
def test_it_should_be_asked_of_the_latest_node_that_was_listed_and_is_needed(
    collecting: Collecting, attempts: list[dict[str, Any]], asked: list[int]
) -> None:
    names = collecting.create(*attempts)
    collecting.sweep()
    assert collecting.provider.asked == [names[number - 1] for number in asked]


def test_it_should_not_be_asked_of_a_simulated_one(collecting: Collecting) -> None:
    collecting.create(SERVING, mode="simulation")
    collecting.sweep()
    assert collecting.provider.asked == []


def test_what_is_lost_should_be_reported_until_its_records_are_back(collecting: Collecting) -> None:
    names = collecting.create(SERVING)
    collecting.sweep()
    assert collecting.lost == names
    assert [(notice.reason, notice.count) for notice in collecting.notices] == [("lost", 1)]
    collecting.provider.knows = True
    collecting.sweep()
    assert (collecting.lost, len(collecting.notices)) == ([], 1)


@pytest.mark.parametrize(("lives", "listed"), [(False, []), (True, ["list"])])
def test_while_nothing_lives_the_cloud_alone_should_be_asked(lives: bool, listed: list[str]) -> None:
    collecting = Collecting(with_cloud=True)
    if lives:
        collecting.create(SERVING)
    collecting.sweep()
    assert (collecting.provider.acts, collecting.cloud.acts) == (listed, ["cloud list"])


def test_once_an_orphan_is_marked_skypilot_should_be_asked_as_well() -> None:
    collecting = Collecting(with_cloud=True)
    collecting.store.create(make_ended(STRAY), [], None)
    collecting.cloud.listing = [make_cluster(STRAY, created_at=START - timedelta(hours=1), deployment=DEPLOYMENT)]
    collecting.sweep()
    assert collecting.provider.acts == []
    collecting.sweep()
    assert collecting.provider.acts == ["list"]


def test_an_instance_without_an_attempt_should_stand_in_nothing_s_way(collecting: Collecting) -> None:
    collecting.create()
    second = make_instance_id(2)
    attempt = make_attempt(second, **SERVING)
    collecting.store.create(
        make_record(instance_id=second, mode="real", phase=Phase.READY, attempts=[attempt]), [], None
    )
    collecting.sweep()
    assert collecting.lost == [attempt.cluster_name]
