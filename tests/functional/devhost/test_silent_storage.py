"""The whole app under devhost while storage is silent: one sweep is lost, callers are answered, and all goes on.

The proxy before Azurite is silent in the worst way: whatever was asked meanwhile is never answered, even afterwards.
"""

import json
import re
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from bench import ours
from bench.processes import Server
from devhost import azurite

SILENT_SECONDS = 20.0
ANSWERED_WITHIN = 20.0
SWEPT_WITHIN = 60.0
SWEEP_SECONDS = 30.0


class Proxy:
    """Passes connections on to a port of this machine, except while it is `silent`."""

    def __init__(self, target: int) -> None:
        self.silent = False
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port: int = self._listener.getsockname()[1]
        self._open = [self._listener]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            far = socket.create_connection(("127.0.0.1", self._target))
            self._open += [near, far]
            for one, other in ((near, far), (far, near)):
                threading.Thread(target=self._copy, args=(one, other), daemon=True).start()

    def _copy(self, one: socket.socket, other: socket.socket) -> None:
        with suppress(OSError):
            while data := one.recv(65536):
                if self.silent:
                    return  # both ends stay open, and nothing comes any more
                other.sendall(data)
            other.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        for one in self._open:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()


class App:
    def __init__(self, server: Server, address: str, proxies: list[Proxy]) -> None:
        self.server, self.address, self.proxies = server, address, proxies

    def be_silent(self, silent: bool) -> None:
        for proxy in self.proxies:
            proxy.silent = silent

    def call(self, method: str, path: str, body: object = None) -> tuple[int, str, Any, float]:
        """Status, media type, body, and the seconds that it took."""
        request = urllib.request.Request(  # noqa: S310 - our own app
            self.address + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"X-Admin-Token": ours.TOKEN, "Content-Type": "application/json"},
        )
        begun = time.monotonic()
        try:
            answer = urllib.request.urlopen(request, timeout=120)  # noqa: S310 - our own app
        except urllib.error.HTTPError as error:
            answer = error
        with answer:
            text = answer.read()
        return int(answer.status or 0), answer.headers.get_content_type(), json.loads(text), time.monotonic() - begun

    def sweeps(self) -> list[float]:
        """When each sweep that walked over the records ended, Unix time."""
        text = self.server.log.read_text("utf-8", "replace")
        lines = re.findall(r"^(\S+ \S+),(\d+) INFO gpulaunch\.sweep: sweep: ", text, re.MULTILINE)
        return [datetime.fromisoformat(at).astimezone().timestamp() + int(part) / 1000 for at, part in lines]

    def wait_for_a_sweep(self, after: float, seconds: float) -> float:
        """When the first sweep after a time ended."""
        until = time.time() + seconds
        while time.time() < until:
            ended = [at for at in self.sweeps() if at > after]
            if ended:
                return ended[0]
            time.sleep(0.2)
        raise AssertionError(f"no sweep within {seconds:.0f} s; see {self.server.log.read_text('utf-8')[-3000:]}")


@pytest.fixture
def app(tmp_path: Path) -> Iterator[App]:
    storage = azurite.start(tmp_path / "azurite", kept=False)
    proxies = [Proxy(port) for port in storage.ports[1:]]
    environment = ours.environment(storage)
    connection = storage.connection_string
    for proxy, port in zip(proxies, storage.ports[1:], strict=True):
        connection = connection.replace(f":{port}/", f":{proxy.port}/")
    server, address = ours.start("app", environment | {"AzureWebJobsStorage": connection}, tmp_path)
    with server:
        yield App(server, address, proxies)
    for proxy in proxies:
        proxy.close()
    storage.stop()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_twenty_silent_seconds_should_cost_one_sweep_and_no_caller_more_than_that(app: App) -> None:
    app.wait_for_a_sweep(time.time(), 3 * SWEEP_SECONDS)
    assert app.call("POST", "/api/instances/launch", ours.SEED)[0] == 202
    # Silent from shortly before a sweep begins.
    time.sleep(max(0.0, SWEEP_SECONDS - 3 - time.time() % SWEEP_SECONDS))
    app.be_silent(True)
    begun = time.time()
    answers: dict[str, tuple[int, str, Any, float]] = {}

    def call(method: str, path: str, body: object = None) -> None:
        answers[path] = app.call(method, path, body)

    calls = [("POST", "/api/instances/launch", ours.SEED), ("GET", "/api/instances"), ("GET", "/api/health")]
    callers = [threading.Thread(target=call, args=one) for one in calls]
    for caller in callers:
        caller.start()
    time.sleep(SILENT_SECONDS - (time.time() - begun))
    app.be_silent(False)
    back = time.time()
    for caller in callers:
        caller.join()
    problem = (503, "application/problem+json")
    assert {path: (status, kind) for path, (status, kind, _, _) in answers.items()} == {
        "/api/instances/launch": problem,
        "/api/instances": problem,
        "/api/health": (503, "application/json"),
    }
    assert max(seconds for _, _, _, seconds in answers.values()) < ANSWERED_WITHIN
    ended = app.wait_for_a_sweep(back, SWEPT_WITHIN)
    assert ended - back < SWEPT_WITHIN
    status, _, launched, seconds = app.call("POST", "/api/instances/launch", ours.SEED)
    assert (status, seconds < ANSWERED_WITHIN) == (202, True)
    waits = {path: round(seconds, 1) for path, (_, _, _, seconds) in answers.items()}
    print(f"answers after {waits} s, a sweep {ended - back:.1f} s after the return")
    assert launched["phase"] == "queued"
