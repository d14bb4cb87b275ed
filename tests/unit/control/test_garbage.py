"""What the garbage collection knows, marks and deletes, one pass after another."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest

from gpulaunch.models.instances import Phase
from shared.control.clusters import ClusterListing, RunningClusters
from shared.control.garbage_report import DELETED, GarbageReports
from shared.control.sweep.base import Walk
from shared.control.sweep.garbage import COLLECT_EVERY, GarbageCollection
from shared.control.sweep.lost_records import LostRecords
from shared.domain.instance import AttemptState
from shared.domain.messages import GarbageNotice
from shared.domain.provider import Cluster, ProviderUnavailableError
from shared.lifecycle.garbage import GRACE
from shared.storage import rows
from shared.storage.base import ORPHAN, Marker, Versioned
from tests.contract.test_unreadable_rows import later_phase, rewrite
from tests.twins.clock import START, ManualClock
from tests.twins.factories import (
    DEPLOYMENT,
    OTHER_DEPLOYMENT,
    make_attempt,
    make_ended,
    make_instance_id,
    make_record,
    make_unreadable,
)
from tests.twins.store import MemoryInstanceStore
from tests.unit.control.doubles import ProviderDouble, make_cluster

STRAY = "gl-01k0000000000000000000000a-01"
MANY = [f"gl-01k000000000000000000000{letter}a-01" for letter in "bcdefgh"]
SILENT = ProviderUnavailableError("no answer")
AGO = START - timedelta(hours=1)


class Collecting:
    """A deployment with many healthy nodes, so that one orphan is neither many nor most."""

    def __init__(self) -> None:
        self.store, self.clock = MemoryInstanceStore(), ManualClock()
        self.provider = ProviderDouble()
        self.notices: list[GarbageNotice] = []
        self.taken = True
        """Whether the queue takes alerts."""
        self.unseen: set[str] = set()
        """Instances at which the task fails."""
        listing = ClusterListing(self.store, self.provider.backends(), {}, ["simulation"])
        reports = GarbageReports(self.store, self.clock, DEPLOYMENT)
        losses = LostRecords(listing, self.alert)
        self.task = GarbageCollection(self.store, listing, DEPLOYMENT, reports, losses, self.alert)
        self.reports = reports
        self.walk = Walk()
        for number in range(1, 8):
            self.live(number)

    def alert(self, notice: GarbageNotice) -> bool:
        self.notices.append(notice)
        return self.taken

    def live(self, number: int, *, listed: bool = True, **attempt: Any) -> str:
        instance_id = make_instance_id(number)
        made = make_attempt(instance_id, **{"state": AttemptState.SUBMITTED, **attempt})
        self.store.create(make_record(instance_id=instance_id, phase=Phase.READY, attempts=[made]), [], None)
        if listed:
            self.show(made.cluster_name)
        return made.cluster_name

    def show(self, *names: str, **given: object) -> None:
        assert not isinstance(self.provider.listing, Exception)
        found = [make_cluster(name, created_at=AGO, deployment=DEPLOYMENT, **given) for name in names]
        self.provider.listing = [*self.provider.listing, *found]

    def unlist(self, name: str) -> None:
        listing = self.provider.listing
        assert not isinstance(listing, Exception)
        self.provider.listing = [one for one in listing if one.cluster_name != name]

    def orphan(self, name: str = STRAY, **given: object) -> None:
        self.store.create(make_ended(name), [], None)
        self.show(name, **given)

    def sweep(self, *, after: timedelta = COLLECT_EVERY) -> int:
        self.clock.set(self.clock.now() + after)
        self.provider.acts.clear()
        run = self.task.begin(self.clock.now())
        assert run is not None
        for found in self.store.live():
            if isinstance(found, Versioned) and found.instance_id not in self.unseen:
                run.see(found)
        return run.finish(self.walk)

    @property
    def marked(self) -> set[str]:
        return {marker.key for marker in self.store.markers(ORPHAN)}

    @property
    def deleted(self) -> list[str]:
        return [act.removeprefix("delete ") for act in self.provider.acts if act.startswith("delete ")]


@pytest.fixture
def collecting() -> Collecting:
    return Collecting()


class TestPasses:
    def test_an_orphan_should_be_marked_first_and_deleted_once_it_has_been_for_a_while(
        self, collecting: Collecting
    ) -> None:
        collecting.orphan()
        assert (collecting.sweep(), collecting.marked, collecting.deleted) == (0, {STRAY}, [])
        assert (collecting.sweep(after=GRACE - timedelta(minutes=1)), collecting.deleted) == (0, [])
        assert (collecting.sweep(after=timedelta(minutes=2)), collecting.deleted) == (1, [STRAY])

    def test_what_is_not_confirmed_deleted_should_be_deleted_again(self, collecting: Collecting) -> None:
        collecting.orphan()
        collecting.provider.released = False
        collecting.sweep()
        for _ in range(2):
            assert (collecting.sweep(after=timedelta(minutes=6)), collecting.deleted) == (0, [STRAY])
        assert collecting.marked == {STRAY}

    def test_a_marker_should_go_with_its_node(self, collecting: Collecting) -> None:
        collecting.orphan()
        collecting.sweep()
        collecting.unlist(STRAY)
        collecting.sweep()
        assert collecting.marked == set()

    def test_a_node_that_comes_back_should_be_marked_anew(self, collecting: Collecting) -> None:
        collecting.orphan()
        collecting.sweep()
        collecting.unlist(STRAY)
        collecting.sweep()
        collecting.show(STRAY)
        assert (collecting.sweep(after=timedelta(minutes=6)), collecting.deleted) == (0, [])

    def test_while_a_provider_is_silent_no_marker_should_go_and_no_time_be_lost(self, collecting: Collecting) -> None:
        collecting.orphan()
        collecting.sweep()
        listing, collecting.provider.listing = collecting.provider.listing, SILENT
        assert collecting.sweep(after=timedelta(minutes=6)) == 0
        assert collecting.marked == {STRAY}
        collecting.provider.listing = listing
        assert (collecting.sweep(), collecting.deleted) == (1, [STRAY])

    @pytest.mark.parametrize("seen", [0, 7])
    def test_a_walk_that_broke_off_should_mark_and_delete_nothing(self, collecting: Collecting, seen: int) -> None:
        collecting.orphan()
        collecting.sweep()
        collecting.show(MANY[0])
        collecting.walk = Walk(live=seen, complete=False)
        assert (collecting.sweep(after=timedelta(minutes=6)), collecting.marked, collecting.deleted) == (0, {STRAY}, [])

    def test_a_marker_should_say_whose_listing_showed_the_node(self, collecting: Collecting) -> None:
        collecting.orphan()
        collecting.sweep()
        assert [marker.text for marker in collecting.store.markers(ORPHAN)] == ["simulation"]

    def test_it_should_be_due_every_two_minutes(self, collecting: Collecting) -> None:
        due = [collecting.task.begin(START + timedelta(seconds=second)) is not None for second in range(0, 240, 30)]
        assert due == [True, False, False, False] * 2


class TestDeletedElsewhere:
    @pytest.mark.parametrize(("says", "left"), [(True, set[str]()), (False, {STRAY})])
    def test_a_marker_should_go_when_a_person_says_that_the_node_is_gone(
        self, collecting: Collecting, says: bool, left: set[str]
    ) -> None:
        """SkyPilot has listed it, and has lost its record since, so that no listing will ever show it gone."""
        collecting.store.put_marker(Marker(kind=ORPHAN, key=STRAY, at=START, text="real"))
        if says:
            until = START + timedelta(hours=1)
            collecting.store.put_marker(Marker(kind=DELETED, key=STRAY, at=START, until=until))
        markers = {STRAY: collecting.store.markers(ORPHAN)[0]}
        running = RunningClusters({}, complete=True, listed=frozenset())
        assert collecting.task._unlisted(running, markers) == left  # pyright: ignore[reportPrivateUsage]
        assert collecting.marked == left


class TestKnown:
    @pytest.mark.parametrize(
        ("state", "known"),
        [
            (AttemptState.SUBMITTING, True),
            (AttemptState.SUBMITTED, True),
            (AttemptState.RELEASING, True),
            (AttemptState.GONE, False),
        ],
    )
    def test_a_node_should_be_known_until_its_record_calls_it_deleted(
        self, collecting: Collecting, state: AttemptState, *, known: bool
    ) -> None:
        name = collecting.live(9, state=state, gone_at=START if state is AttemptState.GONE else None)
        collecting.sweep()
        assert (name not in collecting.marked) is known

    def test_every_attempt_of_a_record_should_be_known_and_not_the_latest_alone(self, collecting: Collecting) -> None:
        instance_id = make_instance_id(9)
        attempts = [
            make_attempt(instance_id, number=1, state=AttemptState.RELEASING),
            make_attempt(instance_id, number=2, state=AttemptState.SUBMITTED),
        ]
        record = make_record(instance_id=instance_id, phase=Phase.READY, attempts=attempts)
        collecting.store.create(record, [], None)
        collecting.show(*(attempt.cluster_name for attempt in attempts))
        collecting.sweep()
        assert collecting.marked == set()

    def test_a_node_that_is_launched_during_the_walk_should_not_be_an_orphan(self, collecting: Collecting) -> None:
        """The cloud is listed before the records, and once."""
        now = collecting.clock.set(START) or collecting.clock.now()
        run = collecting.task.begin(now)
        assert run is not None
        collecting.show(STRAY)
        for found in collecting.store.live():
            assert isinstance(found, Versioned)
            run.see(found)
        run.finish(Walk())
        assert (collecting.marked, collecting.provider.acts) == (set(), ["list"])

    def test_the_nodes_of_a_row_that_cannot_be_read_should_be_known_by_their_names(
        self, collecting: Collecting
    ) -> None:
        collecting.orphan()
        collecting.walk.unreadable.append(make_unreadable(instance_id="inst-01K0000000000000000000000A"))
        collecting.sweep()
        assert collecting.marked == set()

    def test_the_node_of_a_record_that_was_not_seen_should_be_known(self, collecting: Collecting) -> None:
        """A task that fails at a record has not seen it, however often."""
        name = collecting.live(9)
        collecting.unseen.add(make_instance_id(9))
        collecting.orphan()
        assert [collecting.sweep(after=timedelta(minutes=6)) for _ in range(3)] == [0, 1, 1]
        assert (collecting.marked, name in collecting.deleted) == ({STRAY}, False)

    def test_the_node_of_a_record_that_became_unreadable_should_be_known(self, collecting: Collecting) -> None:
        name = collecting.live(9)
        collecting.unseen.add(make_instance_id(9))
        rewrite(collecting.store, rows.record_key(make_instance_id(9), ended=False), later_phase)
        collecting.sweep()
        assert name not in collecting.marked

    def test_a_walk_that_broke_off_should_prove_nothing(self, collecting: Collecting) -> None:
        collecting.orphan()
        collecting.sweep()
        collecting.walk.complete = False
        assert (collecting.sweep(after=timedelta(minutes=6)), collecting.deleted) == (0, [])
        collecting.walk.complete = True
        assert collecting.sweep() == 1

    def test_an_orphan_that_a_record_claims_should_be_one_no_longer(self, collecting: Collecting) -> None:
        name = collecting.live(9, listed=False, state=AttemptState.GONE, gone_at=START)
        collecting.show(name)
        collecting.sweep()
        found = collecting.store.load(make_instance_id(9))
        assert found is not None
        again = [attempt.model_copy(update={"state": AttemptState.SUBMITTED}) for attempt in found.record.attempts]
        collecting.store.commit(found, found.record.model_copy(update={"attempts": again}), [])
        assert (collecting.sweep(after=timedelta(minutes=6)), collecting.deleted, collecting.marked) == (0, [], set())


class TestUntouched:
    @pytest.mark.parametrize("given", [{"gc_protected": True}, {"deployment": OTHER_DEPLOYMENT}, {"deployment": None}])
    def test_what_is_exempt_or_not_ours_should_stay(self, collecting: Collecting, given: dict[str, Any]) -> None:
        collecting.store.create(make_ended(STRAY), [], None)
        listing: Sequence[Cluster] | Exception = collecting.provider.listing
        assert not isinstance(listing, Exception)
        collecting.provider.listing = [
            *listing,
            make_cluster(STRAY, created_at=AGO, **{"deployment": DEPLOYMENT} | given),
        ]
        for _ in range(3):
            collecting.sweep(after=timedelta(minutes=6))
            assert (collecting.marked, collecting.deleted) == (set(), [])

    def test_what_no_record_ever_had_should_wait_for_a_person(self, collecting: Collecting) -> None:
        collecting.show(STRAY)
        for _ in range(3):
            collecting.sweep(after=timedelta(minutes=6))
            assert collecting.deleted == []
        assert [one.cluster_name for one in collecting.reports.read().report.waiting] == [STRAY]
        assert [notice.reason for notice in collecting.notices] == ["waiting"]
        collecting.reports.confirm([STRAY])
        assert (collecting.sweep(), collecting.deleted) == (1, [STRAY])

    def test_an_alert_should_be_sent_before_it_is_noted(self, collecting: Collecting) -> None:
        """A process that dies in between sends it twice, and never loses it."""
        collecting.show(STRAY)
        collecting.sweep()
        noted: list[object] = []

        def alert(notice: GarbageNotice) -> bool:
            noted.append(collecting.reports.read().report.alerted_at)
            return True

        collecting.task = GarbageCollection(
            collecting.store, collecting.task.listing, DEPLOYMENT, collecting.reports, collecting.task.losses, alert
        )
        collecting.sweep(after=timedelta(minutes=6))
        assert noted == [None]
        assert collecting.reports.read().report.alerted_at == collecting.clock.now()

    def test_many_at_once_should_wait_and_few_should_not(self, collecting: Collecting) -> None:
        for name in MANY[:3]:
            collecting.orphan(name)
        collecting.sweep()
        assert collecting.sweep(after=timedelta(minutes=6)) == 3
        for name in MANY[:3]:
            collecting.unlist(name)
        for name in MANY[3:]:
            collecting.orphan(name)
        collecting.sweep()
        assert (collecting.sweep(after=timedelta(minutes=6)), collecting.deleted) == (0, [])

    def test_one_of_many_should_go_on_waiting_although_it_is_alone_at_last(self, collecting: Collecting) -> None:
        for name in MANY:
            collecting.orphan(name)
        collecting.sweep()
        assert collecting.sweep(after=timedelta(minutes=6)) == 0
        for name in MANY[1:]:
            collecting.unlist(name)
        assert (collecting.sweep(), collecting.deleted) == (0, [])
        collecting.reports.confirm(MANY[:1])
        assert (collecting.sweep(), collecting.deleted) == (1, MANY[:1])


class TestWhatIsLost:
    def test_young_nodes_without_a_record_should_count_among_the_lost_ones(self, collecting: Collecting) -> None:
        """Three that are due and one that is about to be are four at once."""
        for name in MANY[:3]:
            collecting.orphan(name)
        collecting.sweep()
        young = make_cluster(MANY[3], created_at=collecting.clock.now() + timedelta(minutes=5), deployment=DEPLOYMENT)
        assert not isinstance(collecting.provider.listing, Exception)
        collecting.provider.listing = [*collecting.provider.listing, young]
        assert (collecting.sweep(after=timedelta(minutes=6)), collecting.deleted) == (0, [])


@pytest.mark.parametrize(
    ("mode", "listed", "asked"),
    [("real", True, 1), ("real", False, 0), ("simulation", True, 0), ("simulation", False, 0)],
)
def test_only_a_real_node_that_was_listed_should_be_looked_for_where_skypilot_lists_it_no_more(
    collecting: Collecting, mode: str, listed: bool, asked: int
) -> None:
    instance_id = make_instance_id(20)
    attempt = make_attempt(instance_id, state=AttemptState.SUBMITTED, listed=listed)
    queued = make_record(instance_id=make_instance_id(21), mode=mode)
    record = make_record(instance_id=instance_id, mode=mode, phase=Phase.PROVISIONING, attempts=[attempt])
    for one in (queued, record):
        collecting.store.create(one, [], None)
    names: list[str] = []

    def lost(cluster_names: Sequence[str]) -> dict[str, str]:
        names.extend(cluster_names)
        return {}

    collecting.provider.lost = lost
    collecting.sweep()
    assert names == [attempt.cluster_name] * asked
