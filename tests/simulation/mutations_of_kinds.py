"""Planted bugs that one kind of fault alone finds: what each kind is there for."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any

from shared.backends.skypilot import provider as skypilot
from shared.backends.skypilot.provider import SkyPilotProvider
from shared.control import probe
from shared.control.sweep import requeue
from shared.control.sweep.garbage import GarbageCollection
from shared.domain.errors import MessageError
from shared.domain.instance import InstanceRecord
from shared.domain.messages import StepMessage
from shared.lifecycle import machine
from shared.lifecycle.resending import Resent
from shared.storage import tables
from shared.storage.base import Unreadable, Versioned
from shared.storage.records import read_record
from shared.storage.tables import TableInstanceStore
from tests.simulation.broken_promises import MUTATIONS
from tests.simulation.mutations import ONLY, Patch, always, mutation_of
from tests.twins import store as twin

__all__ = ["MUTATIONS", "ONLY"]


def _read_as(patch: Patch, change: Callable[[Versioned], Versioned]) -> None:
    """Let both stores give a record as `change` makes it."""

    def changed(row: Mapping[str, Any], etag: str) -> Versioned | Unreadable:
        found = read_record(row, etag)
        return found if isinstance(found, Unreadable) else change(found)

    patch.setattr(twin, "read_record", changed)
    patch.setattr(tables, "read_record", changed)


@mutation_of("clocks")
def decisions_go_back_in_time(patch: Patch) -> None:
    """A worker whose clock is behind decides before the last decision."""

    def as_its_clock_says(_: InstanceRecord, now: datetime) -> datetime:
        return now

    patch.setattr(machine, "decision_time", as_its_clock_says)


@mutation_of("busy")
def a_backlog_is_taken_for_a_loss(patch: Patch) -> None:
    """What waits for its turn is sent again, and waits twice."""

    def late(_: InstanceRecord, resent: Resent | None, __: object, now: datetime) -> bool:
        return resent is None or now >= resent.at + resent.pause

    patch.setattr(requeue, "is_lost", late)


@mutation_of("newer")
def fields_of_a_later_version_are_dropped(patch: Patch) -> None:
    """What this version does not know is lost with the next write."""

    def forget(found: Versioned) -> Versioned:
        record = found.record.model_copy(deep=True)
        for model in (record, *record.attempts):
            assert model.__pydantic_extra__ is not None
            model.__pydantic_extra__.clear()
        return Versioned(record, found.etag)

    _read_as(patch, forget)


@mutation_of("newer")
def messages_of_a_later_version_are_refused(patch: Patch) -> None:
    """A message with a field that this version does not know can't be understood."""
    parse = StepMessage.model_validate_json

    def strict(body: bytes) -> StepMessage:
        if b"priority" in body:
            raise MessageError("priority: extra inputs are not permitted")
        return parse(body)

    patch.setattr(StepMessage, "model_validate_json", strict)


@mutation_of("older")
def attempts_of_an_earlier_version_cost_nothing(patch: Patch) -> None:
    """An attempt without `billed_from` is one that never cost anything."""

    def free(found: Versioned) -> Versioned:
        attempts = [
            one if "billed_from" in one.model_fields_set else one.model_copy(update={"billed_from": None})
            for one in found.record.attempts
        ]
        return Versioned(found.record.model_copy(update={"attempts": attempts}), found.etag)

    _read_as(patch, free)


@mutation_of("crawls")
def submission_not_checked_again(patch: Patch) -> None:
    """However long SkyPilot's server took to answer questions, it is asked for a node."""
    patch.setattr(SkyPilotProvider, "_is_too_late", always(value=False))


@mutation_of("books_lost")
def absence_is_believed_of_any_books(patch: Patch) -> None:
    """What the SkyPilot server does not list is deleted, whatever its history says."""
    patch.setattr(skypilot, "check_history", always(None))
    patch.setattr(skypilot, "lost", always({}))


@mutation_of("table_restored")
def garbage_waits_for_nobody(patch: Patch) -> None:
    """What no record ever had, or what would be much at once, is deleted without a confirmation."""
    patch.setattr(GarbageCollection, "_held", always({}))


@mutation_of("unreadable")
def unreadable_rows_own_nothing(patch: Patch) -> None:
    """The node of a record that cannot be read is garbage."""
    patch.setattr(Unreadable, "owns", always(value=False))


@mutation_of("bad_item")
def one_bad_item_ends_the_sweep(patch: Patch) -> None:
    """What goes wrong at one record, or in one task, is not caught."""

    def unguarded(sweep: Any, task: str, work: Callable[[], None], _: str = "") -> None:
        sweep.errors.setdefault(task, "")
        work()

    patch.setattr("shared.control.sweep.sweep._Sweep.guarded", unguarded)


@mutation_of("bad_item")
def one_bad_probe_ends_its_slice(patch: Patch) -> None:
    """What goes wrong at the probe of one node keeps the nodes after it in its slice from being probed."""

    def unguarded(items: Iterable[Any], act: Callable[[Any], bool], _: object) -> int:
        return sum(act(item) for item in items)

    patch.setattr(probe, "each", unguarded)


@mutation_of("wire")
def the_first_page_is_taken_for_all(patch: Patch) -> None:
    """A query whose answer ends early is not continued."""

    def first_page(store: Any, keys: Any, doing: str, limit: int = 1000, wanted: Any = None) -> Iterator[Any]:
        del wanted
        query = f"PartitionKey eq @partition and {keys.filter()}"
        parameters = {"partition": store._partition, "first": keys.first, "last": keys.last}
        with tables.translated(doing):
            found = store._table.query_entities(query, parameters=parameters, results_per_page=limit)
            yield from next(found.by_page(), ())

    patch.setattr(TableInstanceStore, "_query", first_page)
