"""Fetching alone: the agent's fetcher against one `curl` for each file, all at once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from bench.ready.same_files import same_files
from bench.results import Figure, figure, ratios
from tests.e2e.stack.azurite import ROOT
from tests.e2e.stack.processes import Processes, StackError, free_port, port_open, run, wait_until
from tests.e2e.stack.throttle import Bucket, Throttle

SECTION = "ready"
FILES = 4
MIB = 2**20
UNLIMITED_BYTES = 256 * MIB
"""Of each file: a second's worth, where processes start in hundredths."""
LIMITED_BYTES = 64 * MIB
LIMIT = 40 * MIB
"""Bytes per second, for all connections together."""
PATIENCE_SECONDS = 120
"""Seven seconds are due."""


def measure(processes: Processes, *, rounds: int) -> list[Figure]:
    """Both in alternation, from a server that is as fast as this machine and from one that is limited in rate.

    Raises StackError when files differ, or a program fails.
    """
    # In memory where there is such a folder: what is compared is the network's side, not a disk's mood.
    memory = Path("/dev/shm")  # noqa: S108 - a private folder is made in it
    with tempfile.TemporaryDirectory(prefix="gpulaunch-fetch-", dir=memory if memory.is_dir() else None) as name:
        folder = Path(name)
        port = free_port()
        (folder / "served").mkdir()
        server = processes.start(
            "files",
            [sys.executable, "-m", "bench.ready.file_server", folder / "served", str(port)],
            cwd=ROOT,
        )
        try:
            wait_until(lambda: port_open(port), seconds=60, what="the file server")
            fast = _compare(folder, f"http://127.0.0.1:{port}", UNLIMITED_BYTES, rounds)
            with Throttle(port, Bucket(LIMIT)) as slow:
                limited = _compare(folder, slow.endpoint, LIMITED_BYTES, rounds)
        finally:
            processes.stop(server)
    return [
        *_figures("unlimited", UNLIMITED_BYTES, fast, "aiohttp's sendfile from and to memory"),
        *_figures(f"{LIMIT // MIB} MiB/s", LIMITED_BYTES, limited, "all connections through one token bucket"),
    ]


def _figures(way: str, size: int, seconds: tuple[list[float], list[float]], note: str) -> list[Figure]:
    note = f"{FILES} files of {size // MIB} MiB; {note}; load average {os.getloadavg()[0]:.1f}"
    ours, curl = ([FILES * size / MIB / one for one in each] for each in seconds)
    return [
        figure(SECTION, f"fetching, {way}: ours", ours, "MiB/s", better="higher", note=note),
        figure(SECTION, f"fetching, {way}: a curl per file", curl, "MiB/s", better="higher", note=note),
        figure(
            SECTION, f"fetching, {way}: ours / curl", ratios(ours, curl), "x", target=0.9, better="higher", note=note
        ),
    ]


def _compare(folder: Path, base: str, size: int, rounds: int) -> tuple[list[float], list[float]]:
    names = [f"{size // MIB}-{number}.bin" for number in range(FILES)]
    for name in names:
        (folder / "served" / name).write_bytes(os.urandom(size))
    ways: list[Callable[[str, Path, Sequence[str], int], float]] = [fetch_by_agent, fetch_by_curl]
    seconds: tuple[list[float], list[float]] = ([], [])
    for number in range(rounds + 1):
        # Who goes first changes from round to round; the first round warms caches and counts for nobody.
        for which in (0, 1) if number % 2 else (1, 0):
            with tempfile.TemporaryDirectory(dir=folder) as target:
                took = ways[which](base, Path(target), names, size)
                if not same_files(folder / "served", Path(target), names):
                    raise StackError("what was fetched is not what was served")
            if number:
                seconds[which].append(took)
    for name in names:
        (folder / "served" / name).unlink()
    return seconds


def fetch_by_agent(base: str, target: Path, names: Sequence[str], size: int) -> float:
    """Seconds that the agent's fetcher takes, in a process of its own; Python's start is not in it."""
    files = [{"path": name, "url": f"{base}/{name}", "size": size} for name in names]
    return float(
        run(
            [sys.executable, "-m", "bench.ready.fetch_once", target],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            text=json.dumps(files),
            seconds=PATIENCE_SECONDS,
        )
    )


def fetch_by_curl(base: str, target: Path, names: Sequence[str], size: int) -> float:  # noqa: ARG001 - as fetch_by_agent
    """Seconds that one curl for each file takes, all at once."""
    began = time.perf_counter()
    running = [
        subprocess.Popen(["curl", "-fsS", "-o", target / name, f"{base}/{name}"])  # noqa: S603, S607 - our own files
        for name in names
    ]
    codes = [one.wait(PATIENCE_SECONDS) for one in running]
    if any(codes):
        raise StackError("curl failed")
    return time.perf_counter() - began
