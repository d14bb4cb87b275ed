"""What several suites share: a real Azurite, started once per test process."""

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

AZURITE = Path(__file__).parent.parent / "node_modules" / "azurite" / "dist" / "src" / "azurite.js"
_ACCOUNT = "devstoreaccount1"
_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
_START_SECONDS = 60.0
"""Node needs about a second; a machine busy with other tests much longer."""
_TRIES = 3
"""A port that was free may be taken by another test process before Azurite binds it."""


@dataclass(frozen=True)
class Azurite:
    """A running Azurite."""

    queue_port: int
    table_port: int
    blob_port: int

    @property
    def connection(self) -> str:
        """Its connection string."""
        return (
            f"DefaultEndpointsProtocol=http;AccountName={_ACCOUNT};AccountKey={_KEY};"
            f"BlobEndpoint=http://127.0.0.1:{self.blob_port}/{_ACCOUNT};"
            f"QueueEndpoint=http://127.0.0.1:{self.queue_port}/{_ACCOUNT};"
            f"TableEndpoint=http://127.0.0.1:{self.table_port}/{_ACCOUNT};"
        )


def free_ports(count: int) -> list[int]:
    """Ports of this machine that nobody listens on at the moment, all different."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in sockets]
    finally:
        for one in sockets:
            one.close()


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def _start(node: str, folder: Path) -> tuple[subprocess.Popen[bytes], Azurite] | None:
    """Start it; None when it ended at once or does not listen in time."""
    blob, queue, table = free_ports(3)
    command = [node, str(AZURITE), "--silent", "--skipApiVersionCheck", "--disableTelemetry", "--inMemoryPersistence"]
    command += ["--blobPort", str(blob), "--queuePort", str(queue), "--tablePort", str(table)]
    with (folder / "azurite.log").open("ab") as log:
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=subprocess.STDOUT)
    until = time.monotonic() + _START_SECONDS
    while time.monotonic() < until and process.poll() is None:
        if all(_answers(port) for port in (blob, queue, table)):
            return process, Azurite(queue, table, blob)
        time.sleep(0.05)
    process.kill()
    process.wait()
    return None


@pytest.fixture(scope="session")
def azurite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Azurite]:
    """An Azurite of this test process, with nothing in it, gone at the end."""
    node = shutil.which("node")
    if node is None or not AZURITE.exists():
        pytest.fail("Azurite is missing: run `npm ci` (Node.js is needed)")
    folder = tmp_path_factory.mktemp("azurite")
    for _ in range(_TRIES):
        started = _start(node, folder)
        if started is not None:
            break
    else:
        pytest.fail(f"Azurite did not start: {(folder / 'azurite.log').read_text()[-2000:]}")
    process, running = started
    yield running
    process.terminate()
    try:
        process.wait(timeout=10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
