"""The real API server, started by the image's own script: the token that admit.py makes is let in, nobody else is."""

import importlib.util
import os
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
import pytest
from pydantic import SecretStr

from devhost.azurite import free_ports, port_is_free
from shared.backends.skypilot.client import SkyClient, SkyCluster
from shared.domain.provider import ProviderUnavailableError
from tests.unit.infra.templates import INFRA

# Starting the server and importing SkyPilot twice takes about 40 s on two busy cores.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

USER = "67706c61"
_ADMIT = """
import sys, time
sys.path.insert(0, sys.argv[1])
import admit

class Memory:
    kept = None
    def read(self): return self.kept
    def write(self, token): self.kept = (token, time.time())

vault = Memory()
made = [admit.admit(vault, sys.argv[2], time.time())]
first = vault.kept[0]
made.append(admit.admit(vault, sys.argv[2], time.time()))
made.append(admit.admit(vault, sys.argv[2], time.time() + admit.RENEW_AFTER + 1))
print(made, first, vault.kept[0])
"""


@dataclass(frozen=True)
class Server:
    home: Path
    address: str
    environment: dict[str, str]

    def status(self, token: str | None) -> int:
        """What a caller from outside the container is answered."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return httpx.get(f"{self.address}/api/status", headers=headers, timeout=30).status_code


def _outside() -> str:
    """An address of this machine that is not loopback: SkyPilot trusts that one."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            pytest.skip("this machine has no address but loopback")
        return str(probe.getsockname()[0])


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    if importlib.util.find_spec("sky") is None:
        pytest.skip("SkyPilot is not installed")
    home = tmp_path_factory.mktemp("home")
    # SkyPilot's queue listens beside the server, on a port that follows from the server's.
    port = next(port for port in free_ports(20) if port_is_free(50000 + (11 + port - 46580) % 10000))
    environment = {
        "HOME": str(home),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "SKYPILOT_API_SERVER_LOCAL_PORT": str(port),
        "SKYPILOT_USER_ID": USER,
        "GPULAUNCH_TOKEN_VAULT": "https://vault.example",
    }
    with (home / "server.log").open("wb") as log:
        process = subprocess.Popen(
            ["/bin/bash", str(INFRA / "skypilot" / "start.sh")],
            env=environment, cwd=home, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    made = Server(home, f"http://{_outside()}:{port}", environment)
    try:
        _wait(f"{made.address}/api/health", process, home / "server.log")
        yield made
    finally:
        process.terminate()
        psutil.wait_procs([psutil.Process(process.pid)], timeout=5)
        # It takes half a minute to end by itself, and its workers have sessions of their own and outlive it.
        for left in _of(home):
            left.kill()
        process.wait()


def _of(home: Path) -> list[psutil.Process]:
    """Every process that was started with this home folder."""
    found: list[psutil.Process] = []
    for one in psutil.process_iter():
        try:
            if one.environ().get("HOME") == str(home):
                found.append(one)
        except (psutil.AccessDenied, psutil.NoSuchProcess):
            continue
    return found


def _wait(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    limit = time.monotonic() + 120
    while time.monotonic() < limit:
        assert process.poll() is None, log.read_text()[-2000:]
        try:
            if httpx.get(address, timeout=5).status_code == 200:
                return
        except httpx.HTTPError:
            pass
        time.sleep(1)
    raise AssertionError(log.read_text()[-2000:])


def _books(client: SkyClient) -> list[SkyCluster]:
    """The server's workers start after its door does: like the app, ask again."""
    limit = time.monotonic() + 120
    while True:
        try:
            return client.clusters(["no-such-cluster"])
        except ProviderUnavailableError:
            if time.monotonic() > limit:
                raise


def test_nobody_should_get_in_without_a_token(server: Server) -> None:
    assert server.status(None) == 401
    assert server.status("sky_made-up") == 401


def test_the_token_that_is_made_should_get_in_and_its_follower_too(server: Server) -> None:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(_ADMIT), str(INFRA / "skypilot"), USER],
        env=server.environment, capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip
    made, first, second = done.stdout.strip().splitlines()[-1].rsplit(" ", 2)
    assert made == "[True, False, True]"
    assert first != second
    assert [server.status(first), server.status(second)] == [200, 200]
    client = SkyClient(server.address, USER, SecretStr(second))
    try:
        # What a launch needs besides: a check of a cloud, a task that is looked at, the books, a teardown.
        client.validate({"resources": {"cpus": "2+"}, "run": "true"})
        assert client.requests_of("no-such-cluster") == []
        assert _books(client) == []
        assert client.check("azure")
        assert client.down("no-such-cluster")
    finally:
        client.close()


def test_no_process_should_be_started_for_what_is_not_used(server: Server) -> None:
    commands = [" ".join(process.cmdline()) for process in _of(server.home)]
    assert [one for one in commands if "sky" in one]
    assert not [one for one in commands if "sky.jobs.controller" in one]
