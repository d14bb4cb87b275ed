"""Two API servers never have one database at the same time: with a real Postgres, where one is installed."""

import os
import pwd
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from devhost.azurite import free_ports
from tests.unit.infra.templates import INFRA

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

SCRIPT = """
"$PYTHON" "$ALONE" "$$" "$READY" &
until [[ -f "$READY" ]]; do kill -0 "$!" || exit 1; sleep 0.1; done
exec sleep 1000
"""
"""As start.sh does it, with another server."""


def _programs() -> Path | None:
    found = shutil.which("initdb")
    if found:
        return Path(found).resolve().parent
    return next(iter(sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)), None)


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    programs = _programs()
    if programs is None:
        pytest.skip("no Postgres on the PATH or in /usr/lib/postgresql")
    folder = tmp_path_factory.mktemp("postgres")
    user: dict[str, Any] = {}
    if os.getuid() == 0:  # Postgres does not run as root
        try:
            account = pwd.getpwnam("postgres")
        except KeyError:
            pytest.skip("Postgres does not run as root, and there is no user `postgres`")
        user = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
        os.chown(folder, account.pw_uid, account.pw_gid)
        for parent in list(folder.parents)[:3]:
            parent.chmod(parent.stat().st_mode | 0o011)
    (port,) = free_ports(1)
    data = folder / "data"
    made = [str(programs / "initdb"), "-D", str(data), "-U", "postgres", "-A", "trust", "--no-sync"]
    subprocess.run(made, check=True, capture_output=True, cwd=folder, timeout=60, **user)
    command = [str(programs / "postgres"), "-D", str(data), "-p", str(port), "-k", str(folder), "-F"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder, **user)
    uri = f"postgresql://postgres@127.0.0.1:{port}/postgres"
    try:
        _until(lambda: _ask(uri, "SELECT 1") is not None, "the database")
        yield uri
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(20)


def _ask(uri: str, question: str) -> Any:
    import psycopg2

    try:
        connection: Any = psycopg2.connect(uri)
    except psycopg2.OperationalError:
        return None
    try:
        with connection.cursor() as cursor:
            cursor.execute(question)
            return cursor.fetchone()
    finally:
        connection.close()


def _until(condition: Callable[[], object], what: str) -> None:
    until = time.monotonic() + 40
    while not condition():
        assert time.monotonic() < until, f"waited in vain for {what}"
        time.sleep(0.05)


@dataclass
class Server:
    process: subprocess.Popen[bytes]
    ready: Path
    address: str

    def kill(self) -> None:
        """End a container at once, with all that is in it."""
        if self.process.poll() is None:
            for one in psutil.Process(self.process.pid).children(recursive=True):
                one.kill()
        self.process.kill()
        self.process.wait()


@pytest.fixture
def start(tmp_path: Path, database: str) -> Iterator[Callable[[str], Server]]:
    started: list[Server] = []

    def begin(name: str) -> Server:
        (port,) = free_ports(1)
        own = {
            "PYTHON": sys.executable,
            "ALONE": str(INFRA / "skypilot" / "alone.py"),
            "READY": str(tmp_path / name),
            "PATH": "/usr/bin:/bin",
            "SKYPILOT_DB_CONNECTION_URI": database,
            "SKYPILOT_API_SERVER_LOCAL_PORT": str(port),
        }
        process = subprocess.Popen(["/bin/bash", "-c", SCRIPT], env=own, stderr=subprocess.DEVNULL)
        started.append(Server(process, tmp_path / name, f"http://127.0.0.1:{port}"))
        return started[-1]

    yield begin
    for server in started:
        server.kill()


def _status(address: str, path: str) -> int:
    try:
        return httpx.get(address + path).status_code
    except httpx.TransportError:
        return 0


def test_a_second_server_should_wait_and_answer_the_probes_until_the_first_ends(start: Callable[[str], Server]) -> None:
    first = start("first")
    _until(first.ready.exists, "the first server")
    second = start("second")
    _until(lambda: _status(second.address, "/api/health") == 200, "an answer to the probes")
    assert httpx.get(f"{second.address}/api/health").json() == {"status": "waking"}
    assert _status(second.address, "/launch") == 503
    assert not second.ready.exists()
    assert first.process.poll() is None
    first.kill()
    _until(second.ready.exists, "the second server")
    # The port is the server's now.
    assert _status(second.address, "/api/health") == 0
    assert second.process.poll() is None


def test_a_server_that_has_lost_the_lock_should_end(start: Callable[[str], Server], database: str) -> None:
    server = start("server")
    _until(server.ready.exists, "the server")
    assert _ask(database, "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'") == (True,)
    server.process.wait(40)
    assert server.process.returncode == -signal.SIGTERM


def test_a_database_that_comes_late_should_be_waited_for(tmp_path: Path) -> None:
    port, closed = free_ports(2)
    own = {
        "PYTHON": sys.executable,
        "ALONE": str(INFRA / "skypilot" / "alone.py"),
        "READY": str(tmp_path / "ready"),
        "PATH": "/usr/bin:/bin",
        "SKYPILOT_DB_CONNECTION_URI": f"postgresql://postgres@127.0.0.1:{closed}/postgres",
        "SKYPILOT_API_SERVER_LOCAL_PORT": str(port),
    }
    process = subprocess.Popen(["/bin/bash", "-c", SCRIPT], env=own, stderr=subprocess.DEVNULL)
    server = Server(process, tmp_path / "ready", f"http://127.0.0.1:{port}")
    try:
        _until(lambda: _status(server.address, "/api/health") == 200, "an answer to the probes")
        assert not server.ready.exists()
    finally:
        server.kill()


def test_the_script_should_wait_before_it_uses_the_database() -> None:
    text = (INFRA / "skypilot" / "start.sh").read_text("utf-8")
    order = [text.index(part) for part in ("alone.py", "az login", "admit.py", "exec sky api start")]
    assert order == sorted(order)
    assert "alone.py" in (INFRA / "skypilot" / "Dockerfile").read_text("utf-8")
