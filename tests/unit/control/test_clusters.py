"""What runs, by every listing that can be asked, and who is asked to delete it."""

from collections.abc import Mapping
from datetime import datetime, timedelta

import pytest

from gpulaunch.models.instances import Mode
from gpulaunch.models.requests import ProviderName
from shared.backends.base import Backend
from shared.clouds.base import CloudCompute
from shared.control.clusters import ClusterListing, Source
from shared.domain.provider import CleanupStatus, NodeState, ProviderUnavailableError
from shared.storage.base import ORPHAN, Marker
from tests.twins.clock import START
from tests.twins.factories import make_ended, make_record
from tests.twins.store import MemoryInstanceStore
from tests.unit.control.doubles import NAME, OTHER, CloudDouble, ProviderDouble, make_cluster

SILENT = ProviderUnavailableError("no answer")
QUIET = datetime(2026, 1, 31, 9, 30, tzinfo=START.tzinfo)
"""An hour in which nothing but work wakes SkyPilot's server."""


class Listings:
    def __init__(self, *modes: Mode, with_cloud: bool = True) -> None:
        self.acts: list[str] = []
        self.real, self.simulation = ProviderDouble(self.acts), ProviderDouble()
        self.cloud = CloudDouble(self.acts)
        self.store = MemoryInstanceStore()
        clouds: Mapping[ProviderName, CloudCompute] = {"azure": self.cloud} if with_cloud else {}
        self.of = ClusterListing(self.store, self._backend, clouds, modes or ("real", "simulation"))

    def _backend(self, mode: Mode) -> Backend:
        chosen = self.real if mode == "real" else self.simulation
        return Backend(chosen, chosen)


class TestReading:
    def test_every_listing_should_be_asked_and_each_node_known_by_who_can_delete_it(self) -> None:
        listings = Listings()
        listings.real.listing = [make_cluster("one")]
        listings.simulation.listing = [make_cluster("two")]
        listings.cloud.listing = [make_cluster("one"), make_cluster("three")]
        running = listings.of.read()
        assert {name: source for name, (source, _) in running.clusters.items()} == {
            "one": "real",
            "two": "simulation",
            "three": "azure",
        }
        assert (running.complete, running.listed) == (True, {"one", "two"})

    @pytest.mark.parametrize(
        ("by_skypilot", "by_cloud", "owner"),
        [("ours", "theirs", "theirs"), ("ours", None, "ours"), (None, "theirs", "theirs"), (None, None, None)],
    )
    def test_whose_node_it_is_the_cloud_should_know_best(
        self, by_skypilot: str | None, by_cloud: str | None, owner: str | None
    ) -> None:
        listings = Listings("real")
        listings.real.listing = [make_cluster(deployment=by_skypilot)]
        listings.cloud.listing = [make_cluster(deployment=by_cloud)]
        ((_, found),) = listings.of.read().clusters.values()
        assert found.deployment == owner

    def test_its_state_skypilot_should_know_best_and_its_machine_the_cloud(self) -> None:
        listings = Listings("real")
        listings.real.listing = [make_cluster(state=NodeState.STOPPED, machine="Standard_A", region="one")]
        listings.cloud.listing = [make_cluster(state=NodeState.UP, machine="Standard_B", region="two")]
        ((source, found),) = listings.of.read().clusters.values()
        assert (source, found.state, found.machine, found.region) == ("real", NodeState.STOPPED, "Standard_B", "two")

    @pytest.mark.parametrize("exempt", [(True, False), (False, True), (True, True), (False, False)])
    def test_a_node_should_be_exempt_if_either_says_so(self, exempt: tuple[bool, bool]) -> None:
        listings = Listings("real")
        listings.real.listing = [make_cluster(gc_protected=exempt[0])]
        listings.cloud.listing = [make_cluster(gc_protected=exempt[1])]
        ((_, found),) = listings.of.read().clusters.values()
        assert found.gc_protected is any(exempt)

    @pytest.mark.parametrize("silent", ["real", "simulation", "cloud"])
    def test_one_that_does_not_answer_should_leave_the_others_and_the_list_incomplete(self, silent: str) -> None:
        listings = Listings()
        for name in ("real", "simulation", "cloud"):
            getattr(listings, name).listing = SILENT if name == silent else [make_cluster(name)]
        running = listings.of.read()
        assert set(running.clusters) == {"real", "simulation", "cloud"} - {silent}
        assert not running.complete
        assert running.listed == ({"real", "simulation"} if silent == "cloud" else None)

    def test_a_server_that_is_left_asleep_should_leave_the_list_incomplete(self) -> None:
        listings = Listings()
        listings.simulation.listing = [make_cluster("two")]
        listings.cloud.listing = [make_cluster("three")]
        running = listings.of.read(skypilot=False)
        assert (set(running.clusters), running.complete, running.listed) == ({"two", "three"}, False, None)
        assert listings.acts == ["cloud list"]

    def test_without_real_launches_no_cloud_should_be_asked(self) -> None:
        listings = Listings("simulation")
        running = listings.of.read()
        assert (listings.acts, running.complete, running.listed) == ([], True, frozenset())


class TestDeleting:
    @pytest.mark.parametrize(("source", "act"), [("real", f"delete {NAME}"), ("azure", f"cloud delete {NAME}")])
    def test_a_node_should_be_deleted_where_it_was_found(self, source: Source, act: str) -> None:
        listings = Listings()
        assert listings.of.delete(source, NAME)
        assert (listings.acts, listings.simulation.acts) == ([act], [])

    def test_a_simulated_node_should_be_deleted_by_the_simulation(self) -> None:
        listings = Listings()
        assert listings.of.delete("simulation", NAME)
        assert (listings.acts, listings.simulation.acts) == ([], [f"delete {NAME}"])

    @pytest.mark.parametrize("left", [CleanupStatus.FREE_LEFTOVERS, CleanupStatus.MACHINE, SILENT])
    def test_what_is_left_in_the_cloud_should_not_count_as_deleted(self, left: CleanupStatus | Exception) -> None:
        listings = Listings()
        listings.cloud.left = left
        assert not listings.of.delete("azure", NAME)

    @pytest.mark.parametrize("answer", [False, SILENT])
    def test_neither_should_what_the_provider_does_not_confirm(self, answer: bool | Exception) -> None:
        listings = Listings()
        listings.real.released = answer
        assert not listings.of.delete("real", NAME)


class TestWaking:
    def test_without_work_the_server_should_be_left_asleep(self) -> None:
        listings = Listings()
        listings.store.create(make_ended(OTHER), [], None)
        assert not listings.of.should_list_skypilot(QUIET)

    def test_a_live_record_should_have_it_asked(self) -> None:
        listings = Listings()
        listings.store.create(make_record(), [], None)
        assert listings.of.should_list_skypilot(QUIET)

    def test_a_marked_orphan_should_have_it_asked(self) -> None:
        listings = Listings()
        listings.store.put_marker(Marker(kind=ORPHAN, key=NAME, at=START))
        assert listings.of.should_list_skypilot(QUIET)

    def test_where_the_cloud_cannot_be_asked_it_should_be(self) -> None:
        assert Listings(with_cloud=False).of.should_list_skypilot(QUIET)

    @pytest.mark.parametrize(
        ("hour", "minutes", "asked"),
        [(0, 0, True), (6, 9.9, True), (12, 10, False), (18, 59, False), (7, 0, False), (5, 5, False)],
    )
    def test_every_six_hours_it_should_be_asked_for_ten_minutes(
        self, hour: int, minutes: float, *, asked: bool
    ) -> None:
        now = QUIET.replace(hour=hour, minute=0) + timedelta(minutes=minutes)
        assert Listings().of.should_list_skypilot(now) is asked
