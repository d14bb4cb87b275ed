"""What `make bench SECTIONS=ready` is made of, as far as it needs no root: the slow way, the wheels, the figures."""

import http.client
import http.server
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from math import inf
from pathlib import Path

import pytest

from bench import ready
from bench.processes import BenchError
from tests.e2e.stack.throttle import BURST_SECONDS, Bucket, Throttle
from tests.e2e.stack.wheels import write_wheel
from tests.e2e.timing.files import same_files
from tests.e2e.timing.installing import Bare, Ours, figures_of, read_stamps

BODY = bytes(range(256)) * 4096


def test_a_bucket_should_let_pass_its_rate_whoever_asks() -> None:
    bucket, now = Bucket(rate=100.0, burst_seconds=0.0), 5.0
    assert [bucket.take(count, now) for count in (100, 50, 50)] == [1.0, 1.5, 2.0]
    assert bucket.take(100, 6.0) == 2.0


def test_a_bucket_should_not_save_more_than_its_burst() -> None:
    bucket = Bucket(rate=100.0)
    bucket.take(100, 0.0)
    assert bucket.take(100, 1000.0) == pytest.approx(1.0 - BURST_SECONDS)


def test_a_bucket_without_a_limit_should_not_hold_anything_back() -> None:
    bucket = Bucket(rate=inf)
    assert [bucket.take(10**9, 1.0), bucket.take(10**9, 1.0)] == [0.0, 0.0]


class _Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(BODY)))
        self.end_headers()
        self.wfile.write(BODY)

    def log_message(self, format: str, *args: object) -> None:
        return


@pytest.fixture
def served() -> Iterator[int]:
    """The port of a server that answers BODY to everything."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


def ask(port: int) -> bytes:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", "/")
    body = connection.getresponse().read()
    connection.close()
    return body


def test_a_throttle_should_pass_on_what_it_gets_and_count_it(served: int) -> None:
    bucket = Bucket(rate=inf)
    taken: list[int] = []

    class Counting(Bucket):
        def take(self, count: int, now: float) -> float:
            taken.append(count)
            return bucket.take(count, now)

    with Throttle(served, Counting(inf)) as throttle:
        assert [ask(throttle.port), ask(throttle.port)] == [BODY, BODY]
    assert len(BODY) * 2 < sum(taken) < len(BODY) * 2 + 1000


def test_a_closed_throttle_should_answer_nobody(served: int) -> None:
    with Throttle(served, Bucket(inf)) as throttle:
        pass
    with pytest.raises(OSError, match="refused"):
        ask(throttle.port)


def test_a_wheel_of_requirements_should_be_one_that_pip_installs(tmp_path: Path) -> None:
    wheel = write_wheel(tmp_path, "vllm", "1.2.3+cpu", [])
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-index", "--target", tmp_path / "there", wheel]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    assert (tmp_path / "there" / "vllm-1.2.3+cpu.dist-info" / "METADATA").exists()


def test_a_wheel_of_requirements_should_name_them(tmp_path: Path) -> None:
    wheel = zipfile.ZipFile(write_wheel(tmp_path, "vllm", "1+cpu", ["torch==2+cpu", "six"]))
    metadata = wheel.read("vllm-1+cpu.dist-info/METADATA").decode()
    assert [line for line in metadata.splitlines() if line.startswith("Requires-Dist")] == [
        "Requires-Dist: torch==2+cpu",
        "Requires-Dist: six",
    ]


def test_stages_should_be_read_from_stamps_and_added_up() -> None:
    assert read_stamps("began 10.5\ninstalled 50.25\n") == {"began": 10.5, "installed": 50.25}
    bare = Bare(install=40, fetch=30, start=20)
    assert (bare.sum, bare.bound) == (90, 60)


@pytest.mark.parametrize(("ready", "met"), [(66.0, True), (66.1, False)])
def test_the_bound_should_be_of_the_longer_of_the_two_and_the_start(ready: float, met: bool) -> None:
    figures = figures_of([Bare(install=40, fetch=30, start=20)], [Ours(installed=50, fetched=30, ready=ready)], "", 0.0)
    (bound,) = (one for one in figures if one.target is not None)
    assert bound.value == pytest.approx(ready / 60)
    assert bound.met is met
    shown = {one.what.partition(": ")[2]: one.value for one in figures}
    assert shown["bare, sum"] == 90
    assert shown["ours / (longer of our two + bare's server start)"] == pytest.approx(ready / 70)


def test_folders_should_differ_when_a_file_does(tmp_path: Path) -> None:
    for folder in ("one", "other"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a").write_bytes(b"a")
    one, other = tmp_path / "one", tmp_path / "other"
    assert same_files(one, other, ["a"])
    (other / "a").write_bytes(b"b")
    assert not same_files(one, other, ["a"])
    assert not same_files(one, other, ["a", "b"])


def test_time_to_ready_should_not_be_measured_without_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ready.os, "geteuid", lambda: 1000)
    with pytest.raises(BenchError, match="as root"):
        ready.measure(launches=1, installations=1, fetches=1)
