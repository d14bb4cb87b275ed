"""What an earlier version stored is still read; what a later one stored is kept, as while two are deployed."""

# Golden documents are any JSON.
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false, reportUnknownMemberType=false
import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from gpulaunch.models.instances import Phase
from gpulaunch.models.responses import LaunchAnswer
from shared.api.views import event_list, instance_view
from shared.domain.instance import Event, InstanceRecord
from shared.domain.money import CostEntry, Ledger
from shared.lifecycle.machine import decide
from shared.lifecycle.observations import Released
from shared.lifecycle.timeouts import Timeouts
from shared.storage import rows
from shared.storage.base import IdempotencyEntry, Marker
from tests.hostile.strategies import json_values
from tests.twins.clock import START
from tests.twins.store import MemoryInstanceStore

KINDS: dict[str, type[BaseModel]] = {
    "records": InstanceRecord,
    "events": Event,
    "idempotency": IdempotencyEntry,
    "notes": Marker,
    "ledgers": Ledger,
    "costs": CostEntry,
}
GOLDEN = sorted((Path(__file__).parent / "golden").glob("*.json"))


def documents() -> Iterator[tuple[str, Any]]:
    for path in GOLDEN:
        for kind, found in json.loads(path.read_text(encoding="utf-8")).items():
            for document in found:
                yield kind, document


DOCUMENTS = list(documents())


def is_json(value: Any) -> bool:
    """Whether a value is JSON to others than Python: without NaN and infinities."""
    try:
        json.dumps(value, allow_nan=False)
    except ValueError:
        return False
    return True


def within(document: Any, read: Any) -> bool:
    """Whether all that a document says is still said."""
    if isinstance(document, dict):
        return all(key in read and within(value, read[key]) for key, value in document.items())
    if isinstance(document, list):
        return len(document) == len(read) and all(map(within, document, read))
    return document == read


def test_there_should_be_golden_documents_of_every_kind() -> None:
    assert {kind for kind, _ in DOCUMENTS} == set(KINDS)
    phases = {document["phase"] for kind, document in DOCUMENTS if kind == "records"}
    assert {"ready", "installing", "terminated", "failed"} <= phases


@pytest.mark.parametrize(("kind", "document"), DOCUMENTS)
def test_a_golden_document_should_be_read_with_all_that_it_says(kind: str, document: Any) -> None:
    read = KINDS[kind].model_validate_json(json.dumps(document))
    assert within(document, read.model_dump(mode="json"))


def test_golden_records_should_be_shown_and_golden_answers_repeated() -> None:
    for kind, document in DOCUMENTS:
        text = json.dumps(document)
        if kind == "records":
            record = InstanceRecord.model_validate_json(text)
            assert instance_view(record, START).phase == record.phase
            assert event_list(record, [], [], START).instance_id == record.instance_id
        elif kind == "idempotency":
            entry = IdempotencyEntry.model_validate_json(text)
            assert LaunchAnswer.model_validate_json(entry.answer).instance_id == entry.instance_id


def objects(document: Any) -> Iterator[dict[str, Any]]:
    """All objects in a document whose fields are a model's: not labels, parameters by type, and the like."""
    if isinstance(document, dict):
        yield document
        for key, value in document.items():
            if key in ("accounts", "usage"):
                yield from objects(list(value.values()))
            elif key not in ("labels", "parameters", "data"):
                yield from objects(value)
    elif isinstance(document, list):
        for value in document:
            yield from objects(value)


@pytest.mark.parametrize(("kind", "document"), DOCUMENTS)
def test_fields_of_a_later_version_should_be_kept(kind: str, document: Any) -> None:
    changed = copy.deepcopy(document)
    for found in list(objects(changed)):
        found["field_of_tomorrow"] = {"any": ["thing"]}
    read = KINDS[kind].model_validate_json(json.dumps(changed))
    assert within(changed, json.loads(read.model_dump_json()))


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow], database=None)
@given(one=st.sampled_from(DOCUMENTS), name=st.text(min_size=1), value=json_values.filter(is_json))
def test_any_added_field_should_be_kept(one: tuple[str, Any], name: str, value: Any) -> None:
    kind, document = one
    changed = {f"x{name}": value} | document
    assert within(changed, KINDS[kind].model_validate_json(json.dumps(changed)).model_dump(mode="json"))


OPTIONAL = {
    "records": [
        "health",
        "ending",
        "ends_as",
        "ended_at",
        "log_tail",
        "recoveries",
        "attempts",
        "mode_reason",
        "epoch",
    ],
    "events": ["reason", "attempt", "duration_seconds", "data"],
    "notes": ["until", "text"],
    "ledgers": ["accounts", "usage", "launched"],
}
"""Fields that have a default, so that a document without them is an older one, and read."""


@pytest.mark.parametrize(("kind", "document"), DOCUMENTS)
def test_fields_that_came_later_should_have_a_default(kind: str, document: Any) -> None:
    for name in OPTIONAL.get(kind, []):
        older = {key: value for key, value in document.items() if key != name}
        KINDS[kind].model_validate_json(json.dumps(older))


def test_what_the_next_version_wrote_should_be_changed_without_losing_what_it_means() -> None:
    """See golden/next-version.json: fields, reasons, kinds of events and phases of nodes that this version lacks."""
    (document,) = json.loads((GOLDEN[0].parent / "next-version.json").read_text(encoding="utf-8"))["records"]
    record = InstanceRecord.model_validate_json(json.dumps(document))
    assert record.ending is not None
    assert (record.ending.reason, record.ending.reason.known) == ("scaled_down", False)
    store = MemoryInstanceStore()
    store._rows[rows.record_key(record.instance_id, ended=False)] = ("1", rows.record_row("", record, "w"))  # pyright: ignore[reportPrivateUsage]
    found = store.load(record.instance_id)
    assert found is not None
    decision = decide(found.record, Released(gone=True), record.updated_at, Timeouts())
    store.commit(found, decision.record, decision.events)
    ended = store.load(record.instance_id)
    assert ended is not None
    assert ended.record.phase is Phase.TERMINATED
    written = json.loads(ended.record.model_dump_json())
    later = copy.deepcopy(document)
    for name in ("phase", "phase_since", "updated_at", "ended_at", "due_at", "event_count"):
        later.pop(name)
    for name in ("state", "gone_at", "node_phase"):
        later["attempts"][-1].pop(name)
    assert within(later, written)
