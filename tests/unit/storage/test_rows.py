"""Rows: how documents are cut and put together, what fits, and what is said of a row that cannot be read."""

import json
from typing import Any

import pytest

from gpulaunch.models.instances import Phase, Reason
from shared.domain.instance import AttemptState, Failure
from shared.errors import RowTooLargeError
from shared.storage import rows
from shared.storage.base import NO_BOOKING, Booking, Marker, Unreadable
from shared.storage.queues import MAX_DELAY_SECONDS, visibility
from shared.storage.records import check_write, read_record
from tests.twins.clock import START
from tests.twins.factories import make_attempt, make_cost, make_event, make_instance_id, make_record

PAIR = "\U0001f600"
"""Two UTF-16 units."""


def marker(text: str) -> Marker:
    return Marker(kind="k", key="k", at=START, text=text)


def size_of(model: Marker) -> int:
    return len(model.model_dump_json().encode("utf-16-le")) // 2


class TestDocuments:
    @pytest.mark.parametrize("shift", range(4))
    @pytest.mark.parametrize("character", ["x", PAIR, "\U0010ffff"])
    def test_one_should_come_back_wherever_it_is_cut(self, shift: int, character: str) -> None:
        made = marker("y" * shift + character * (rows.CHUNK_UNITS + 10))
        row = rows.row_of("", "key", made, 10 * rows.CHUNK_UNITS)
        assert "doc" not in row
        assert all(
            len(row[name].encode("utf-16-le")) // 2 <= rows.CHUNK_UNITS for name in row if name.startswith("doc")
        )
        assert Marker.model_validate_json(rows.document(row)) == made

    def test_one_that_a_property_holds_should_be_in_one(self) -> None:
        room = rows.CHUNK_UNITS - size_of(marker(""))
        assert "doc" in rows.row_of("", "key", marker("x" * room))
        assert "doc" not in rows.row_of("", "key", marker("x" * (room + 1)))

    def test_one_beyond_the_limit_should_be_refused(self) -> None:
        made = marker(PAIR * 20)
        assert rows.row_of("", "key", made, size_of(made))
        with pytest.raises(RowTooLargeError):
            rows.row_of("", "key", made, size_of(made) - 1)

    @pytest.mark.parametrize(("ending", "fits"), [(True, True), (False, False)])
    def test_only_a_record_that_ends_should_have_the_room_for_its_end(self, *, ending: bool, fits: bool) -> None:
        failure = Failure(reason=Reason.USER_REQUEST, message="asked for") if ending else None
        record = make_record(ending=failure, log_tail=["x" * (rows.MAX_DOC_UNITS - 2000)])
        size = len(record.model_dump_json().encode("utf-16-le")) // 2
        padded = record.model_copy(update={"mode_reason": "y" * (rows.MAX_DOC_UNITS + 10 - size)})
        if fits:
            assert rows.record_row("", padded, "w")
        else:
            with pytest.raises(RowTooLargeError):
                rows.record_row("", padded, "w")


class TestKeys:
    def test_newer_instances_should_sort_first_and_ids_come_back(self) -> None:
        ids = [make_instance_id(number) for number in (1, 2, 40)]
        keys = [rows.inverted_ulid(one) for one in ids]
        assert keys == sorted(keys, reverse=True)
        assert [rows.upright(key) for key in keys] == ids

    @pytest.mark.parametrize("text", ["", "inst-", "inst-1", f"{make_instance_id()}|", "rec|x"])
    def test_what_is_no_id_should_make_no_key(self, text: str) -> None:
        assert not rows.is_instance_id(text)
        with pytest.raises(ValueError, match="not an instance id"):
            rows.inverted_ulid(text)


class TestWrites:
    def test_what_a_lifecycle_asks_for_should_pass(self) -> None:
        check_write(None, make_record(event_count=1), [make_event()], NO_BOOKING)
        before = make_record(event_count=1)
        check_write(before, before.model_copy(update={"event_count": 2}), [make_event(1)], NO_BOOKING)

    @pytest.mark.parametrize(
        ("before", "after", "events"),
        [
            ({}, {"instance_id": make_instance_id(2)}, 0),
            ({"phase": Phase.FAILED, "ended_at": START}, {}, 0),
            ({"event_count": 1}, {"event_count": 3}, 1),
            ({"event_count": 1}, {"event_count": 1}, 1),
            ({}, {"event_count": rows.MAX_EVENTS + 1}, rows.MAX_EVENTS + 1),
        ],
    )
    def test_what_none_does_should_be_refused(self, before: dict[str, Any], after: dict[str, Any], events: int) -> None:
        old = make_record(**before)
        made = [make_event(old.event_count + number) for number in range(events)]
        with pytest.raises(ValueError, match=r"instance|events"):
            check_write(old, make_record(**after), made, NO_BOOKING)

    def test_costs_should_count_among_what_a_transaction_holds(self) -> None:
        events = [make_event(number) for number in range(rows.MAX_EVENTS)]
        record = make_record(event_count=rows.MAX_EVENTS)
        check_write(None, record, events, NO_BOOKING)
        with pytest.raises(ValueError, match="at most"):
            check_write(None, record, events, Booking(costs=(make_cost(),)))


class TestUnreadable:
    def unreadable(self, document: str) -> Unreadable:
        attempts = [make_attempt(state=AttemptState.GONE, gone_at=START), make_attempt(number=2)]
        record = make_record(attempts=attempts)
        row = {**rows.record_row("", record, "w"), "doc": document.replace("RECORD", record.model_dump_json())}
        found = read_record(row, "etag")
        assert isinstance(found, Unreadable)
        return found

    def test_the_nodes_that_may_be_there_should_be_known(self) -> None:
        attempts = [
            {"cluster_name": "gl-gone", "state": "gone"},
            {"cluster_name": "gl-here", "state": "submitted"},
            {"cluster_name": 7},
            "nonsense",
        ]
        found = self.unreadable(json.dumps({"attempts": attempts}))
        assert found.clusters == ("gl-here",)
        assert (found.mode, found.provider, found.phase) == ("simulation", "azure", "queued")

    @pytest.mark.parametrize("document", ["{", "[]", "null", "[" * 100_000, '{"attempts": 7}'])
    def test_whatever_stands_there_should_be_unreadable_and_no_error(self, document: str) -> None:
        found = self.unreadable(document)
        assert (found.instance_id, found.clusters, found.reservation) == (make_instance_id(), (), None)

    def test_the_reason_should_say_where_and_how_and_never_what(self) -> None:
        found = self.unreadable('{"schema_version": 1, "instance_id": "a-secret"}')
        assert found.why
        assert "more)" in found.why
        assert "a-secret" not in found.why
        assert "http" not in found.why


class TestDelays:
    @pytest.mark.parametrize(
        ("delay", "seconds"), [(0, 0), (0.4, 0), (0.5, 1), (1.49, 1), (2, 2), (MAX_DELAY_SECONDS, MAX_DELAY_SECONDS)]
    )
    def test_one_should_be_of_whole_seconds_the_nearest(self, delay: float, seconds: int) -> None:
        assert visibility(delay) == seconds

    @pytest.mark.parametrize("delay", [-0.1, MAX_DELAY_SECONDS + 0.1, float("nan"), float("inf")])
    def test_one_that_the_service_does_not_know_should_be_refused(self, delay: float) -> None:
        with pytest.raises(ValueError, match="delay"):
            visibility(delay)


@pytest.mark.parametrize("chunks", [2, 3, 5])
def test_a_document_should_take_no_more_properties_than_it_needs(chunks: int) -> None:
    made = marker("")
    made = marker("x" * (chunks * rows.CHUNK_UNITS - size_of(made)))
    row = rows.row_of("", "key", made, 10 * rows.CHUNK_UNITS)
    assert sum(name.startswith("doc") for name in row) == chunks
