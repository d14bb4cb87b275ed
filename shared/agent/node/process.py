"""Child processes, file locks and ports."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

# Asks the kernel to signal it when its parent dies (PR_SET_PDEATHSIG), then becomes the command.
_CHILD = """
import os, sys
try:
    import ctypes
    ctypes.CDLL(None).prctl(1, int(sys.argv[2]), 0, 0, 0)
except (ImportError, OSError, AttributeError):
    pass
if os.getppid() != int(sys.argv[1]):
    os._exit(125)
try:
    os.execvp(sys.argv[3], sys.argv[3:])
except OSError as error:
    print(f"{sys.argv[3]}: {error}", flush=True)
    os._exit(127)
"""


class Child:
    """A process in its own group, its output in a file; it gets the signal `parting` when its starting thread ends."""

    def __init__(
        self,
        command: Sequence[str],
        environ: Mapping[str, str],
        log: Path,
        parting: int,
        cwd: Path,
        *,
        stdin: int = subprocess.DEVNULL,
    ) -> None:
        wrapper = [sys.executable, "-I", "-S", "-c", _CHILD, str(os.getpid()), str(int(parting)), *command]
        with log.open("ab") as output:
            self.process = subprocess.Popen(  # noqa: S603 - a list, no shell
                wrapper,
                env=dict(environ),
                stdin=stdin,
                stdout=output,
                stderr=output,
                start_new_session=True,
                cwd=cwd,
            )
        self.log = log

    def poll(self) -> int | None:
        return self.process.poll()

    def send_line(self, line: str) -> bool:
        """Write one line to its input and close it; return whether it could be written."""
        if self.process.stdin is None:
            return False
        try:
            with self.process.stdin as stdin:
                stdin.write(f"{line}\n".encode())
        except OSError:
            return False
        return True

    def signal_group(self, number: int) -> None:
        try:
            os.killpg(self.process.pid, number)
        except ProcessLookupError:
            return

    def stop(self, patience: float) -> int:
        """Terminate the group, kill it after so many seconds, and return the exit code."""
        if self.poll() is None:
            self.signal_group(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(patience)
        self.signal_group(signal.SIGKILL)
        return self.process.wait()


def size_of(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def lines_since(path: Path, start: int) -> list[str]:
    """What was written to a log since it had so many bytes; of more than 4 MiB the first and the last half."""
    half = 2 * 1024 * 1024
    try:
        with path.open("rb") as file:
            file.seek(start)
            begun = file.read(half)
            file.seek(max(file.tell(), size_of(path) - half))
            return (begun + file.read(half)).decode(errors="replace").splitlines()
    except OSError:
        return []


def tail(path: Path, lines: int = 200) -> list[str]:
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - 65536))
            return file.read().decode(errors="replace").splitlines()[-lines:]
    except OSError:
        return []


def try_lock(file: IO[str]) -> bool:
    """Lock an open file until it is closed; return whether that succeeded."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        # A file system without locks cannot tell: go on, the script that started the agent holds a lock too.
        return error.errno not in (errno.EAGAIN, errno.EACCES)
    return True


def port_is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("0.0.0.0", port))  # noqa: S104 - vLLM will listen there
        except OSError:
            return False
        return True


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("0.0.0.0", 0))  # noqa: S104 - vLLM will listen there
        return probe.getsockname()[1]
