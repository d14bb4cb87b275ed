"""Calls to a SkyPilot server have a limit for the whole of them, whatever the server does."""

import socket
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager

import pytest

from shared.backends.skypilot import http
from shared.backends.skypilot.client import SkyClient
from shared.backends.skypilot.http import time_limit
from shared.domain.provider import ProviderUnavailableError

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 400\r\n\r\n"
LIMIT = 0.4


@contextmanager
def dripping(at_once: bytes, then: bytes) -> Generator[str]:
    """A server that answers with some bytes at once and the others one by one; its address."""
    over = threading.Event()
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(0.05)

    def answer(connection: socket.socket) -> None:
        with connection:
            connection.recv(65536)
            connection.sendall(at_once)
            for byte in then:
                if over.wait(0.05):
                    return
                connection.sendall(bytes([byte]))

    def serve() -> None:
        while not over.is_set():
            try:
                connection, _ = listener.accept()
            except TimeoutError:
                continue
            threading.Thread(target=answer, args=(connection,), daemon=True).start()

    server = threading.Thread(target=serve)
    server.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        over.set()
        server.join()
        listener.close()


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "ANSWER_SECONDS", LIMIT)
    monkeypatch.setattr(http, "_CONNECT_SECONDS", LIMIT)


def seconds_of(act: Callable[[], object]) -> float:
    begun = time.monotonic()
    with pytest.raises(ProviderUnavailableError, match="did not answer in time"):
        act()
    return time.monotonic() - begun


@pytest.mark.parametrize(("at_once", "then"), [(HEAD, b" " * 400), (b"", HEAD * 9)], ids=["body", "headers"])
def test_an_answer_that_drips_should_be_left_in_time(at_once: bytes, then: bytes) -> None:
    with dripping(at_once, then) as url:
        client = SkyClient(url, "abcdef01")
        assert seconds_of(client.live_checks) < 3 * LIMIT
        assert client.health() == "waking"


def test_a_log_that_drips_should_be_left_in_time() -> None:
    with dripping(HEAD, b" " * 400) as url:
        assert seconds_of(lambda: SkyClient(url, "abcdef01").log("r1", 10)) < 3 * LIMIT


def test_a_name_that_is_looked_up_for_ever_should_be_left_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: time.sleep(2))  # pyright: ignore[reportUnknownArgumentType, reportUnknownLambdaType]
    assert seconds_of(lambda: SkyClient("http://sky.invalid", "abcdef01").live_checks()) < 3 * LIMIT


def test_calls_of_one_deadline_should_share_it() -> None:
    with dripping(HEAD, b" " * 400) as url, time_limit(1.5 * LIMIT):
        client = SkyClient(url, "abcdef01")
        assert seconds_of(client.live_checks) > 0.5 * LIMIT
        assert seconds_of(client.live_checks) < LIMIT
        assert seconds_of(client.live_checks) < 0.1 * LIMIT  # nothing is left


def test_calls_that_hang_for_ever_should_not_take_all_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "_WORKERS", 2)
    with dripping(HEAD, b" " * 400) as url:
        client = SkyClient(url, "abcdef01")
        for _ in range(4):
            assert seconds_of(client.live_checks) < 3 * LIMIT
        assert sum(thread.name == "within" for thread in threading.enumerate()) >= 2


def test_an_error_of_the_call_should_be_the_callers() -> None:
    with pytest.raises(ProviderUnavailableError, match="Cannot reach"):
        SkyClient("http://127.0.0.1:9", "abcdef01").live_checks()
