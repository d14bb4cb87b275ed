"""Stop workers that a killed SkyPilot server left behind.

A server that ends by SIGKILL (the kernel's, when memory runs out) leaves its workers running. They hold the port of its
queue, so no new server can start (SkyPilot 0.14.1: "port 50030 is already in use"), and continue launches in requests
that no server remembers. `sky api stop` does not find them. Stopping them is safe: what they started is in SkyPilot's
cluster records and is deleted by name.
"""

import logging
from collections.abc import Iterator
from pathlib import Path

import psutil  # a dependency of skypilot

logger = logging.getLogger(__name__)

_GRACE_SECONDS = 2.0
"""Workers stop on SIGTERM at once unless they are stuck in a call; a step can wait this long."""
_SERVER = "sky.server.server"
_WORKER = "SkyPilot:"
"""The process title of workers, which overwrites the environment that the system knows."""


def end_orphans(home: Path, port: int) -> int:
    """Stop the workers of dead servers with this home folder and port; return how many there were.

    Workers of a running or starting server and processes of other users are left alone.
    """
    orphans = _orphans(home, port)
    if not orphans:
        return 0
    doomed = {process.pid: process for orphan in orphans for process in (orphan, *_children(orphan))}
    logger.warning("Stopping %d processes that a killed SkyPilot server left behind", len(doomed))
    for process in doomed.values():
        _signal(process, hard=False)
    _, alive = psutil.wait_procs(list(doomed.values()), timeout=_GRACE_SECONDS)
    for process in alive:
        _signal(process, hard=True)
    return len(doomed)


def _orphans(home: Path, port: int) -> list[psutil.Process]:
    ours: dict[int, psutil.Process] = {}
    parents: dict[int, int] = {}
    families: set[int] = set()
    for process in _mine():
        try:
            words = process.cmdline()
            if _SERVER in words:
                families.add(process.pid)
            elif _belongs(process, words, home, port):
                ours[process.pid] = process
                parents[process.pid] = process.ppid()
        except psutil.Error:
            continue  # it has ended meanwhile
    families |= set(ours)
    return [process for pid, process in ours.items() if parents[pid] not in families]


def _mine() -> Iterator[psutil.Process]:
    me = psutil.Process().username()
    for process in psutil.process_iter():
        try:
            if process.username() == me:
                yield process
        except psutil.Error:
            continue


def _belongs(process: psutil.Process, words: list[str], home: Path, port: int) -> bool:
    if words and words[0].startswith(_WORKER):
        books = home / ".sky"
        return any(Path(file.path).is_relative_to(books) for file in process.open_files())
    environment = process.environ()
    return (
        environment.get("IS_SKYPILOT_SERVER") == "true"
        and environment.get("HOME") == str(home)
        and environment.get("SKYPILOT_API_SERVER_LOCAL_PORT", "46580") == str(port)
    )


def _children(process: psutil.Process) -> list[psutil.Process]:
    try:
        return process.children(recursive=True)
    except psutil.Error:
        return []


def _signal(process: psutil.Process, *, hard: bool) -> None:
    try:
        if hard:
            process.kill()
        else:
            process.terminate()
    except psutil.Error:
        return  # it has ended meanwhile
