"""What every InstanceStore makes of rows that this version cannot read: damaged ones, and those of a later version."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from gpulaunch.models.instances import EventType, Phase, Reason
from shared.domain.instance import SCHEMA, AttemptState, Failure, InstanceRecord
from shared.domain.money import Ledger, Reservation
from shared.errors import StaleLedgerError, StaleRecordError, StoreError, StoreUnavailableError, UnreadableRowError
from shared.storage import rows
from shared.storage.base import Booking, InstanceFilter, Marker, Unreadable, UnreadableRecordError, Versioned, readable
from shared.storage.tables import TableInstanceStore
from tests.twins.clock import START
from tests.twins.factories import (
    make_attempt,
    make_cost,
    make_event,
    make_idempotency,
    make_instance_id,
    make_record,
    make_request,
)
from tests.twins.store import MemoryInstanceStore

Store = MemoryInstanceStore | TableInstanceStore
Change = Callable[[dict[str, Any]], object]

NEWER, BAD, OLDER = make_instance_id(3), make_instance_id(2), make_instance_id(1)
ANY = InstanceFilter()
HELD = Reservation(month="2026-01", scopes=("real",), micro_usd=5, gpus=1)


def raw(store: Store, key: str) -> dict[str, Any]:
    if isinstance(store, MemoryInstanceStore):
        return dict(store._rows[key][1])  # pyright: ignore[reportPrivateUsage]
    return dict(store._table.get_entity(store._partition, key))  # pyright: ignore[reportPrivateUsage]


def overwrite(store: Store, row: dict[str, Any]) -> None:
    """Write a row as another version, or an accident, would."""
    if isinstance(store, MemoryInstanceStore):
        store._rows[row["RowKey"]] = ('W/"another"', row)  # pyright: ignore[reportPrivateUsage]
    else:
        mode: Any = "replace"
        store._table.upsert_entity(row, mode=mode)  # pyright: ignore[reportPrivateUsage]


def rewrite(store: Store, key: str, change: Change) -> None:
    row = raw(store, key)
    document = json.loads(rows.document(row))
    change(document)
    overwrite(store, {**row, "doc": json.dumps(document)})


def not_json(document: dict[str, Any]) -> None:
    document["broken"] = True


def later_phase(document: dict[str, Any]) -> None:
    document["phase"] = "parked"


def later_attempt(document: dict[str, Any]) -> None:
    document["attempts"][0]["state"] = "stopped"


def later_schema(document: dict[str, Any]) -> None:
    document["schema_version"] = SCHEMA + 1


def later_schema_of_another_shape(document: dict[str, Any]) -> None:
    document |= {"schema_version": SCHEMA + 1, "phase": {"name": "ready"}, "offers": "packed"}


def another_s(document: dict[str, Any]) -> None:
    document["instance_id"] = NEWER


def ended_among_the_live(document: dict[str, Any]) -> None:
    document["phase"] = "terminated"


CHANGES = (
    not_json,
    later_phase,
    later_attempt,
    later_schema,
    later_schema_of_another_shape,
    another_s,
    ended_among_the_live,
)


def spoil(store: Store, change: Change = later_phase) -> None:
    """Three live instances, the one in the middle with two attempts and a row that cannot be read."""
    attempts = [
        make_attempt(BAD, state=AttemptState.GONE),
        make_attempt(BAD, number=2, state=AttemptState.SUBMITTED),
    ]
    for instance_id in (OLDER, BAD, NEWER):
        request = make_request(labels={"team": "a"})
        record = make_record(instance_id=instance_id, request=request, attempts=attempts, reservation=HELD)
        store.create(record, [], None)
    key = rows.record_key(BAD, ended=False)
    if change is not_json:
        overwrite(store, {**raw(store, key), "doc": '{"instance_id": "inst'})
    elif change is later_attempt:
        rewrite(store, key, lambda document: document["attempts"][1].update(state="stopped"))
    else:
        rewrite(store, key, change)


def bad(store: Store) -> Unreadable:
    with pytest.raises(UnreadableRecordError) as raised:
        store.load(BAD)
    return raised.value.unreadable


@pytest.mark.parametrize("change", CHANGES)
def test_an_unreadable_record_should_come_in_its_place_beside_its_neighbours(store: Store, change: Change) -> None:
    spoil(store, change)
    found = list(store.live())
    assert [one.instance_id for one in found] == [NEWER, BAD, OLDER]
    assert [type(one) for one in found] == [Versioned, Unreadable, Versioned]
    assert store.page(ANY, 10, None).records == found
    assert [one.instance_id for one in store.page(ANY, 2, None).records] == [NEWER, BAD]
    assert store.page(ANY, 10, store.page(ANY, 2, None).next_token).records == found[2:]
    assert found[1] == bad(store)
    assert [one.instance_id for one in readable(found)] == [NEWER, OLDER]


@pytest.mark.parametrize("change", CHANGES)
def test_what_can_be_rescued_of_it_should_be(store: Store, change: Change) -> None:
    spoil(store, change)
    one = bad(store)
    assert (one.ended, one.phase, one.mode, one.provider) == (False, "queued", "simulation", "azure")
    ulid = BAD.removeprefix("inst-").lower()
    assert one.clusters == (() if change is not_json else (f"gl-{ulid}-02",))
    assert one.reservation == (None if change is not_json else HELD)
    assert one.owns(f"gl-{ulid}-07")
    assert not one.owns(f"gl-{OLDER.removeprefix('inst-').lower()}-01")


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (not_json, "Invalid JSON"),
        (later_phase, "phase: Input should be 'queued', 'validating'"),
        (later_attempt, "attempts.1.state: Input should be"),
        (later_schema, f"schema_version {SCHEMA + 1} is of a later version; this one reads up to {SCHEMA}"),
        (later_schema_of_another_shape, f"schema_version {SCHEMA + 1} is of a later version"),
        (another_s, f"the row holds the record of {NEWER}"),
        (ended_among_the_live, "its phase is terminated, and its row is among the live ones"),
    ],
)
def test_it_should_say_why(store: Store, change: Change, why: str) -> None:
    spoil(store, change)
    assert bad(store).why.startswith(why)


def test_why_should_not_repeat_what_the_record_holds_nor_be_long(store: Store) -> None:
    spoil(store, lambda document: document.update(request="hf_secret", offers=["hf_secret"] * 999))
    why = bad(store).why
    assert "hf_secret" not in why
    assert len(why) <= 300


def test_it_should_be_found_by_what_its_row_says(store: Store) -> None:
    spoil(store)
    for wanted in (
        InstanceFilter(phase=Phase.QUEUED),
        InstanceFilter(provider="azure"),
        InstanceFilter(label=("team", "a")),
        InstanceFilter(live=True),
    ):
        assert BAD in [one.instance_id for one in store.page(wanted, 10, None).records]
    assert store.page(InstanceFilter(live=False), 10, None).records == []


def test_closing_it_should_move_its_document_as_it_is(store: Store) -> None:
    spoil(store)
    before = raw(store, rows.record_key(BAD, ended=False))
    store.close_unreadable(bad(store))
    assert [one.instance_id for one in store.live()] == [NEWER, OLDER]
    after = raw(store, rows.record_key(BAD, ended=True))
    changed = {"RowKey", "writer", "closed"}
    assert {k: v for k, v in after.items() if k not in changed} == {k: v for k, v in before.items() if k not in changed}
    one = bad(store)
    assert one.ended
    assert one.why.startswith("closed unread: phase: ")
    assert [one.instance_id for one in store.page(ANY, 10, None).records] == [NEWER, BAD, OLDER]
    store.close_unreadable(one)
    assert bad(store) == one


def test_a_closed_row_should_stay_unreadable_to_a_version_that_could_read_it(store: Store) -> None:
    spoil(store)
    store.close_unreadable(bad(store))
    rewrite(store, rows.record_key(BAD, ended=True), lambda document: document.update(phase="ready"))
    assert bad(store).ended


def test_closing_should_be_refused_when_somebody_changed_the_row(store: Store) -> None:
    spoil(store)
    seen = bad(store)
    rewrite(store, rows.record_key(BAD, ended=False), lambda document: document.update(recoveries=1))
    if isinstance(store, MemoryInstanceStore):
        seen = replace(seen, etag='W/"older"')
    with pytest.raises(StaleRecordError):
        store.close_unreadable(seen)
    rewrite(store, rows.record_key(BAD, ended=False), lambda document: document.update(phase="queued"))
    now = store.load(BAD)
    assert now is not None
    store.commit(now, InstanceRecord.model_validate(now.record.model_dump() | {"phase": "terminated"}), [])
    with pytest.raises(StaleRecordError):
        store.close_unreadable(seen)


def test_its_reservation_should_be_settled_in_the_same_write(store: Store) -> None:
    spoil(store)
    late = Booking(Ledger(), None)
    store.book(late)
    with pytest.raises(StaleLedgerError):
        store.close_unreadable(bad(store), late)
    assert not bad(store).ended
    found = store.ledger()
    store.close_unreadable(bad(store), Booking(Ledger(launched=(START,)), found.etag))
    assert bad(store).ended
    assert store.ledger().ledger.launched == (START,)


@pytest.mark.parametrize("text", ["\x00\x1b[2J", "\u2028🚀"])
def test_control_characters_should_come_back_as_they_were(store: Store, text: str) -> None:
    record = make_record(log_tail=[text], mode_reason=text)
    store.create(record, [], None)
    found = store.load(record.instance_id)
    assert found is not None
    assert found.record == record


@pytest.mark.parametrize(
    ("limit", "ending"),
    [
        (rows.MAX_DOC_UNITS, None),
        (rows.MAX_DOC_UNITS + rows.ENDING_UNITS, Failure(reason=Reason.USER_REQUEST, message="It has to go.")),
    ],
)
def test_a_record_at_the_size_limit_should_be_written_read_and_closed(
    store: Store, limit: int, ending: Failure | None
) -> None:
    labels = {f"k{number:02d}".ljust(40, "k"): "v" * 63 for number in range(16)}
    record = make_record(instance_id=BAD, request=make_request(labels=labels), ending=ending, log_tail=["x"])
    room = limit - len(record.model_dump_json()) + 1
    with pytest.raises(StoreError, match="UTF-16 units") as refused:
        store.create(record.model_copy(update={"log_tail": ["x" * (room + 1)]}), [], None)
    assert not isinstance(refused.value, StoreUnavailableError)
    assert store.load(BAD) is None
    record = record.model_copy(update={"log_tail": ["x" * room]})
    store.create(record, [], None)
    found = store.load(BAD)
    assert found is not None
    assert found.record == record
    row = raw(store, rows.record_key(BAD, ended=False))
    overwrite(store, {**row, "doc0": row["doc0"].replace('"queued"', '"parked"')})
    store.close_unreadable(bad(store))
    assert bad(store).ended
    assert rows.document(raw(store, rows.record_key(BAD, ended=True))) == rows.document(row).replace("queued", "parked")


def test_a_reason_of_a_later_version_should_be_read_and_written_back(store: Store) -> None:
    record = make_record(attempts=[make_attempt()])
    store.create(record, [], None)
    key = rows.record_key(record.instance_id, ended=False)
    failure = {"reason": "capacity_reserved", "message": "of the next version", "retry_at": "2027-01-01T00:00:00Z"}
    rewrite(store, key, lambda document: document["attempts"][0].update(failure=failure))
    found = store.load(record.instance_id)
    assert found is not None
    store.commit(found, found.record.model_copy(update={"recoveries": 1}), [])
    document = json.loads(rows.document(raw(store, key)))
    assert document["attempts"][0]["failure"]["reason"] == "capacity_reserved"
    assert document["recoveries"] == 1


def test_an_unreadable_event_should_be_marked_in_its_place(store: Store) -> None:
    record = make_record(event_count=3)
    store.create(record, [make_event(number) for number in range(3)], None)
    rewrite(store, rows.event_key(record.instance_id, 1), lambda document: document.update(at="yesterday"))
    found = store.events(record.instance_id)
    assert [event.sequence for event in found] == [0, 1, 2]
    assert (found[1].type, found[1].type.known) == ("unreadable", False)
    assert found[1].message.startswith("This event cannot be read by this version: at: Input should be")
    rewrite(store, rows.event_key(record.instance_id, 2), lambda document: document.update(type="drained"))
    later = store.events(record.instance_id, after=1)[0]
    assert (later.type, later.type is EventType.PHASE, later.message) == ("drained", False, "event 2")


def test_other_unreadable_rows_should_never_be_a_validation_error(store: Store) -> None:
    store.put_marker(Marker(kind="orphan", key="good", at=START))
    store.put_marker(Marker(kind="orphan", key="bad", at=START))
    rewrite(store, rows.marker_key("orphan", "bad"), lambda document: document.pop("at"))
    assert [marker.key for marker in store.markers("orphan")] == ["good"]
    entries = (make_cost(), make_cost(attempt=2))
    store.create(make_record(), [], make_idempotency(), Booking(Ledger(), None, entries))
    rewrite(store, rows.cost_key(entries[0]), lambda document: document.pop("up_at"))
    assert store.costs(START.date()) == [entries[1]]
    rewrite(store, rows.LEDGER_KEY, lambda document: document.update(accounts=[]))
    with pytest.raises(UnreadableRowError, match="ledger cannot be read: accounts"):
        store.ledger()
    rewrite(store, rows.idempotency_key("a" * 64), lambda document: document.pop("answer"))
    with pytest.raises(UnreadableRowError, match="answer: Field required"):
        store.idempotency("a" * 64)
