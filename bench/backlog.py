"""Many launches at once on Azurite: what the sweep adds to their queue, how long it takes, and what it costs them."""

import asyncio
import re
import time
import uuid
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import aiohttp
from azure.storage.queue import QueueClient

from bench import ours
from bench.processes import BenchError, Server
from bench.results import ROOT, Figure, figure
from devhost import azurite
from shared.queues import LAUNCHES

SECTION = "backlog"
SPEED = "10"
"""Simulated seconds in one: an instance alone is ready after 8."""
CLIENTS = 32
TRIES = 5
"""Of one launch: a machine under full load may keep storage from answering in time."""
READY_SECONDS = 3600.0
SWEEP_SECONDS = 30.0
MOST_SENT, MOST_TIME = 1.1, 1.05
_QUIET = '''"""The app with a sweep that sends no step again."""

import sys

sys.path.insert(0, {root!r})
from shared.control.sweep import requeue

requeue.MOST = 0
with open({root!r} + "/function_app.py", encoding="utf-8") as source:
    exec(compile(source.read(), "function_app.py", "exec"))
'''


@dataclass(frozen=True)
class Run:
    ready: float
    """Seconds from the first launch until all are ready."""
    sent: int
    """Messages of steps."""
    again: int
    """Of these, sent again by the sweep."""
    sweeps: list[float]
    """Seconds of each."""
    processor: float
    """Processor seconds of the app."""


def measure(folder: Path, *, launches: int) -> list[Figure]:
    quiet = folder / "quiet"
    quiet.mkdir()
    (quiet / "function_app.py").write_text(_QUIET.format(root=str(ROOT)), "utf-8")
    (quiet / "host.json").write_text((ROOT / "host.json").read_text("utf-8"), "utf-8")
    with_sweep = _run(folder / "sweeping", launches, ROOT)
    without = _run(folder / "not-sending", launches, quiet)
    sent = with_sweep.sent / (with_sweep.sent - with_sweep.again)
    note = f"{launches} launches at once, simulation x {SPEED}, one process and Azurite"
    return [
        figure(SECTION, "messages for each step", [sent], "", target=MOST_SENT, note=note),
        figure(SECTION, "a sweep meanwhile", with_sweep.sweeps, "s", target=SWEEP_SECONDS, note=note),
        figure(SECTION, "until all are ready", [with_sweep.ready], "s", note=note),
        figure(SECTION, "the same, sweep that sends nothing", [without.ready], "s", note=note),
        figure(SECTION, "of the time", [with_sweep.ready / without.ready], "", target=MOST_TIME, note=note),
        # Less of what else the machine does is in it.
        figure(SECTION, "of the processor time", [with_sweep.processor / without.processor], "", target=MOST_TIME),
    ]


def _run(folder: Path, launches: int, app: Path) -> Run:
    """Launch that many at once, and wait until all are ready and no message is left."""
    folder.mkdir()
    with ExitStack() as stack:
        storage = azurite.start(folder / "azurite", kept=False)
        stack.callback(storage.stop)
        env = ours.environment(storage, GPULAUNCH_SIMULATION_SPEED=SPEED)
        server, address = ours.start("app", env, folder, arguments=["--app", str(app), "--log-level", "INFO"])
        stack.enter_context(server)
        queue = stack.enter_context(QueueClient.from_connection_string(storage.connection_string, LAUNCHES))
        begun = time.time()
        asyncio.run(_launch(address, launches))
        log = _Log(server)
        while len(log.ready) < launches or queue.get_queue_properties().approximate_message_count:
            if time.time() - begun > READY_SECONDS:
                raise BenchError(f"{len(log.ready)} of {launches} are ready after {READY_SECONDS:.0f} s")
            time.sleep(2)
            log.read()
        return Run(max(log.ready.values()) - begun, log.sent, log.again, log.sweeps(begun), server.processor_seconds())


async def _launch(address: str, launches: int) -> None:
    call, left = ours.launch_call(address), list(range(launches))
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=CLIENTS)) as session:

        async def client() -> None:
            while left:
                left.pop()
                headers = {**call.headers, "Idempotency-Key": uuid.uuid4().hex}
                status = 0
                for _ in range(TRIES):
                    async with session.post(call.url, json=call.body, headers=headers) as answer:
                        status = answer.status
                    if status != 503:
                        break
                    await asyncio.sleep(1)
                if status != 202:
                    raise BenchError(f"a launch was answered {status}")

        await asyncio.gather(*(client() for _ in range(CLIENTS)))


class _Log:
    """What the app's and devhost's own lines tell, read piece by piece."""

    def __init__(self, server: Server) -> None:
        self._path, self._at, self._rest = server.log, 0, ""
        self.ready: dict[str, float] = {}
        """When each instance became ready, Unix time."""
        self.sent = self.again = 0
        self._ended: list[float] = []

    def read(self) -> None:
        with self._path.open("r", encoding="utf-8", errors="replace") as file:
            file.seek(self._at)
            text = self._rest + file.read()
            self._at = file.tell()
        *lines, self._rest = text.split("\n")
        for line in lines:
            self._take(line)

    def _take(self, line: str) -> None:
        if " handled message " in line and "'provisioning'" in line:
            self.sent += 1
        elif (found := re.search(r" (inst-\w+) ready: ", line)) is not None:
            self.ready.setdefault(found[1], _time(line))
        elif (found := re.search(r" sweep: live .*\bresent (\d+)", line)) is not None:
            self.again += int(found[1])
        elif "timer 'sweep' ran" in line:
            self._ended.append(_time(line))

    def sweeps(self, begun: float) -> list[float]:
        """Seconds of each sweep since a time: one begins at each half minute, or at the end of a longer one."""
        took: list[float] = []
        due = 0.0
        before = 0.0
        for ended in self._ended:
            start = max(due, before) or ended - ended % SWEEP_SECONDS
            took.append(ended - start)
            due, before = start - start % SWEEP_SECONDS + SWEEP_SECONDS, ended
        return [seconds for seconds, ended in zip(took, self._ended, strict=True) if ended > begun]


def _time(line: str) -> float:
    day, clock = line.split()[:2]
    return datetime.fromisoformat(f"{day}T{clock.replace(',', '.')}").timestamp()
