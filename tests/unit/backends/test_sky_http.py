"""Calls to a SkyPilot server have a limit for the whole of them, whatever the server does."""

import socket
import threading
import time
from collections.abc import Callable

import pytest

from gpulaunch.deadlines import time_limit
from shared.backends.skypilot import http
from shared.backends.skypilot.client import SkyClient
from shared.domain.provider import ProviderUnavailableError
from tests.standins.stalled import DRIPPING_BODY, DRIPPING_HEADERS, stalled

LIMIT = 0.4


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "ANSWER_SECONDS", LIMIT)
    monkeypatch.setattr(http, "_CONNECT_SECONDS", LIMIT)


def seconds_of(act: Callable[[], object]) -> float:
    begun = time.monotonic()
    with pytest.raises(ProviderUnavailableError, match="did not answer in time"):
        act()
    return time.monotonic() - begun


@pytest.mark.parametrize(("at_once", "then"), [DRIPPING_BODY, DRIPPING_HEADERS], ids=["body", "headers"])
def test_an_answer_that_drips_should_be_left_in_time(at_once: bytes, then: bytes) -> None:
    with stalled(at_once, then) as url:
        client = SkyClient(url, "abcdef01")
        assert seconds_of(client.live_checks) < 3 * LIMIT
        assert client.health() == "waking"


def test_a_log_that_drips_should_be_left_in_time() -> None:
    with stalled(*DRIPPING_BODY) as url:
        assert seconds_of(lambda: SkyClient(url, "abcdef01").log("r1", 10)) < 3 * LIMIT


def test_a_name_that_is_looked_up_for_ever_should_be_left_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: time.sleep(2))  # pyright: ignore[reportUnknownArgumentType, reportUnknownLambdaType]
    assert seconds_of(lambda: SkyClient("http://sky.invalid", "abcdef01").live_checks()) < 3 * LIMIT


def test_calls_of_one_deadline_should_share_it() -> None:
    with stalled(*DRIPPING_BODY) as url, time_limit(1.5 * LIMIT):
        client = SkyClient(url, "abcdef01")
        assert seconds_of(client.live_checks) > 0.5 * LIMIT
        assert seconds_of(client.live_checks) < LIMIT
        assert seconds_of(client.live_checks) < 0.1 * LIMIT  # nothing is left


def test_calls_that_hang_for_ever_should_not_take_all_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "_WORKERS", 2)
    with stalled(*DRIPPING_BODY) as url:
        client = SkyClient(url, "abcdef01")
        for _ in range(4):
            assert seconds_of(client.live_checks) < 3 * LIMIT
        assert sum(thread.name == "within" for thread in threading.enumerate()) >= 2


def test_a_call_that_was_not_begun_should_keep_no_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "_WORKERS", 1)
    monkeypatch.setattr(http, "time_left", lambda: LIMIT)  # it is over a moment later
    client = SkyClient("http://127.0.0.1:9", "abcdef01")
    with time_limit(0):
        seconds_of(client.live_checks)
    with pytest.raises(ProviderUnavailableError, match="Cannot reach"):
        client.live_checks()


def test_an_error_of_the_call_should_be_the_callers() -> None:
    with pytest.raises(ProviderUnavailableError, match="Cannot reach"):
        SkyClient("http://127.0.0.1:9", "abcdef01").live_checks()
