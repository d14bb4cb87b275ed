"""Servers under measurement are put to sleep and ended with all they started, whatever those make of their names."""

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

from bench.processes import MARK, Server, resident_mib

# One child loses the mark, the other leaves the session and has a child there that loses the mark.
SCRIPT = """
import os, subprocess, time
subprocess.Popen(["sleep", "60"], env={})
subprocess.Popen(["sh", "-c", "env -i sleep 61 & sleep 62"], start_new_session=True)
print("up", flush=True)
time.sleep(60)
"""


def states(pids: list[int]) -> set[str]:
    return {Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] for pid in pids}


def soon(condition: Callable[[], bool]) -> bool:
    """Whether it comes true: signals take a moment."""
    deadline = time.monotonic() + 20
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    return condition()


def children(server: Server) -> list[int]:
    return server._pids()  # pyright: ignore[reportPrivateUsage] - what the test is about


def test_a_server_should_sleep_and_end_with_all_it_started(tmp_path: Path) -> None:
    with Server.start("server", [sys.executable, "-c", SCRIPT], {"PATH": os.environ["PATH"]}, tmp_path) as server:
        assert soon(lambda: len(children(server)) == 5)
        found = children(server)
        assert server.resident_mib() > 0
        server.pause()
        assert soon(lambda: states(found) == {"T"})
        server.resume()
        assert soon(lambda: "T" not in states(found))
    assert children(server) == []
    assert resident_mib(server.process.pid) == 0.0
    assert MARK not in os.environ
