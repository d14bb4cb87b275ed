"""How many slices of nodes one process takes up side by side."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from shared.control.probe import SLICES_AT_ONCE
from shared.domain.messages import ProbeMessage
from shared.storage.base import Versioned
from tests.functional.world import World

EVERYTHING = ProbeMessage(
    instanceId="inst-7ZZZZZZZZZZZZZZZZZZZZZZZZZ", lastInstanceId="inst-00000000000000000000000000"
)


def test_a_slice_beyond_the_limit_is_not_even_read_until_another_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    reading: list[int] = []
    arrived, done = threading.Semaphore(0), threading.Event()

    def live(newest: str, oldest: str) -> Iterator[Versioned]:
        reading.append(1)
        arrived.release()
        assert done.wait(10)
        return iter(())

    monkeypatch.setattr(world.store, "live", live)
    with ThreadPoolExecutor(SLICES_AT_ONCE + 2) as pool:
        for _ in range(SLICES_AT_ONCE + 2):
            pool.submit(world.app.prober.run, EVERYTHING)
        for _ in range(SLICES_AT_ONCE):
            assert arrived.acquire(timeout=10)
        assert not arrived.acquire(timeout=0.2)
        done.set()
    assert len(reading) == SLICES_AT_ONCE + 2
