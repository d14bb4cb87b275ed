import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from azure.storage.queue import QueueClient, TextBase64EncodePolicy

from devhost import azurite
from devhost.azurite import Azurite, free_ports

ROOT = Path(__file__).resolve().parents[3]
APP = Path(__file__).resolve().parent / "app"
# A start takes 1-3 s on two cores, and many times that where others use them; nothing here waits for a fixed time.
PATIENCE = 90.0


def wait_for(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.02)


@pytest.fixture(scope="session")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Azurite]:
    running = azurite.start(tmp_path_factory.mktemp("azurite"))
    yield running
    running.stop()


class Host:
    """One devhost process on the fixture app; `queue` is its own."""

    def __init__(self, storage: Azurite, folder: Path, queue: str) -> None:
        (self.port,) = free_ports(1)
        self.results = folder / "results"
        self.output = folder / "output"
        self.queue_name = queue
        self._connection = storage.connection_string
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *arguments: str, storage: str | None = None) -> "Host":
        environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "AzureWebJobsStorage": storage or self._connection,
            "WORK_QUEUE": self.queue_name,
            "RESULTS": str(self.results),
        }
        command = [sys.executable, "-m", "devhost", "--app", str(APP), "--port", str(self.port), *arguments]
        with self.output.open("ab") as output:
            self.process = subprocess.Popen(command, env=environment, stdout=output, stderr=output, cwd=APP)
        wait_for(lambda: "host started" in self.text or self.exited, f"the start: {self.text}")
        assert not self.exited, self.text
        return self

    @property
    def exited(self) -> bool:
        return self.process is not None and self.process.poll() is not None

    @property
    def text(self) -> str:
        return self.output.read_text("utf-8") if self.output.exists() else ""

    def memory(self) -> int:
        """The most that host and worker have held so far, in bytes."""
        assert self.process is not None
        status = [Path(f"/proc/{pid}/status").read_text("ascii") for pid in (self.process.pid, self.worker)]
        peaks = [line.split()[1] for one in status for line in one.splitlines() if line.startswith("VmHWM:")]
        return sum(map(int, peaks)) * 1024

    @property
    def worker(self) -> int:
        """The process id of the worker that was started last."""
        return int(re.findall(r"worker (\d+) started", self.text)[-1])

    def stop(self, number: int = signal.SIGTERM) -> int:
        assert self.process is not None
        if not self.exited:
            self.process.send_signal(number)
        return self.process.wait(PATIENCE)

    def queue(self, suffix: str = "", *, encoded: bool = True) -> QueueClient:
        policy: Any = {"message_encode_policy": TextBase64EncodePolicy()} if encoded else {}
        return QueueClient.from_connection_string(self._connection, self.queue_name + suffix, **policy)

    def recorded(self, key: str) -> list[dict[str, Any]]:
        if not self.results.exists():
            return []
        entries = [json.loads(line) for line in self.results.read_text("utf-8").splitlines()]
        return [entry for entry in entries if key in entry]

    def get(self, path: str) -> bytes:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=PATIENCE) as response:
            return response.read()


@pytest.fixture
def host(storage: Azurite, tmp_path: Path) -> Iterator[Host]:
    one = Host(storage, tmp_path, f"work-{os.urandom(4).hex()}")
    yield one
    if one.process is not None and not one.exited:
        one.process.kill()
        one.process.wait()
