"""Waiting for the ledger has an end."""

import threading
import time

import pytest

from shared.billing.gate import LedgerGate
from shared.errors import StaleLedgerError, StoreUnavailableError
from shared.turns import Turns
from tests.twins.store import MemoryInstanceStore


def test_a_ledger_that_others_hold_should_be_given_up() -> None:
    gate = LedgerGate(MemoryInstanceStore(), time.sleep, Turns(1, 0.05, "the ledger"))
    held, free = threading.Event(), threading.Event()

    def hold() -> None:
        gate.change(lambda _: (held.set(), free.wait(5)))

    thread = threading.Thread(target=hold)
    thread.start()
    assert held.wait(5)
    begun = time.monotonic()
    with pytest.raises(StoreUnavailableError, match="the ledger was in use"):
        gate.change(lambda _: None)
    assert time.monotonic() - begun < 2
    free.set()
    thread.join()
    assert gate.change(lambda _: "free again") == "free again"


def test_a_ledger_that_others_hold_for_a_moment_should_be_waited_for() -> None:
    gate = LedgerGate(MemoryInstanceStore(), time.sleep, Turns(1, 5, "the ledger"))
    threads = [threading.Thread(target=lambda: gate.change(lambda _: time.sleep(0.02))) for _ in range(5)]
    for thread in threads:
        thread.start()
    assert gate.change(lambda _: "its turn") == "its turn"
    for thread in threads:
        thread.join()


class Others:
    """A change that others are first with so many times."""

    def __init__(self, times: int, error: type[Exception] = StaleLedgerError) -> None:
        self.times, self.error, self.tries = times, error, 0

    def __call__(self, _: object) -> str:
        self.tries += 1
        if self.tries <= self.times:
            raise self.error("others were first")
        return "done"


def test_others_who_are_first_should_be_outlasted_with_short_pauses() -> None:
    pauses: list[float] = []
    others = Others(10)
    assert LedgerGate(MemoryInstanceStore(), pauses.append).change(others) == "done"
    assert (others.tries, len(pauses)) == (11, 10)
    assert max(pauses) <= 0.5


def test_others_who_are_always_first_should_count_as_no_answer() -> None:
    with pytest.raises(StoreUnavailableError):
        LedgerGate(MemoryInstanceStore(), lambda _: None).change(Others(1000))


def test_what_is_no_conflict_should_not_be_tried_again() -> None:
    others = Others(1, KeyError)
    with pytest.raises(KeyError):
        LedgerGate(MemoryInstanceStore(), lambda _: None).change(others)
    assert others.tries == 1


def test_pauses_should_be_short_at_first_and_never_long() -> None:
    pauses: list[float] = []
    with pytest.raises(StoreUnavailableError):
        LedgerGate(MemoryInstanceStore(), pauses.append).change(Others(99))
    assert all(0 <= pause <= 0.5 for pause in pauses)
    assert max(pauses[:3]) <= 0.08
    assert max(pauses) > 0.05


def test_one_caller_of_a_process_should_be_at_the_ledger_at_a_time() -> None:
    gate, entered, free = LedgerGate(MemoryInstanceStore(), time.sleep), threading.Event(), threading.Event()
    first = threading.Thread(target=lambda: gate.change(lambda _: (entered.set(), free.wait(5))))
    first.start()
    assert entered.wait(5)
    done = threading.Event()
    second = threading.Thread(target=lambda: gate.change(lambda _: done.set()))
    second.start()
    assert not done.wait(0.05)
    free.set()
    assert done.wait(5)
    first.join()
    second.join()
