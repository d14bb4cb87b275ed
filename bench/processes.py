"""Servers under measurement: started, put to sleep while others are measured, ended with all they started."""

import contextlib
import os
import secrets
import signal
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

MARK = "BENCH_SERVER_OF_GPULAUNCH"
"""In the environment of a server and of whatever it starts: that is how its processes are found."""


class BenchError(Exception):
    """Something that is to be measured does not come up; one line."""


def run(command: Sequence[str | Path], *, seconds: float = 900) -> str:
    """Output of a program. Raises BenchError with the end of its errors."""
    ended = subprocess.run(  # noqa: S603 - our own commands
        [str(part) for part in command], capture_output=True, text=True, check=False, timeout=seconds
    )
    if ended.returncode != 0:
        raise BenchError(f"{command[0]} failed: {ended.stderr.strip()[-500:]}")
    return ended.stdout


@dataclass
class Server:
    """A running server; a context manager that ends it."""

    name: str
    process: subprocess.Popen[bytes]
    mark: str
    log: Path
    _sessions: set[int] = field(default_factory=set[int])
    """Of its processes, also of those that can't be recognised any more."""

    @classmethod
    def start(cls, name: str, command: Sequence[str | Path], env: Mapping[str, str], folder: Path) -> "Server":
        """Start it with its output in `folder`/`name`.log."""
        mark = f"{name}-{secrets.token_hex(8)}"
        log = folder / f"{name}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(  # noqa: S603 - our own commands
                [str(part) for part in command],
                env={**env, MARK: mark},
                cwd=env.get("PWD"),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        return cls(name, process, mark, log, {process.pid})

    def wait_healthy(self, url: str, seconds: float) -> None:
        """Wait until an address answers with 200. Raises BenchError with the end of the log."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and self.process.poll() is None:
            with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310 - our own address
                if answer.status == 200:
                    return
            time.sleep(0.2)
        raise BenchError(f"{self.name} did not come up at {url}: {self.log.read_text('utf-8', 'replace')[-800:]}")

    def pause(self) -> None:
        """Let it use no processor time until `resume`."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        self._signal(signal.SIGCONT)

    def resident_mib(self) -> float:
        """Resident memory of all its processes, MiB; what they share counts once for each."""
        return sum(resident_mib(pid) for pid in self._pids())

    def processor_seconds(self) -> float:
        """Processor time of all its processes that live, and of their children that have ended."""
        ticks = 0
        for pid in self._pids():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                fields = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()
                ticks += sum(map(int, fields[11:15]))  # in user and system mode, its own and its children's
        return ticks / os.sysconf("SC_CLK_TCK")

    def __enter__(self) -> "Server":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """End it and all it started; what does not end in ten seconds is killed."""
        self.resume()
        self._signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(10)
        for _ in range(20):
            if not self._pids():
                return
            self._signal(signal.SIGKILL)
            time.sleep(0.1)

    def _signal(self, number: signal.Signals) -> None:
        for pid in self._pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def _pids(self) -> list[int]:
        self.process.poll()
        wanted = f"{MARK}={self.mark}".encode()
        running = list(_processes())
        # SkyPilot's server has a session of its own, and its workers write their names over their environment.
        self._sessions.update(session for _, session, environ in running if wanted in environ.split(b"\0"))
        return [pid for pid, session, _ in running if session in self._sessions]


def resident_mib(pid: int, what: str = "VmRSS") -> float:
    """Resident memory of a process in MiB; with `VmHWM` the most it ever had. 0 when it is gone."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for line in Path(f"/proc/{pid}/status").read_text("ascii").splitlines():
            if line.startswith(f"{what}:"):
                return int(line.split()[1]) / 1024
    return 0.0


def _processes() -> Iterator[tuple[int, int, bytes]]:
    """Id, session and environment of every process that lives."""
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError, PermissionError):
                # The program's name, in brackets, may hold anything; state, parent, group and session follow it.
                state, _, _, session = (folder / "stat").read_text("utf-8", "replace").rpartition(")")[2].split()[:4]
                if state != "Z":
                    yield int(folder.name), int(session), (folder / "environ").read_bytes()
