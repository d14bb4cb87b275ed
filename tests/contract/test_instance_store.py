"""One suite for every InstanceStore: the twin in memory and the table, on Azurite."""

import random
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from threading import Barrier
from typing import Any

import pytest
from azure.core.credentials import AzureNamedKeyCredential
from azure.data.tables import TableClient, TableServiceClient

from devhost.azurite import free_ports
from gpulaunch.models.instances import Phase
from shared.clock import UlidIds
from shared.domain.instance import SCHEMA, Event, InstanceRecord
from shared.domain.money import Account as MoneyAccount
from shared.domain.money import CostEntry, Ledger
from shared.errors import (
    AlreadyExistsError,
    ForeignTokenError,
    StaleLedgerError,
    StaleRecordError,
    StoreError,
    StoreUnavailableError,
)
from shared.storage import rows
from shared.storage.base import (
    EXPIRY_PAGES,
    Booking,
    InstanceFilter,
    InstanceStore,
    Marker,
    RecordPage,
    Unreadable,
    Versioned,
)
from shared.storage.tables import TableInstanceStore
from tests.contract.conftest import Account, reset, timed_out, unique
from tests.twins.clock import START
from tests.twins.factories import make_cost, make_event, make_idempotency, make_instance_id, make_record, make_request

ANY = InstanceFilter()
SOME_ETAG = "W/\"datetime'2026-01-31T09%3A00%3A00.0000000Z'\""
THIRTY = range(1, 31)


@pytest.fixture
def tables(account: Account) -> TableInstanceStore:
    """The real one alone, for what only it can show."""
    return TableInstanceStore(account.table, unique("store"))


def changed(record: InstanceRecord, **fields: Any) -> InstanceRecord:
    return InstanceRecord.model_validate(record.model_dump() | fields)


def ended(record: InstanceRecord, phase: Phase = Phase.TERMINATED, **fields: Any) -> InstanceRecord:
    return changed(record, phase=phase, due_at=None, ended_at=record.created_at, **fields)


def created(store: InstanceStore, record: InstanceRecord, *events: Event) -> Versioned:
    record = changed(record, event_count=len(events))
    etag = store.create(record, events, None)
    found = store.load(record.instance_id)
    assert found is not None
    assert found == Versioned(record, etag)
    return found


def ids(records: list[Versioned | Unreadable]) -> list[str]:
    return [one.instance_id for one in records]


def walk(store: InstanceStore, wanted: InstanceFilter, size: int) -> list[list[str]]:
    pages: list[list[str]] = []
    token: str | None = None
    while True:
        page = store.page(wanted, size, token)
        assert len(page.records) <= size
        pages.append(ids(page.records))
        token = page.next_token
        if token is None:
            return pages


def flat(pages: list[list[str]]) -> list[str]:
    return [one for page in pages for one in page]


# create and load


def test_what_was_created_is_loaded_with_the_etag_of_the_write(store: InstanceStore) -> None:
    created(store, make_record(), make_event(0))


def test_nothing_is_loaded_where_nothing_is(store: InstanceStore) -> None:
    assert store.load(make_instance_id()) is None
    assert store.events(make_instance_id()) == []
    assert list(store.live()) == []
    assert store.page(ANY, 10, None).records == []


def test_a_text_that_is_no_instance_id_names_no_record(store: InstanceStore) -> None:
    assert store.load("inst-' or RowKey ne '") is None
    assert store.events("../etc") == []


def test_times_come_back_to_the_millisecond_in_utc(store: InstanceStore) -> None:
    moment = datetime(2026, 5, 4, 3, 2, 1, 123_999, tzinfo=UTC)
    store.create(make_record(created_at=moment), [], None)
    found = store.load(make_instance_id())
    assert found is not None
    assert found.record.created_at == datetime(2026, 5, 4, 3, 2, 1, 123_000, tzinfo=UTC)


def test_creating_twice_is_refused_and_leaves_the_first(store: InstanceStore) -> None:
    first = created(store, make_record())
    with pytest.raises(AlreadyExistsError):
        store.create(make_record(mode_reason="another", event_count=1), [make_event(0)], make_idempotency())
    assert store.load(make_instance_id()) == first
    assert store.events(make_instance_id()) == []
    assert store.idempotency("a" * 64) is None


def test_an_idempotency_entry_comes_with_the_record(store: InstanceStore) -> None:
    entry = make_idempotency()
    store.create(make_record(), [], entry)
    assert store.idempotency(entry.key_hash) == entry
    assert store.idempotency("c" * 64) is None


def test_idempotency_entries_expire_by_their_age_so_many_at_a_time(store: InstanceStore) -> None:
    entries = [
        make_idempotency(key_hash=f"{number:064d}", created_at=START + timedelta(days=day))
        for number, day in enumerate((0, 9, 1, 2, 3))
    ]
    for number, entry in enumerate(entries):
        store.create(make_record(instance_id=make_instance_id(number)), [], entry)
    before = START + timedelta(days=8)
    assert store.expire_idempotency(START, 3) == 0
    assert [store.expire_idempotency(before, 3) for _ in range(3)] == [3, 1, 0]
    assert [store.idempotency(entry.key_hash) for entry in entries] == [None, entries[1], None, None, None]
    found = store.load(make_instance_id(0))
    assert found is not None


def told(store: InstanceStore, number: int, ended_at: datetime | None) -> str:
    """An instance of that number with three events."""
    instance_id = make_instance_id(number)
    events = [make_event(sequence) for sequence in range(3)]
    before = created(store, make_record(instance_id=instance_id), *events)
    if ended_at is not None:
        store.commit(before, changed(ended(before.record), ended_at=ended_at), [])
    return instance_id


def test_events_should_expire_with_the_end_of_their_instance_so_many_at_a_time(store: InstanceStore) -> None:
    early, late = START + timedelta(days=1), START + timedelta(days=3)
    young = told(store, 100, early)
    ids = [told(store, number, end) for number, end in enumerate((early, None, late, early))]
    launched, ended = START + timedelta(seconds=50), START + timedelta(days=2)
    assert store.expire_events(START - timedelta(seconds=1), ended, 4) == 0
    assert store.expire_events(launched, early, 4) == 0
    deleted = [store.expire_events(launched, ended, 4) for _ in range(8)]
    assert sum(deleted) == 6
    assert max(deleted) <= 4
    assert [len(store.events(one)) for one in (young, *ids)] == [3, 0, 3, 3, 0]
    assert all(store.load(one) is not None for one in ids)


def test_events_should_expire_behind_many_of_instances_that_have_not_ended(store: InstanceStore) -> None:
    old = told(store, 0, START + timedelta(days=1))
    for number in range(1, EXPIRY_PAGES + 2):
        told(store, number, None)
    assert store.expire_events(START + timedelta(hours=1), START + timedelta(days=2), 100) == 3
    assert store.events(old) == []


def test_an_idempotency_key_used_twice_creates_nothing(store: InstanceStore) -> None:
    store.create(make_record(), [], make_idempotency())
    other = make_instance_id(2)
    with pytest.raises(AlreadyExistsError):
        store.create(
            make_record(instance_id=other, event_count=1), [make_event(0)], make_idempotency(instance_id=other)
        )
    assert store.load(other) is None
    assert store.events(other) == []
    entry = store.idempotency("a" * 64)
    assert entry is not None
    assert entry.instance_id == make_instance_id()


def test_of_many_creations_with_one_key_at_once_one_wins(store: InstanceStore) -> None:
    barrier = Barrier(6)

    def create(number: int) -> str | None:
        barrier.wait()
        record = make_record(instance_id=make_instance_id(number), event_count=1)
        try:
            store.create(record, [make_event(0)], make_idempotency(instance_id=record.instance_id))
        except AlreadyExistsError:
            return None
        return record.instance_id

    with ThreadPoolExecutor(6) as pool:
        won = [one for one in pool.map(create, range(1, 7)) if one is not None]
    assert len(won) == 1
    assert ids(list(store.live())) == won
    entry = store.idempotency("a" * 64)
    assert entry is not None
    assert entry.instance_id == won[0]


@pytest.mark.parametrize("size", [29_000, 31_000, 70_000, 480_000])
def test_a_big_record_comes_back_as_it_was(store: InstanceStore, size: int) -> None:
    tail = ["x" * (size - 3000), *("🚀é\u2028" * 250 for _ in range(2))]
    created(store, make_record(log_tail=tail))


def test_surrogate_pairs_survive_wherever_a_document_is_cut(store: InstanceStore) -> None:
    for shift in (0, 1):
        instance_id = make_instance_id(shift + 1)
        created(store, make_record(instance_id=instance_id, log_tail=["a" * shift + "🚀" * 40_000]))


def test_a_record_that_shrank_keeps_nothing_of_its_longer_self(store: InstanceStore) -> None:
    big = created(store, make_record(log_tail=["x" * 100_000]))
    small = changed(big.record, log_tail=["y"])
    store.commit(big, small, [])
    found = store.load(small.instance_id)
    assert found is not None
    assert found.record == small
    store.commit(found, big.record, [])
    again = store.load(small.instance_id)
    assert again is not None
    assert again.record == big.record


# commit


def test_a_commit_changes_record_and_events_together(store: InstanceStore) -> None:
    before = created(store, make_record(), make_event(0))
    record = changed(before.record, phase=Phase.VALIDATING, event_count=3)
    etag = store.commit(before, record, [make_event(1), make_event(2)])
    assert etag != before.etag
    assert store.load(record.instance_id) == Versioned(record, etag)
    assert [event.sequence for event in store.events(record.instance_id)] == [0, 1, 2]


def test_the_etag_of_a_commit_is_good_for_the_next(store: InstanceStore) -> None:
    before = created(store, make_record())
    for recoveries in range(1, 4):
        record = changed(before.record, recoveries=recoveries)
        before = Versioned(record, store.commit(before, record, []))
    assert store.load(before.record.instance_id) == before


def test_a_commit_on_an_old_etag_is_refused_and_writes_nothing(store: InstanceStore) -> None:
    before = created(store, make_record())
    winner = changed(before.record, recoveries=1, event_count=1)
    etag = store.commit(before, winner, [make_event(0)])
    for loser in (changed(winner, recoveries=2), ended(winner), winner):
        with pytest.raises(StaleRecordError):
            store.commit(before, loser, [make_event(0, message="another")])
    assert store.load(winner.instance_id) == Versioned(winner, etag)
    assert [event.sequence for event in store.events(winner.instance_id)] == [0]
    assert ids(store.page(ANY, 10, None).records) == [winner.instance_id]


def test_a_stale_end_is_refused_although_its_events_are_free(store: InstanceStore) -> None:
    before = created(store, make_record())
    winner = changed(before.record, recoveries=1)
    etag = store.commit(before, winner, [])
    for events in ([], [make_event(0)]):
        with pytest.raises(StaleRecordError):
            store.commit(before, ended(before.record, event_count=len(events)), events)
    assert store.load(winner.instance_id) == Versioned(winner, etag)
    assert ids(store.page(ANY, 10, None).records) == [winner.instance_id]


def test_a_commit_on_a_record_that_was_never_created_is_stale(store: InstanceStore) -> None:
    for record in (make_record(), ended(make_record())):
        with pytest.raises(StaleRecordError):
            store.commit(Versioned(make_record(), SOME_ETAG), record, [])
    assert store.load(make_instance_id()) is None


def test_an_event_number_used_twice_is_refused_and_nothing_is_written(store: InstanceStore) -> None:
    before = created(store, make_record(), make_event(0))
    miscounted = Versioned(changed(before.record, event_count=0), before.etag)
    with pytest.raises(AlreadyExistsError):
        store.commit(miscounted, changed(before.record, recoveries=1), [make_event(0, message="another")])
    assert store.load(before.record.instance_id) == before
    assert [event.message for event in store.events(before.record.instance_id)] == ["event 0"]


def test_of_many_commits_at_once_exactly_one_wins_even_when_all_write_the_same(store: InstanceStore) -> None:
    before = created(store, make_record())
    for turn in range(4):
        record = changed(before.record, recoveries=turn + 1, event_count=turn + 1)
        if turn == 3:
            record = ended(record)
        barrier = Barrier(8)

        def commit(
            _: int,
            before: Versioned = before,
            record: InstanceRecord = record,
            turn: int = turn,
            barrier: Barrier = barrier,
        ) -> str | None:
            barrier.wait()
            try:
                return store.commit(before, record, [make_event(turn)])
            except StaleRecordError:
                return None

        with ThreadPoolExecutor(8) as pool:
            won = [etag for etag in pool.map(commit, range(8)) if etag is not None]
        assert len(won) == 1
        before = Versioned(record, won[0])
        assert store.load(record.instance_id) == before
    assert [event.sequence for event in store.events(before.record.instance_id)] == [0, 1, 2, 3]


def test_an_ended_record_leaves_the_live_range_in_the_same_write(store: InstanceStore) -> None:
    before = created(store, make_record())
    record = ended(before.record, event_count=1)
    etag = store.commit(before, record, [make_event(0)])
    assert list(store.live()) == []
    assert store.load(record.instance_id) == Versioned(record, etag)
    assert store.page(ANY, 10, None).records == [Versioned(record, etag)]
    assert len(store.events(record.instance_id)) == 1


def test_an_ended_record_can_be_changed_but_not_brought_back(store: InstanceStore) -> None:
    before = created(store, make_record())
    record = ended(before.record)
    done = Versioned(record, store.commit(before, record, []))
    noted = changed(record, log_tail=["the end"], event_count=1)
    etag = store.commit(done, noted, [make_event(0)])
    assert store.load(record.instance_id) == Versioned(noted, etag)
    with pytest.raises(ValueError, match="back to life"):
        store.commit(Versioned(noted, etag), before.record, [])


def test_a_commit_of_another_instance_is_refused(store: InstanceStore) -> None:
    before = created(store, make_record())
    with pytest.raises(ValueError, match="one instance"):
        store.commit(before, make_record(instance_id=make_instance_id(2)), [])


def test_as_many_events_as_a_transaction_holds_and_no_more(store: InstanceStore) -> None:
    before = created(store, make_record())
    with pytest.raises(ValueError, match="98 events"):
        store.commit(before, changed(before.record, event_count=98), [make_event(number) for number in range(98)])
    booking = Booking(ledger=Ledger())
    store.commit(before, ended(before.record, event_count=97), [make_event(number) for number in range(97)], booking)
    assert len(store.events(before.record.instance_id)) == 97


def test_events_that_leave_a_gap_or_are_not_counted_are_refused(store: InstanceStore) -> None:
    with pytest.raises(ValueError, match="do not lead from 0"):
        store.create(make_record(event_count=2), [make_event(0)], None)
    before = created(store, make_record(), make_event(0))
    for count, events in ((1, [make_event(1)]), (2, [make_event(2)]), (3, [make_event(1)]), (2, [])):
        with pytest.raises(ValueError, match="do not lead from 1"):
            store.commit(before, changed(before.record, event_count=count), events)
    assert store.load(before.record.instance_id) == before


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"schema_version": SCHEMA + 1}, "of a later version's schema 2; not written"),
        ({"phase": Phase("no-such-phase")}, "could not be read again; not written: .*phase"),
        ({"ends_as": 5}, "could not be read again; not written: .*ends_as"),
        ({"epoch": 1.0}, "could not be read again; not written: .*epoch"),
    ],
)
@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")
def test_a_record_that_would_not_be_read_as_it_is_is_refused(
    store: InstanceStore, fields: dict[str, Any], why: str
) -> None:
    before = created(store, make_record())
    with pytest.raises(StoreError, match=re.compile(why, re.DOTALL)):
        store.commit(before, before.record.model_copy(update=fields), [])
    assert store.load(before.record.instance_id) == before


# events


def test_events_come_in_order_after_a_number_and_up_to_a_limit(store: InstanceStore) -> None:
    neighbour = make_record(instance_id=make_instance_id(2))
    created(store, neighbour, make_event(0), make_event(1))
    before = created(store, make_record(), *(make_event(number) for number in range(12)))
    instance_id = before.record.instance_id
    assert [event.sequence for event in store.events(instance_id)] == list(range(12))
    assert [event.sequence for event in store.events(instance_id, after=8)] == [9, 10, 11]
    assert [event.sequence for event in store.events(instance_id, after=1, limit=3)] == [2, 3, 4]
    assert store.events(instance_id, after=11) == []
    assert store.events(instance_id, limit=0) == []
    assert store.events(instance_id)[3] == make_event(3)


# live


def test_live_records_come_newest_first_without_the_ended(store: InstanceStore) -> None:
    for number in random.Random(1).sample(range(1, 13), 12):
        before = created(store, make_record(instance_id=make_instance_id(number)))
        if number % 3 == 0:
            store.commit(before, ended(before.record), [])
    expected = [make_instance_id(number) for number in range(12, 0, -1) if number % 3 != 0]
    assert ids(list(store.live())) == expected


def test_bounds_of_live_are_both_included(store: InstanceStore) -> None:
    for number in range(1, 8):
        created(store, make_record(instance_id=make_instance_id(number)))
    i = make_instance_id
    assert ids(list(store.live(newest=i(5), oldest=i(3)))) == [i(5), i(4), i(3)]
    assert ids(list(store.live(newest=i(2)))) == [i(2), i(1)]
    assert ids(list(store.live(oldest=i(6)))) == [i(7), i(6)]
    assert ids(list(store.live(newest=i(4), oldest=i(4)))) == [i(4)]
    assert ids(list(store.live(newest=i(3), oldest=i(5)))) == []
    with pytest.raises(ValueError, match="instance id"):
        list(store.live(newest="x"))


# pages


def fill(store: InstanceStore, count: int) -> None:
    """Instances 1 to count: every second ended, every fourth failed; providers and labels mixed."""
    for number in range(1, count + 1):
        labels = {"team": "red" if number % 3 == 0 else "blue"} | ({"rare": "yes"} if number == 2 else {})
        provider = "slurm" if number % 5 == 0 else "azure"
        request = make_request(labels=labels, provider=provider)
        record = make_record(instance_id=make_instance_id(number), request=request)
        etag = store.create(record, [], None)
        if number % 2 == 0:
            phase = Phase.FAILED if number % 4 == 0 else Phase.TERMINATED
            store.commit(Versioned(record, etag), ended(record, phase), [])


def numbers(count: int) -> list[str]:
    """The ids of instances `count` down to 1."""
    return [make_instance_id(number) for number in range(count, 0, -1)]


@pytest.mark.parametrize("size", [1, 4, 7, 23, 24, 100])
def test_pages_mix_live_and_ended_in_one_order(store: InstanceStore, size: int) -> None:
    fill(store, 24)
    pages = walk(store, ANY, size)
    assert flat(pages) == numbers(24)
    assert all(len(page) == size for page in pages[:-1])
    assert len(pages) == -(-24 // size)


def test_pages_go_on_where_one_range_is_far_ahead_of_the_other(store: InstanceStore) -> None:
    for number in range(1, 21):
        before = created(store, make_record(instance_id=make_instance_id(number)))
        if number <= 10:
            store.commit(before, ended(before.record), [])
    assert flat(walk(store, ANY, 3)) == numbers(20)


@pytest.mark.parametrize(
    ("wanted", "chosen"),
    [
        (InstanceFilter(phase=Phase("queued")), [n for n in THIRTY if n % 2 == 1]),
        (InstanceFilter(phase=Phase("failed")), [n for n in THIRTY if n % 4 == 0]),
        (InstanceFilter(phase=Phase("ready")), []),
        (InstanceFilter(phase=Phase("no such phase")), []),
        (InstanceFilter(provider="slurm"), [n for n in THIRTY if n % 5 == 0]),
        (InstanceFilter(provider="slurm", phase=Phase("queued")), [n for n in THIRTY if n % 10 == 5]),
        (InstanceFilter(label=("team", "red")), [n for n in THIRTY if n % 3 == 0]),
        (InstanceFilter(label=("team", "green")), []),
        (InstanceFilter(label=("rare", None)), [n for n in THIRTY if n == 2]),
        (InstanceFilter(label=("team", "red"), provider="slurm"), [n for n in THIRTY if n % 15 == 0]),
        (InstanceFilter(live=True), [n for n in THIRTY if n % 2 == 1]),
        (InstanceFilter(live=False), [n for n in THIRTY if n % 2 == 0]),
        (InstanceFilter(live=True, phase=Phase("failed")), []),
        (InstanceFilter(live=False, phase=Phase("failed")), [n for n in THIRTY if n % 4 == 0]),
    ],
)
def test_filters(store: InstanceStore, wanted: InstanceFilter, chosen: list[int]) -> None:
    fill(store, 30)
    for size in (2, 50):
        assert flat(walk(store, wanted, size)) == [make_instance_id(number) for number in reversed(chosen)]


def test_a_filter_value_is_never_part_of_the_query(store: InstanceStore) -> None:
    fill(store, 3)
    assert store.page(InstanceFilter(provider="x' or PartitionKey ne '"), 10, None).records == []


def test_instances_that_come_during_a_listing_don_t_disturb_it(store: InstanceStore) -> None:
    fill(store, 6)
    first = store.page(ANY, 3, None)
    created(store, make_record(instance_id=make_instance_id(7)))
    second = store.page(ANY, 3, first.next_token)
    assert ids(first.records + second.records) == numbers(6)


@pytest.mark.parametrize("token", ["", "x", "AAAA", "b2xkZXI6eA", "b2xkZXI6aW5zdC0n", "é", "b2xk ZXI6"])
def test_a_foreign_token_is_refused(store: InstanceStore, token: str) -> None:
    with pytest.raises(ForeignTokenError, match="token"):
        store.page(ANY, 3, token)


@pytest.mark.parametrize("size", [0, -1, 1001])
def test_a_page_has_one_to_a_thousand_records(store: InstanceStore, size: int) -> None:
    with pytest.raises(ValueError, match="1 to 1000"):
        store.page(ANY, size, None)
    assert [store.page(ANY, size, None).records for size in (1, 1000)] == [[], []]


def test_two_workspaces_don_t_see_each_other(account: Account) -> None:
    one, other = (TableInstanceStore(account.table, unique("space")) for _ in range(2))
    created(one, make_record(), make_event(0))
    assert other.load(make_instance_id()) is None
    assert list(other.live()) == []
    assert other.events(make_instance_id()) == []
    created(other, make_record())


def dead_table() -> TableClient:
    (port,) = free_ports(1)
    credential = AzureNamedKeyCredential("nobody", "bm9ib2R5")
    return TableClient(f"http://127.0.0.1:{port}/nobody", "gpulaunch", credential=credential, retry_total=0)


# what it costs


def test_requests_per_call(account: Account, tables: TableInstanceStore) -> None:
    record = make_record(event_count=1)

    def cost(call: Callable[[], Any]) -> int:
        account.start_counting()
        call()
        return len(account.requests)

    assert cost(lambda: tables.create(record, [make_event(0)], make_idempotency())) == 1
    assert cost(lambda: tables.load(record.instance_id)) == 1
    before = tables.load(record.instance_id)
    assert before is not None
    assert cost(lambda: tables.commit(before, changed(record, recoveries=1, event_count=2), [make_event(1)])) == 1
    assert cost(lambda: tables.events(record.instance_id)) == 1
    assert cost(lambda: tables.idempotency("a" * 64)) == 1
    assert cost(lambda: list(tables.live())) == 1
    assert cost(lambda: tables.page(InstanceFilter(live=True), 20, None)) == 1
    assert cost(lambda: tables.page(InstanceFilter(phase=Phase("ready")), 20, None)) == 1
    assert cost(lambda: tables.page(ANY, 20, None)) == 2
    assert cost(tables.ledger) == 1
    assert cost(lambda: tables.book(Booking(ledger=Ledger()))) == 1
    assert cost(lambda: tables.costs(START.date())) == 1
    now = tables.load(record.instance_id)
    assert now is not None
    assert cost(lambda: tables.commit(now, ended(now.record, event_count=3), [make_event(2)])) == 1
    assert cost(lambda: tables.load(record.instance_id)) == 2
    assert cost(tables.live) == 0


def test_a_thousand_live_records_are_one_request(account: Account, tables: TableInstanceStore) -> None:
    # written in batches straight into the table: what is tested is the reading
    partition = tables._partition  # pyright: ignore[reportPrivateUsage]
    labels = {"team": "blue"}
    template = make_record(request=make_request(labels=labels))
    everything = [
        rows.record_row(partition, template.model_copy(update={"instance_id": make_instance_id(number)}), "w")
        for number in range(1, 2002)
    ]
    for start in range(0, 1000, 100):
        account.table.submit_transaction([("create", row) for row in everything[start : start + 100]])  # pyright: ignore[reportUnknownMemberType]
    account.start_counting()
    assert ids(list(tables.live())) == [make_instance_id(number) for number in range(1000, 0, -1)]
    assert len(account.requests) == 1
    account.start_counting()
    assert len(tables.page(ANY, 999, None).records) == 999
    assert len(account.requests) == 2
    for start in range(1000, 2001, 100):
        account.table.submit_transaction([("create", row) for row in everything[start : start + 100]])  # pyright: ignore[reportUnknownMemberType]
    account.start_counting()
    assert ids(list(tables.live())) == [make_instance_id(number) for number in range(2001, 0, -1)]
    assert len(account.requests) == 3
    # a label that nobody has, though every row was looked at; one that everybody has reads no more than the page
    account.start_counting()
    assert tables.page(InstanceFilter(label=("team", "red")), 5, None) == RecordPage([], None)
    account.start_counting()
    page = tables.page(InstanceFilter(label=("team", None)), 5, None)
    assert ids(page.records) == [make_instance_id(number) for number in range(2001, 1996, -1)]
    assert len(account.requests) == 2


# answers that get lost


@pytest.mark.parametrize("answer", [503, reset(), timed_out()])
def test_a_creation_repeated_after_a_lost_answer_is_a_success(
    account: Account, tables: TableInstanceStore, answer: int | Exception
) -> None:
    account.transport.answers.append(answer)
    account.start_counting()
    etag = tables.create(make_record(event_count=1), [make_event(0)], make_idempotency())
    assert len(account.requests) == 3
    assert tables.load(make_instance_id()) == Versioned(make_record(event_count=1), etag)
    with pytest.raises(AlreadyExistsError):
        tables.create(make_record(), [], None)


@pytest.mark.parametrize("answer", [500, reset()])
@pytest.mark.parametrize("ends", [False, True])
@pytest.mark.parametrize("events", [0, 1])
def test_a_commit_repeated_after_a_lost_answer_is_a_success(
    account: Account, tables: TableInstanceStore, ends: bool, events: int, answer: int | Exception
) -> None:
    before = created(tables, make_record())
    record = changed(ended(before.record) if ends else before.record, recoveries=1, event_count=events)
    account.transport.answers.append(answer)
    etag = tables.commit(before, record, [make_event(number) for number in range(events)])
    assert tables.load(record.instance_id) == Versioned(record, etag)
    assert len(tables.events(record.instance_id)) == events
    with pytest.raises(StaleRecordError):
        tables.commit(before, changed(record, event_count=0), [])


def test_a_lost_commit_that_somebody_else_built_on_is_stale(account: Account, tables: TableInstanceStore) -> None:
    before = created(tables, make_record())
    record = changed(before.record, recoveries=1, event_count=1)
    other = TableInstanceStore(account.table, tables._partition)  # pyright: ignore[reportPrivateUsage]

    def somebody() -> int:
        found = other.load(record.instance_id)
        assert found is not None
        other.commit(found, changed(found.record, recoveries=2), [])
        return 503

    account.transport.answers.append(somebody)
    with pytest.raises(StaleRecordError):
        tables.commit(before, record, [make_event(0)])
    found = tables.load(record.instance_id)
    assert found is not None
    assert found.record.recoveries == 2


@pytest.mark.parametrize("written", [True, False])
def test_a_write_without_an_answer_is_unavailable(account: Account, tables: TableInstanceStore, written: bool) -> None:
    before = created(tables, make_record())
    record = changed(before.record, recoveries=1)
    if written:
        account.transport.answers.extend(timed_out() for _ in range(10))
        with pytest.raises(StoreUnavailableError):
            tables.commit(before, record, [])
        account.transport.answers.clear()
        found = tables.load(record.instance_id)
        assert found is not None
        assert found.record == record
    else:
        nowhere = TableInstanceStore(dead_table(), "store")
        with pytest.raises(StoreUnavailableError):
            nowhere.commit(before, record, [])
        assert tables.load(record.instance_id) == before


def every_call(store: TableInstanceStore) -> list[Callable[[], Any]]:
    return [
        lambda: store.create(make_record(), [], None),
        lambda: store.commit(Versioned(make_record(), SOME_ETAG), make_record(), []),
        lambda: store.load(make_instance_id()),
        lambda: store.idempotency("a" * 64),
        lambda: store.events(make_instance_id()),
        lambda: list(store.live()),
        lambda: store.page(ANY, 5, None),
    ]


def test_an_overloaded_service_is_unavailable(account: Account, tables: TableInstanceStore) -> None:
    for call in every_call(tables):
        account.transport.answers.extend([503] * 10)
        with pytest.raises(StoreUnavailableError):
            call()
        account.transport.answers.clear()


def test_a_service_that_is_not_there_is_unavailable_and_a_missing_table_is_no_missing_record(
    azurite_alone: Account,
) -> None:
    connection = azurite_alone.settings.storage_connection
    assert connection is not None
    service = TableServiceClient.from_connection_string(connection.get_secret_value(), retry_total=0)
    for table in (dead_table(), service.get_table_client("nosuchtable")):
        for call in every_call(TableInstanceStore(table, "store")):
            with pytest.raises(StoreUnavailableError):
                call()


def test_a_wrong_key_is_unavailable_and_shows_no_key(azurite_alone: Account) -> None:
    key = "d3Jvbmcgd3Jvbmcgd3Jvbmc="
    table = TableClient(
        azurite_alone.table.url, table_name="gpulaunch", credential=AzureNamedKeyCredential("devstoreaccount1", key)
    )
    with pytest.raises(StoreUnavailableError) as refused:
        TableInstanceStore(table, "store").load(make_instance_id())
    assert key not in str(refused.value)


def test_far_apart_ids_keep_their_order(store: InstanceStore) -> None:
    first = datetime(2020, 1, 1, tzinfo=UTC)
    made = [UlidIds().instance_id(first + timedelta(days=100 * number)) for number in range(12)]
    for instance_id in random.Random(3).sample(made, len(made)):
        created(store, make_record(instance_id=instance_id))
    assert ids(list(store.live())) == made[::-1]
    assert flat(walk(store, ANY, 5)) == made[::-1]


def make_note(**given: Any) -> Marker:
    fields = {"kind": "orphan", "key": "gl-a/b#c?d-01", "at": START, "text": "seen"}
    return Marker.model_validate(fields | given)


def test_a_note_is_there_until_it_is_dropped(store: InstanceStore) -> None:
    store.put_marker(make_note())
    store.put_marker(make_note(kind="other"))
    assert store.markers("orphan") == [make_note()]
    store.drop_marker("orphan", make_note().key)
    store.drop_marker("orphan", make_note().key)
    assert store.markers("orphan") == []
    assert len(store.markers("other")) == 1


def test_a_second_note_about_the_same_takes_the_place_of_the_first(store: InstanceStore) -> None:
    store.put_marker(make_note())
    store.put_marker(make_note(text="seen again"))
    store.put_marker(make_note(key="another"))
    assert sorted(note.text for note in store.markers("orphan")) == ["seen", "seen again"]


def test_a_marker_should_take_the_place_of_one_of_any_other_length(store: InstanceStore) -> None:
    for length in (10, 80_000, 40_000, 10):
        store.put_marker(make_note(text="x" * length))
        assert store.markers("orphan") == [make_note(text="x" * length)]


def test_whoever_claims_a_note_first_keeps_it(store: InstanceStore) -> None:
    assert store.claim_marker(make_note()) == make_note()
    assert store.claim_marker(make_note(text="another")) == make_note()
    assert store.claim_marker(make_note(key="another", text="another")).text == "another"
    assert store.markers("orphan").count(make_note()) == 1


def test_all_that_claim_together_get_the_same(store: InstanceStore) -> None:
    notes = [make_note(text=f"claim {number}") for number in range(16)]
    with ThreadPoolExecutor(8) as pool:
        claimed = [note.text for note in pool.map(store.claim_marker, notes)]
    assert len(set(claimed)) == 1
    assert [note.text for note in store.markers("orphan")] == claimed[:1]


def test_a_claim_without_storage_should_say_so() -> None:
    with pytest.raises(StoreUnavailableError):
        TableInstanceStore(dead_table(), "space").claim_marker(make_note())


def test_notes_are_no_instances(store: InstanceStore) -> None:
    store.put_marker(make_note())
    assert list(store.live()) == []
    assert store.page(ANY, 10, None).records == []


# the ledger and what attempts have cost


def spent(amount: int) -> Ledger:
    return Ledger(accounts={"2026-01/real": MoneyAccount(spent=amount)})


def booking_on(store: InstanceStore, ledger: Ledger, *costs: CostEntry) -> Booking:
    return Booking(ledger, store.ledger().etag, costs)


def test_a_ledger_that_nobody_wrote_is_empty(store: InstanceStore) -> None:
    found = store.ledger()
    assert (found.ledger, found.etag) == (Ledger(), None)
    assert store.costs(START.date()) == []


def test_a_ledger_is_written_with_the_record_or_alone(store: InstanceStore) -> None:
    entry = make_cost()
    store.create(make_record(event_count=1), [make_event(0)], make_idempotency(), booking_on(store, spent(1)))
    assert store.ledger().ledger == spent(1)
    before = store.load(make_instance_id())
    assert before is not None
    store.commit(before, ended(before.record, event_count=2), [make_event(1)], booking_on(store, spent(2), entry))
    assert store.ledger().ledger == spent(2)
    assert store.costs(entry.day) == [entry]
    store.book(booking_on(store, spent(3)))
    assert store.ledger().ledger == spent(3)


@pytest.mark.parametrize("there", [False, True], ids=["first", "later"])
def test_a_stale_ledger_refuses_a_creation_and_nothing_is_written(store: InstanceStore, there: bool) -> None:
    if there:
        store.book(booking_on(store, spent(1)))
    late = booking_on(store, spent(5))
    store.book(booking_on(store, spent(2)))
    with pytest.raises(StaleLedgerError):
        store.create(make_record(event_count=1), [make_event(0)], make_idempotency(), late)
    assert store.load(make_instance_id()) is None
    assert list(store.live()) == []
    assert store.events(make_instance_id()) == []
    assert store.idempotency("a" * 64) is None
    assert store.ledger().ledger == spent(2)
    with pytest.raises(StaleLedgerError):
        store.book(late)
    assert store.ledger().ledger == spent(2)


@pytest.mark.parametrize("ends", [False, True])
def test_a_stale_ledger_refuses_a_commit_and_nothing_is_written(store: InstanceStore, ends: bool) -> None:
    before = created(store, make_record(), make_event(0))
    late = booking_on(store, spent(5), make_cost())
    store.book(booking_on(store, spent(2)))
    after = changed(ended(before.record) if ends else before.record, recoveries=1, event_count=2)
    with pytest.raises(StaleLedgerError):
        store.commit(before, after, [make_event(1)], late)
    assert store.load(make_instance_id()) == before
    assert len(store.events(make_instance_id())) == 1
    assert store.costs(START.date()) == []
    store.commit(before, after, [make_event(1)], booking_on(store, spent(5), make_cost()))
    assert store.ledger().ledger == spent(5)


def test_a_stale_record_is_named_before_a_stale_ledger(store: InstanceStore) -> None:
    before = created(store, make_record())
    late = booking_on(store, spent(5))
    store.commit(before, changed(before.record, recoveries=1), [], booking_on(store, spent(2)))
    with pytest.raises(StaleRecordError):
        store.commit(before, changed(before.record, recoveries=2), [], late)
    assert store.ledger().ledger == spent(2)


def test_a_key_used_twice_is_no_stale_ledger(store: InstanceStore) -> None:
    store.create(make_record(), [], make_idempotency(), booking_on(store, spent(1)))
    other = make_record(instance_id=make_instance_id(2))
    with pytest.raises(AlreadyExistsError):
        store.create(other, [], make_idempotency(), booking_on(store, spent(2)))
    assert store.ledger().ledger == spent(1)


def test_of_many_bookings_at_once_none_is_lost(store: InstanceStore) -> None:
    barrier = Barrier(8)

    def book(_: int) -> None:
        barrier.wait()
        while True:
            found = store.ledger()
            old = found.ledger.accounts.get("2026-01/real", MoneyAccount()).spent
            try:
                return store.book(Booking(spent(old + 1), found.etag))
            except StaleLedgerError:
                continue

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(book, range(8)))
    assert store.ledger().ledger == spent(8)


def test_costs_are_found_from_the_day_of_their_end(store: InstanceStore) -> None:
    ends = [START - timedelta(days=1), START, START + timedelta(hours=1), START + timedelta(days=40)]
    entries = [
        make_cost(instance_id=make_instance_id(9 - number), up_at=end - timedelta(hours=1), gone_at=end)
        for number, end in enumerate(ends)
    ]
    before = created(store, make_record())
    store.commit(before, changed(before.record, recoveries=1), [], Booking(costs=tuple(reversed(entries))))
    assert store.costs(START.date() - timedelta(days=1))[0] == entries[0]
    assert {entry.gone_at for entry in store.costs(START.date())} == set(ends[1:])
    assert store.costs(START.date() + timedelta(days=1)) == entries[3:]


def test_an_attempt_s_cost_is_written_once(store: InstanceStore) -> None:
    before = created(store, make_record())
    etag = store.commit(before, changed(before.record, recoveries=1), [], Booking(costs=(make_cost(),)))
    with pytest.raises(AlreadyExistsError):
        store.commit(Versioned(before.record, etag), before.record, [], Booking(costs=(make_cost(),)))
    assert store.costs(START.date()) == [make_cost()]


@pytest.mark.parametrize("answer", [503, reset()])
def test_a_booking_repeated_after_a_lost_answer_is_a_success(
    account: Account, tables: TableInstanceStore, answer: int | Exception
) -> None:
    account.transport.answers.append(answer)
    tables.create(make_record(), [], None, Booking(spent(1)))
    assert len(account.requests) == 3  # the write, its repetition, the record by which it is recognised
    assert tables.ledger().ledger == spent(1)


@pytest.mark.parametrize("kind", ["standin", "unpacked"])
def test_a_record_that_ends_while_a_page_is_read_is_on_it(kind: str, request: pytest.FixtureRequest) -> None:
    account: Account = request.getfixturevalue(kind)
    store = TableInstanceStore(account.table, unique("page"))
    before = created(store, make_record())

    def end() -> int:
        store.commit(before, ended(before.record), [])
        return 200

    account.transport.answers.append(end)
    assert ids(store.page(ANY, 10, None).records) == [before.instance_id]
