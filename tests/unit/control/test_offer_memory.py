"""Which offers other launches avoid for a while, and until when."""

from datetime import timedelta
from typing import Any

import pytest

from gpulaunch.models.instances import Reason
from shared.control.offer_memory import REFUSED_SECONDS, OfferMemory
from shared.domain.instance import Attempt, AttemptState, Failure, InstanceRecord
from shared.errors import StoreUnavailableError
from tests.twins.clock import START, ManualClock
from tests.twins.factories import make_attempt, make_offer, make_record
from tests.twins.store import MemoryInstanceStore

EAST, WEST, NORTH = (make_offer(region=region) for region in ("eastus", "westus", "northeurope"))
AWAY = StoreUnavailableError("no answer")


def tried(number: int, offer: Any, reason: Reason | None = Reason.NO_CAPACITY) -> Attempt:
    failure = None if reason is None else Failure(reason=reason, message="no room")
    return make_attempt(number=number, offer=offer, state=AttemptState.GONE, gone_at=START, failure=failure)


class Remembering:
    def __init__(self) -> None:
        self.store, self.clock = MemoryInstanceStore(), ManualClock()
        self.memory = OfferMemory(self.store, self.clock)

    def committed(self, before: list[Attempt], after: list[Attempt], mode: str = "real") -> None:
        self.memory.committed(self._record(before, mode), self._record(after, mode), [])

    def _record(self, attempts: list[Attempt], mode: str) -> InstanceRecord:
        return make_record(mode=mode, attempts=attempts)

    @property
    def avoided(self) -> set[str]:
        """As another process plans."""
        return OfferMemory(self.store, self.clock).recent(self.clock.now())


@pytest.fixture
def remembering() -> Remembering:
    return Remembering()


def test_each_offer_that_failed_in_this_change_should_be_avoided_and_no_earlier_one(remembering: Remembering) -> None:
    first = tried(1, EAST)
    remembering.committed([first], [first, tried(2, WEST), tried(3, NORTH, None)])
    assert remembering.avoided == {WEST.key}
    remembering.committed([], [tried(1, EAST), tried(2, NORTH, None), tried(3, NORTH)])
    assert remembering.avoided == {EAST.key, WEST.key, NORTH.key}


def test_one_whose_failure_says_nothing_of_its_offer_should_not_keep_the_others(remembering: Remembering) -> None:
    remembering.committed([], [tried(1, EAST, Reason.SERVER_FAILED), tried(2, WEST)])
    assert remembering.avoided == {WEST.key}


def test_a_simulated_refusal_should_be_forgotten(remembering: Remembering) -> None:
    remembering.committed([], [tried(1, EAST)], mode="simulation")
    assert remembering.avoided == set()


def test_it_should_be_avoided_for_its_time_and_no_longer(remembering: Remembering) -> None:
    remembering.committed([], [tried(1, EAST)])
    held = timedelta(minutes=30)
    remembering.clock.set(START + held - timedelta(seconds=1))
    assert remembering.avoided == {EAST.key}
    remembering.clock.set(START + held)
    assert remembering.avoided == set()


def test_one_that_storage_refuses_should_not_stop_the_step_nor_the_others(remembering: Remembering) -> None:
    remembering.store.calls.fail_next("put_marker", AWAY)
    remembering.committed([], [tried(1, EAST), tried(2, WEST)])
    assert remembering.avoided == {WEST.key}


def test_this_process_should_know_at_once_and_read_anew_after_some_seconds(remembering: Remembering) -> None:
    memory, clock = remembering.memory, remembering.clock
    assert memory.recent(clock.now()) == set()
    remembering.committed([], [tried(1, EAST)])
    assert memory.recent(clock.now()) == {EAST.key}
    OfferMemory(remembering.store, clock).committed(
        make_record(), make_record(mode="real", attempts=[tried(1, WEST)]), []
    )
    assert memory.recent(clock.now()) == {EAST.key}
    assert memory.recent(clock.advance(REFUSED_SECONDS + 1)) == {EAST.key, WEST.key}
