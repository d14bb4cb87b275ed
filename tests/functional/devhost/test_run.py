"""`make run` on a made-up project: the fixture app."""

import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from azure.core.exceptions import HttpResponseError
from azure.storage.queue import QueueServiceClient

from devhost.azurite import Azurite, free_ports
from devhost.run import stop

from .conftest import APP, PATIENCE, ROOT, wait_for


class Run:
    def __init__(self, root: Path, port: int, **environment: str) -> None:
        self.output = root / "output"
        self.output.unlink(missing_ok=True)
        script = "import sys; from pathlib import Path; from devhost.run import main; sys.exit(main(Path(sys.argv[1])))"
        settings = {"PYTHONPATH": str(ROOT), "PORT": str(port), "WORK_QUEUE": "work", "RESULTS": str(root / "results")}
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-c", script, str(root)], env={**os.environ, **settings, **environment},
                stdout=output, stderr=output, start_new_session=True,
            )  # fmt: skip

    @property
    def text(self) -> str:
        return self.output.read_text("utf-8")

    def ready(self) -> "Run":
        wait_for(lambda: "gpulaunch is ready" in self.text or self.process.poll() is not None, "the start")
        assert self.process.poll() is None, self.text
        return self

    def token(self) -> str:
        found = re.search(r"^Token: (\S+)$", self.text, re.MULTILINE)
        assert found, self.text
        return found[1]

    def stop(self) -> int:
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(PATIENCE)

    def child(self, word: str) -> int:
        """The process id of the child whose command line has the word."""
        text = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text("ascii")
        pids = [int(pid) for pid in text.split()]
        return next(pid for pid in pids if word in Path(f"/proc/{pid}/cmdline").read_text("utf-8"))


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Path]:
    for name in ("function_app.py", "host.json"):
        shutil.copy(APP / name, tmp_path / name)
    yield tmp_path


def test_a_run_should_print_address_and_token_and_a_second_one_continue(project: Path) -> None:
    (port,) = free_ports(1)
    first = Run(project, port).ready()
    token = first.token()
    assert f"gpulaunch is ready on http://localhost:{port}" in first.text
    assert f"curl -sS -X POST http://localhost:{port}/api/instances/launch -H 'X-Admin-Token: {token}'" in first.text
    assert first.text.splitlines()[-1] == f"Token: {token}"
    for name in ("admin-token", "master-key"):
        assert stat.S_IMODE((project / ".local" / name).stat().st_mode) == 0o600
    another = Run(project, *free_ports(1))
    assert another.process.wait(PATIENCE) == 1
    assert "another run uses" in another.text
    assert "`make stop` stops it" in another.text
    assert first.stop() == 0
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(f"http://127.0.0.1:{port}/api/health", timeout=1)

    second = Run(project, port).ready()
    assert second.token() == token
    assert (project / ".local" / "azurite").is_dir()
    assert second.stop() == 0


def test_a_given_token_should_be_used_and_not_be_kept(project: Path) -> None:
    given = "a-token-that-was-given"
    run = Run(project, *free_ports(1), GPULAUNCH_ADMIN_TOKENS=given, GPULAUNCH_MASTER_KEY=2 * given).ready()
    assert run.token() == given
    assert run.stop() == 0
    assert not (project / ".local" / "admin-token").exists()


@pytest.mark.parametrize(
    ("victim", "line"), [("azurite.js", "Azurite ended by itself"), ("--app", "the app ended by itself")]
)
def test_the_end_of_one_should_stop_the_other_with_a_word(project: Path, victim: str, line: str) -> None:
    run = Run(project, *free_ports(1)).ready()
    pids = {word: run.child(word) for word in ("azurite.js", "--app")}
    os.kill(pids[victim], signal.SIGKILL)
    assert run.process.wait(PATIENCE) == 1
    assert line in run.text
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids.values())


@pytest.mark.parametrize(("number", "status"), [(signal.SIGHUP, 0), (signal.SIGKILL, -signal.SIGKILL)])
def test_a_closed_terminal_or_a_kill_should_end_app_and_azurite_too(
    project: Path, number: signal.Signals, status: int
) -> None:
    run = Run(project, *free_ports(1)).ready()
    pids = [run.child(word) for word in ("azurite.js", "--app")]
    run.process.send_signal(number)
    assert run.process.wait(PATIENCE) == status
    wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids), "the end of app and Azurite")


def test_a_run_should_be_stopped_from_another_terminal(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = Run(project, *free_ports(1)).ready()
    assert stop(project) == 0
    assert run.process.wait(PATIENCE) == 0
    assert stop(project) == 0
    assert capsys.readouterr().out.splitlines() == ["Stopped.", "Nothing is running here."]


def test_another_clones_account_should_be_refused(storage: Azurite) -> None:
    other = storage.connection_string.replace(storage.account, "devstoreaccount1")
    with QueueServiceClient.from_connection_string(other) as service, pytest.raises(HttpResponseError) as refused:
        list(service.list_queues())
    assert refused.value.status_code in {403, 404}


def test_a_busy_port_should_be_one_clear_line(project: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        run = Run(project, taken.getsockname()[1])
        assert run.process.wait(PATIENCE) == 1
    assert run.text.strip().startswith("run: port ")
    assert "is in use" in run.text


def test_an_app_that_does_not_start_should_end_the_run(project: Path) -> None:
    (project / "function_app.py").write_text("import nowhere", "utf-8")
    run = Run(project, *free_ports(1))
    assert run.process.wait(PATIENCE) == 1
    assert "No module named 'nowhere'" in run.text
    assert run.text.splitlines()[-1] == "run: the app did not start; the end of its log is above"


def test_a_wrong_setting_of_the_app_should_be_one_clear_line(project: Path) -> None:
    run = Run(project, *free_ports(1), GPULAUNCH_ORCHESTRATOR="kube")
    assert run.process.wait(PATIENCE) == 1
    assert "run: GPULAUNCH_ORCHESTRATOR: Input should be" in run.text
    assert "Traceback" not in run.text
