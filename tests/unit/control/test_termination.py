"""The end of an instance whose record cannot be read: the intent first, the row last, and nothing on a guess."""

from typing import Any

import pytest

from shared.billing.gate import LedgerGate
from shared.billing.ledger import AttemptCosts
from shared.catalog.snapshot import snapshot
from shared.control.clusters import ClusterListing
from shared.control.garbage_report import GarbageReport, GarbageReports, LostCluster
from shared.control.records import Lifecycle, Records, RecordWriter
from shared.control.termination import TERMINATE_UNREADABLE, Terminator, UnreadableTermination
from shared.domain.instance import cluster_name
from shared.domain.provider import ProviderUnavailableError
from shared.errors import StaleRecordError, StoreUnavailableError
from shared.observability.instances import InstanceTelemetry
from shared.storage import rows
from shared.storage.base import Marker, Unreadable, UnreadableRecordError
from tests.contract.test_unreadable_rows import later_phase, rewrite
from tests.twins.clock import START, ManualClock
from tests.twins.factories import DEPLOYMENT, make_instance_id, make_record
from tests.twins.queues import MemoryQueues
from tests.twins.store import MemoryInstanceStore
from tests.unit.control.doubles import ProviderDouble, make_cluster

ID, OTHER = make_instance_id(1), make_instance_id(2)
NAME, STRANGER = cluster_name(ID, 3), cluster_name(OTHER, 1)
SILENT = ProviderUnavailableError("no answer")


class Watched(ProviderDouble):
    """A provider that writes down what was stored when it was asked."""

    def __init__(self, ending: "Ending") -> None:
        super().__init__(listing=[make_cluster(NAME), make_cluster(STRANGER)])
        self.ending = ending

    def delete(self, cluster_name: str) -> bool:
        self.ending.stored.append((self.ending.marked, self.ending.closed))
        return super().delete(cluster_name)


class Ending:
    def __init__(self) -> None:
        self.store, clock = MemoryInstanceStore(), ManualClock()
        self.stored: list[tuple[bool, bool]] = []
        """Whether the intent was stored and the row closed, at each deletion."""
        self.provider = Watched(self)
        listing = ClusterListing(self.store, self.provider.backends(), {}, ["simulation"])
        self.reports = GarbageReports(self.store, clock, DEPLOYMENT)
        self.termination = UnreadableTermination(self.store, listing, self.reports, clock)
        self.store.create(make_record(), [], None)
        rewrite(self.store, rows.record_key(ID, ended=False), later_phase)

    @property
    def row(self) -> Unreadable:
        with pytest.raises(UnreadableRecordError) as caught:
            self.store.load(ID)
        return caught.value.unreadable

    @property
    def marked(self) -> bool:
        return ID in self.termination.requested()

    @property
    def closed(self) -> bool:
        return self.row.ended

    @property
    def deleted(self) -> list[str]:
        return [act for act in self.provider.acts if act.startswith("delete")]

    @property
    def is_over(self) -> tuple[bool, bool]:
        return self.marked, self.closed


@pytest.fixture
def ending() -> Ending:
    return Ending()


def test_the_intent_should_be_stored_before_a_node_is_deleted_and_go_with_the_row(ending: Ending) -> None:
    assert ending.termination.request(ending.row) is True
    assert (ending.deleted, ending.stored) == ([f"delete {NAME}"], [(True, False)])
    assert ending.is_over == (False, True)


def test_an_intent_that_cannot_be_stored_should_delete_nothing(ending: Ending) -> None:
    ending.store.calls.fail_next("put_marker", StoreUnavailableError("no answer"))
    with pytest.raises(StoreUnavailableError):
        ending.termination.request(ending.row)
    assert ending.deleted == []


@pytest.mark.parametrize("released", [False, SILENT])
def test_while_a_node_is_left_the_row_should_stay_open(ending: Ending, released: Any) -> None:
    ending.provider.released = released
    assert ending.termination.request(ending.row) is False
    assert ending.is_over == (True, False)
    ending.provider.released = True
    assert ending.termination.advance(ending.row) is True
    assert ending.is_over == (False, True)


def test_a_listing_that_is_not_complete_should_prove_nothing(ending: Ending) -> None:
    ending.provider.listing = SILENT
    assert ending.termination.request(ending.row) is False
    assert ending.is_over == (True, False)
    ending.provider.listing = []
    assert ending.termination.advance(ending.row) is True


def test_neither_should_one_of_a_server_that_has_lost_records(ending: Ending) -> None:
    ending.provider.listing = []
    lost = GarbageReport(lost=(LostCluster(cluster_name=STRANGER, since=START, why="it is not listed"),))
    ending.reports.write(GarbageReport(), lost, START)
    assert ending.termination.request(ending.row) is False
    assert ending.is_over == (True, False)


@pytest.mark.parametrize("error", [StaleRecordError("it was changed"), StoreUnavailableError("no answer")])
def test_the_intent_should_outlive_a_row_that_cannot_be_closed(ending: Ending, error: Exception) -> None:
    ending.store.calls.fail_next("close_unreadable", error)
    with pytest.raises(type(error)):
        ending.termination.request(ending.row)
    assert ending.is_over == (True, False)


def test_a_row_that_has_ended_should_need_nothing(ending: Ending) -> None:
    ending.termination.request(ending.row)
    ending.provider.acts.clear()
    assert ending.termination.request(ending.row) is True
    assert (ending.provider.acts, ending.store.markers(TERMINATE_UNREADABLE)) == ([], [])


def test_every_node_should_be_deleted_whatever_is_left_of_another(ending: Ending) -> None:
    ending.provider.listing = [make_cluster(cluster_name(ID, number)) for number in (1, 2, 3)]
    ending.provider.released = False
    assert ending.termination.request(ending.row) is False
    assert len(ending.deleted) == 3


def terminator_of(ending: Ending) -> Terminator:
    gate = LedgerGate(ending.store, lambda _: None)
    writer = RecordWriter(ending.store, gate, AttemptCosts(snapshot()), InstanceTelemetry())
    queues = MemoryQueues(ManualClock())
    return Terminator(
        Records(ending.store, writer, Lifecycle(ManualClock()), queues, [], lambda _: None), ending.termination
    )


def test_what_a_user_asked_for_should_be_remembered_while_the_record_cannot_be_read(ending: Ending) -> None:
    ending.provider.released = False
    ending.termination.request(ending.row)
    assert terminator_of(ending).terminate_again(ID) is False
    assert ending.is_over == (True, False)


@pytest.mark.parametrize(("number", "begun"), [(1, True), (2, False)])
def test_what_a_user_asked_for_should_be_done_once_the_record_can_be_read(number: int, begun: bool) -> None:
    """Or is gone by then, as that of the second instance."""
    ending = Ending()
    instance_id = make_instance_id(number)
    ending.store.put_marker(Marker(kind=TERMINATE_UNREADABLE, key=instance_id, at=START))
    rewrite(ending.store, rows.record_key(ID, ended=False), lambda document: document.update(phase="queued"))
    assert terminator_of(ending).terminate_again(instance_id) is begun
    assert ending.termination.requested() == set()
    found = ending.store.load(ID)
    assert found is not None
    assert found.record.ended is begun
