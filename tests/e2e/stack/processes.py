"""Start programs in process groups of their own, wait for conditions with a deadline, leave nothing behind.

Every process of a run carries the run's id in its environment, which children inherit through any number of
daemonisations: that is how leftovers are found without guessing by name.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

MARK = "E2E_RUN_OF_GPULAUNCH"


class StackError(Exception):
    """A part of the end-to-end environment can't be had, or did not come up in time; one clear line."""


def wait_until(condition: Callable[[], T | None], *, seconds: float, what: str, interval: float = 0.2) -> T:
    """Call `condition` every `interval` seconds until its result is true, and return that result.

    Raises StackError, naming `what`, when that takes longer than `seconds`.
    """
    deadline = time.monotonic() + seconds
    while True:
        result = condition()
        if result:
            return result
        if time.monotonic() >= deadline:
            raise StackError(f"waited {seconds:g} s in vain for {what}")
        time.sleep(interval)


def free_port() -> int:
    """A TCP port on the loopback interface that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def port_open(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def run(
    argv: Sequence[str | Path], *, env: Mapping[str, str] | None = None, seconds: float = 60, text: str | None = None
) -> str:
    """Run a short command with `text` as its input, return its output; StackError with the end of its errors."""
    command = [str(part) for part in argv]
    try:
        done = subprocess.run(
            command, env=env, input=text, capture_output=True, text=True, timeout=seconds, check=False
        )
    except FileNotFoundError as error:
        raise StackError(f"the program {command[0]!r} is not on this machine") from error
    except subprocess.TimeoutExpired as error:
        raise StackError(f"{' '.join(command)} took more than {seconds:g} s") from error
    if done.returncode != 0:
        said = (done.stderr.strip() or done.stdout.strip())[-2000:]
        raise StackError(f"{' '.join(command)} ended with {done.returncode}: {said}")
    return done.stdout


@dataclass
class Processes:
    """The processes of one run: `run_id` marks them, `logs` takes one file of output for each."""

    run_id: str
    logs: Path
    _started: list[subprocess.Popen[bytes]] = field(default_factory=list[subprocess.Popen[bytes]])

    def environment(self, extra: Mapping[str, str] | None = None) -> dict[str, str]:
        """The environment of this process with the run's mark and `extra`, less what would lead SkyPilot elsewhere."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("SKYPILOT_", "SLURM_"))}
        return {**kept, MARK: self.run_id, **(extra or {})}

    def start(
        self, name: str, argv: Sequence[str | Path], *, env: Mapping[str, str] | None = None, cwd: Path | None = None
    ) -> subprocess.Popen[bytes]:
        """Start `argv` in a session of its own with its output in `logs/<name>.log`.

        `env` is the whole environment without the mark; None stands for `environment()`.
        """
        self.logs.mkdir(parents=True, exist_ok=True)
        whole = self.environment() if env is None else {**env, MARK: self.run_id}
        with (self.logs / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                [str(part) for part in argv],
                env=whole,
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._started.append(process)
        return process

    def stop(self, process: subprocess.Popen[bytes], *, grace_seconds: float = 10) -> None:
        """End a process and its group: SIGTERM, then SIGKILL after `grace_seconds`. Harmless when it is gone."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(grace_seconds)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(10)

    def kill(self, process: subprocess.Popen[bytes]) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(10)

    def log(self, name: str, *, lines: int = 40) -> str:
        """The last `lines` lines that the process started as `name` has written."""
        path = self.logs / f"{name}.log"
        return "\n".join(path.read_text(errors="replace").splitlines()[-lines:]) if path.exists() else ""

    def last_words(self, name: str) -> str:
        """The last three lines of that log in one line, for an error message."""
        return " | ".join(self.log(name, lines=3).splitlines())

    def leftovers(self, *entries: str) -> dict[int, str]:
        """Process id and command line of every live process that carries this run's mark.

        `entries` (`NAME=value`) narrows the search to processes whose environment has these too.
        """
        wanted = [entry.encode() for entry in (f"{MARK}={self.run_id}", *entries)]
        found: dict[int, str] = {}
        for folder in Path("/proc").iterdir():
            if not folder.name.isdigit() or int(folder.name) == os.getpid():
                continue
            # A process may end between the listing and the reading of its files.
            with contextlib.suppress(FileNotFoundError, ProcessLookupError, PermissionError):
                environment = (folder / "environ").read_bytes().split(b"\0")
                if all(entry in environment for entry in wanted):
                    command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                    found[int(folder.name)] = command.strip()
        return found

    def sweep(self, *entries: str) -> dict[int, str]:
        """SIGKILL for all leftovers, until there are none; returns what was found first."""
        first = self.leftovers(*entries)

        def none_left() -> bool:
            left = self.leftovers(*entries)
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            return not left

        # Killed processes are gone within milliseconds; ten seconds leave room for a machine that swaps.
        wait_until(none_left, seconds=10, what="the end of all processes of this run")
        return first

    def close(self) -> dict[int, str]:
        """Stop everything that was started, last first, then sweep; returns what the sweep still found."""
        for process in reversed(self._started):
            self.stop(process)
        return self.sweep()
