"""Sessions that were ended: known everywhere until they would have expired."""

from datetime import timedelta

from shared.control.sessions import EndedSessions
from tests.twins.clock import START, ManualClock
from tests.twins.store import MemoryInstanceStore

HOUR = timedelta(hours=1)


def test_an_ended_session_should_stay_ended_until_it_would_have_expired() -> None:
    store, clock = MemoryInstanceStore(), ManualClock()
    sessions = EndedSessions(store, clock)
    generation = sessions.generation()
    sessions.end("one", START + HOUR)
    sessions.end("other", START + 2 * HOUR)
    elsewhere = EndedSessions(store, clock)
    assert [elsewhere.is_ended(nonce, generation, polling=False) for nonce in ("one", "other", "third")] == [
        True,
        True,
        False,
    ]


def test_it_should_be_forgotten_once_it_has_expired() -> None:
    store, clock = MemoryInstanceStore(), ManualClock()
    sessions = EndedSessions(store, clock)
    sessions.end("one", START + HOUR)
    clock.advance(3600)
    sessions.end("other", START + 2 * HOUR)
    assert not sessions.is_ended("one", sessions.generation(), polling=False)
    assert sessions.is_ended("other", sessions.generation(), polling=False)
