"""The sweep over fleets of 100 to 10,000 nodes, and beside 100,000 ended instances."""

import json
import subprocess
import sys
from collections import defaultdict
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

from azure.data.tables import TableClient

from bench import fleet, ours
from bench.processes import BenchError
from bench.results import ROOT, Figure, figure, ratios
from devhost import azurite
from shared.storage.connect import TABLE

SECTION = "sweep"


@dataclass(frozen=True)
class Swept:
    """One sweep, until its last slice was probed."""

    seconds: float
    walk_seconds: float
    """Of the sweep function itself: the walk over the records, and its own slice."""
    mib: float
    requests: int
    """Asked of storage, without the host's share."""


class Sweeper:
    """A process that sweeps one fleet in storage of its own."""

    def __init__(self, folder: Path, stack: ExitStack, port: int, *, nodes: int, ended: int = 0) -> None:
        self._nodes = nodes
        storage = azurite.start(folder, kept=False)
        stack.callback(storage.stop)
        # As in production the nodes call us, so that they are asked for their health alone.
        env = ours.environment(storage, GPULAUNCH_PUBLIC_URL="https://gpulaunch.invalid")
        table = TableClient.from_connection_string(storage.connection_string, TABLE)
        cast(Any, table).create_table()
        fleet.fill(table, "default", range(nodes), port, live=True)
        fleet.fill(table, "default", range(nodes, nodes + ended), port, live=False)
        self._process = stack.enter_context(
            subprocess.Popen(
                [sys.executable, "-m", "bench.sweep_once"],
                env=env, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            )
        )  # fmt: skip
        stack.callback(self._process.terminate)

    def sweep(self) -> Swept:
        """Sweep once. Raises BenchError when it found another fleet than there is: some node was taken for dead."""
        assert self._process.stdin is not None and self._process.stdout is not None  # noqa: S101 - both are pipes
        self._process.stdin.write("sweep\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise BenchError("the sweeping process ended")
        said: dict[str, Any] = json.loads(line)
        if said["ready"] != self._nodes:
            raise BenchError(f"the sweep found {said['ready']} ready nodes of {self._nodes}")
        return Swept(said["seconds"], said["sweep_seconds"], said["mib"], said["requests"])


def measure(folder: Path, *, sizes: tuple[int, ...], rounds: int, ended: int) -> list[Figure]:
    """Fleets of all sizes in turn, then one with and without ended instances in turn."""
    found: list[Figure] = []
    with ExitStack() as stack:
        (port,) = azurite.free_ports(1)
        nodes = stack.enter_context(
            subprocess.Popen([sys.executable, "-m", "bench.nodes", str(port)], cwd=ROOT)  # noqa: S603 - a list, our own program
        )
        stack.callback(nodes.terminate)
        found += _sizes(folder, port, sizes, rounds)
        found += _ended(folder, port, sizes[-2], rounds, ended)
    return found


def _sizes(folder: Path, port: int, sizes: tuple[int, ...], rounds: int) -> list[Figure]:
    found: list[Figure] = []
    seen: dict[int, list[Swept]] = defaultdict(list)
    with ExitStack() as stack:
        sweepers = {size: Sweeper(folder / f"fleet-{size}", stack, port, nodes=size) for size in sizes}
        for sweeper in sweepers.values():
            sweeper.sweep()  # the first one imports and connects
        for _ in range(rounds):
            for size, sweeper in sweepers.items():
                seen[size].append(sweeper.sweep())
    for size, swept in seen.items():
        most = size == max(sizes)
        what = f"{size:,} nodes: until the last one was probed"
        found.append(figure(SECTION, what, [one.seconds for one in swept], "s", target=60 if most else None))
        found.append(figure(SECTION, f"{size:,} nodes: memory at most", [one.mib for one in swept], "MiB", target=512))
        per_hundred = [one.requests * 100 / size for one in swept]
        found.append(figure(SECTION, f"{size:,} nodes: storage requests per 100 nodes", per_hundred, "", target=2))
    for small, large in pairwise(sizes):
        growth = ratios([one.seconds for one in seen[large]], [one.seconds for one in seen[small]])
        what = f"{large:,} / {small:,} nodes: time, in proportion to the nodes"
        found.append(figure(SECTION, what, [one * small / large for one in growth], "x", target=1.0))
    return found


def _ended(folder: Path, port: int, size: int, rounds: int, ended: int) -> list[Figure]:
    alone: list[Swept] = []
    beside: list[Swept] = []
    with ExitStack() as stack:
        without = Sweeper(folder / "without", stack, port, nodes=size)
        with_ended = Sweeper(folder / "with", stack, port, nodes=size, ended=ended)
        without.sweep()
        with_ended.sweep()
        for number in range(max(rounds, 3)):
            turns = [(without, alone), (with_ended, beside)]
            for sweeper, swept in turns if number % 2 == 0 else reversed(turns):
                swept.append(sweeper.sweep())
    what = f"{size:,} nodes beside {ended:,} ended instances / beside none"
    note = "Azurite walks over all rows of a table for every query, which Table Storage does not"
    growth = ratios([one.seconds for one in beside], [one.seconds for one in alone])
    asked = ratios([one.requests for one in beside], [one.requests for one in alone])
    return [
        figure(SECTION, f"{what}: time", growth, "x", target=1.1, note=note),
        figure(SECTION, f"{what}: storage requests", asked, "x", target=1.1),
        figure(SECTION, f"{size:,} nodes beside none", [one.seconds for one in alone], "s"),
        figure(SECTION, f"{size:,} nodes beside {ended:,} ended instances", [one.seconds for one in beside], "s"),
    ]
