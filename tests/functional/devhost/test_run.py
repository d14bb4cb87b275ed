"""`make run` on a made-up project: the fixture app."""

import fcntl
import os
import re
import resource
import shutil
import signal
import socket
import stat
import subprocess
import sys
import termios
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest
from azure.core.exceptions import HttpResponseError
from azure.storage.queue import QueueServiceClient

from devhost.azurite import Azurite, free_ports
from devhost.run import stop
from shared.queues import LAUNCHES

from .conftest import APP, PATIENCE, ROOT, wait_for

STARTED: list[subprocess.Popen[bytes]] = []
SCRIPT = "import sys; from pathlib import Path; from devhost.run import main; sys.exit(main(Path(sys.argv[1])))"


def environment_of(root: Path, port: int | str | None, more: dict[str, str]) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if name != "MAKELEVEL"}
    settings = {
        "PYTHONPATH": str(ROOT),
        "PORT": str(port or ""),
        "WORK_QUEUE": "work",
        "RESULTS": str(root / "results"),
    }
    return {**inherited, **settings, **more}


class Run:
    """`make run` on a project, in a session of its own: on a terminal, or below a parent that stands for `make`."""

    def __init__(
        self, root: Path, port: int | str | None, *, terminal: int | None = None, under: str = "", **more: str
    ) -> None:
        self.output = root / "output"
        self.output.unlink(missing_ok=True)
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-c", *([under] if under else []), SCRIPT, str(root)],
                env=environment_of(root, port, more), stdin=terminal, stdout=output, stderr=output,
                start_new_session=True,
                preexec_fn=None if terminal is None else partial(fcntl.ioctl, terminal, termios.TIOCSCTTY, 0),  # noqa: PLW1509
            )  # fmt: skip
        STARTED.append(self.process)

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

    def part(self, word: str) -> int:
        """The process id of the part whose command line has the word; "watcher" and "run" are the run's own two."""
        (run,) = children(self.process.pid)
        own = {"watcher": self.process.pid, "run": run}
        return own.get(word) or next(pid for pid in children(run) if word in command_of(pid))


def children(pid: int) -> list[int]:
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii").split()]


def command_of(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_text("utf-8")


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def detached(project: Path) -> int:
    """The process id of a server that the app started and detached, as SkyPilot does with its own."""
    path = project / "detached"
    wait_for(lambda: path.exists() and path.read_text("ascii"), "the detached server")
    return int(path.read_text("ascii"))


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Path]:
    for name in ("function_app.py", "host.json"):
        shutil.copy(APP / name, tmp_path / name)
    yield tmp_path
    for process in STARTED:
        process.kill()
        process.wait()
    STARTED.clear()


def test_a_run_should_print_address_and_token_and_a_second_one_continue(project: Path) -> None:
    (port,) = free_ports(1)
    first = Run(project, port).ready()
    token = first.token()
    assert f"gpulaunch is ready on http://localhost:{port}" in first.text
    assert f"curl -sS -X POST http://localhost:{port}/api/instances/launch -H 'X-Admin-Token: {token}'" in first.text
    assert first.text.splitlines()[-1] == f"Token: {token}"
    for name in ("admin-token", "master-key"):
        assert stat.S_IMODE((project / ".local" / name).stat().st_mode) == 0o600
    wait_for(lambda: "does not exist yet" in (project / ".local" / "app.log").read_text("utf-8"), "the listener")
    another = Run(project, *free_ports(1))
    assert another.process.wait(PATIENCE) == 1
    assert "another run uses" in another.text
    assert "`make stop` stops it" in another.text
    assert first.stop() == 0
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(f"http://127.0.0.1:{port}/api/health", timeout=1)

    # The app's queues are made before anything listens to them; of this app's own one nothing knows.
    second = Run(project, port, WORK_QUEUE=LAUNCHES).ready()
    assert second.token() == token
    log = project / ".local" / "app.log"
    wait_for(lambda: "timer 'tick' ran" in log.read_text("utf-8"), "the timer")
    assert "does not exist yet" not in log.read_text("utf-8")
    assert (project / ".local" / "azurite").is_dir()
    assert second.stop() == 0


def test_a_given_token_should_be_used_and_not_be_kept(project: Path) -> None:
    given = "a-token-that-was-given"
    run = Run(project, *free_ports(1), GPULAUNCH_ADMIN_TOKENS=given, GPULAUNCH_MASTER_KEY=2 * given).ready()
    assert run.token() == given
    assert run.stop() == 0
    assert not (project / ".local" / "admin-token").exists()


PARTS = ("watcher", "run", "azurite.js", "--app")


@pytest.mark.parametrize(
    ("victim", "number", "status", "line"),
    [
        ("azurite.js", signal.SIGKILL, 1, "Azurite ended by itself"),
        ("--app", signal.SIGKILL, 1, "the app ended by itself"),
        ("watcher", signal.SIGKILL, -signal.SIGKILL, "Stopped."),
        ("run", signal.SIGKILL, 128 + signal.SIGKILL, ""),
    ],
)
def test_however_a_part_ends_nothing_should_be_left(
    project: Path, victim: str, number: signal.Signals, status: int, line: str
) -> None:
    """Not even a server that the app started and that left its session and its parent."""
    run = Run(project, *free_ports(1), DETACHED=str(project / "detached")).ready()
    pids = {word: run.part(word) for word in PARTS} | {"detached": detached(project)}
    assert all(map(alive, pids.values()))
    os.kill(pids[victim], number)
    assert run.process.wait(PATIENCE) == status
    wait_for(lambda: not any(map(alive, pids.values())), "the end of all")
    assert line in run.text
    assert "Traceback" not in run.text


MAKE = (
    "import os, signal, subprocess, sys; signal.signal(signal.SIGHUP, lambda *_: None)\n"
    "sys.exit(subprocess.run([sys.executable, '-c', *sys.argv[1:]], check=False).returncode)"
)
"""It is sent a SIGHUP by the terminal that it is the first process of, and waits for what it started."""


@pytest.mark.parametrize("end", ["ctrl-c", "close"])
def test_a_ctrl_c_and_a_closed_terminal_should_end_all(project: Path, end: str) -> None:
    terminal, side = os.openpty()
    run = Run(project, *free_ports(1), terminal=side, under=MAKE if end == "close" else "").ready()
    os.close(side)
    watcher = run.process.pid if end == "ctrl-c" else children(run.process.pid)[0]
    pids = [watcher, *children(watcher), *children(children(watcher)[0])]
    if end == "ctrl-c":
        os.write(terminal, b"\x03")
        assert run.process.wait(PATIENCE) == 0
    os.close(terminal)
    assert run.process.wait(PATIENCE) == 0
    wait_for(lambda: not any(map(alive, pids)), "the end of all")


def test_a_killed_make_should_end_its_run(project: Path) -> None:
    run = Run(project, *free_ports(1), under=MAKE, MAKELEVEL="1").ready()
    (watcher,) = children(run.process.pid)
    (own,) = children(watcher)
    pids = [watcher, own, *children(own)]
    run.process.kill()
    wait_for(lambda: not any(map(alive, pids)), "the end of all")


def test_two_clones_should_run_at_once_on_ports_and_accounts_of_their_own(project: Path, tmp_path: Path) -> None:
    other = tmp_path / "a folder with spaces"
    other.mkdir()
    for name in ("function_app.py", "host.json"):
        shutil.copy(APP / name, other / name)
    with socket.socket() as app, socket.socket() as gateway:
        for taken, port in ((app, 7071), (gateway, 7072)):
            # Another run's perhaps; then it is taken as well.
            with suppress(OSError):
                taken.bind(("127.0.0.1", port))
                taken.listen()
        runs = {folder: Run(folder, None) for folder in (project, other)}
        addresses = dict[str, Path]()
        for folder, run in runs.items():
            run.ready()
            # Where the command finds it.
            address = (folder / ".local" / "address").read_text("ascii").strip()
            assert f"gpulaunch is ready on {address};" in run.text
            addresses[address] = folder
    assert len(addresses) == 2
    assert "http://localhost:7071" not in addresses
    accounts = [(folder / ".local" / "azurite" / "account").read_text("ascii") for folder in runs]
    assert accounts[0] != accounts[1]
    assert "devstoreaccount1" not in "".join(accounts)
    assert [run.stop() for run in runs.values()] == [0, 0]
    assert not any((folder / ".local" / "address").exists() for folder in runs)


def test_a_proxy_should_not_be_asked_for_what_is_on_this_machine(project: Path) -> None:
    """A company's proxy knows another localhost; this one refuses, and counts who comes."""
    with socket.socket() as proxy:
        proxy.bind(("127.0.0.1", 0))
        proxy.listen()
        proxy.setblocking(False)
        address = f"http://127.0.0.1:{proxy.getsockname()[1]}"
        names = ("HTTP_PROXY", "https_proxy", "ALL_PROXY", "http_proxy")
        run = Run(project, *free_ports(1), **dict.fromkeys(names, address), NO_PROXY="corp.test").ready()
        wait_for(lambda: "does not exist yet" in (project / ".local" / "app.log").read_text("utf-8"), "storage")
        with pytest.raises(BlockingIOError):
            proxy.accept()
        assert run.stop() == 0


@pytest.mark.parametrize("name", ["ALL_PROXY", "https_proxy"])
def test_a_proxy_that_cannot_be_used_should_be_one_clear_line(project: Path, name: str) -> None:
    run = Run(project, *free_ports(1), **{name: "socks5h://127.0.0.1:1080"})
    assert run.process.wait(PATIENCE) == 1
    assert run.text.startswith(f"run: {name} is a SOCKS proxy")
    assert len(run.text.splitlines()) == 1


@pytest.mark.parametrize("port", ["0", "65536", "seven", "²", "-1"])
def test_a_wrong_port_should_be_one_clear_line(project: Path, port: str) -> None:
    run = Run(project, port)
    assert run.process.wait(PATIENCE) == 1
    assert run.text.startswith(f"run: PORT='{port}' is not a port")


def test_a_folder_that_cannot_be_written_should_be_one_clear_line(project: Path) -> None:
    (project / ".local").write_text("in the way", "ascii")
    run = Run(project, *free_ports(1))
    assert run.process.wait(PATIENCE) == 1
    assert run.text.startswith(f"run: {project / '.local'}: File exists")
    assert len(run.text.splitlines()) == 1


def test_a_full_disk_should_be_one_clear_line_and_leave_no_half_of_a_secret(project: Path) -> None:
    (port,) = free_ports(1)
    ended = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(project)], env=environment_of(project, port, {}), text=True,
        capture_output=True, timeout=PATIENCE, check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0)),
    )  # fmt: skip
    assert ended.returncode == 1
    assert ended.stderr == "run: File too large; everything is stopped\n"
    assert not (project / ".local" / "azurite" / "account").exists()
    run = Run(project, *free_ports(1)).ready()
    assert run.stop() == 0


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
