"""Accepting a launch: against the bare storage writes, and against the peers on the same two cores."""

import json
import statistics
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import cast

from bench import ours
from bench.load import Call, Load, drive
from bench.peers import Peer, start_dstack, start_skypilot
from bench.processes import Server
from bench.results import ROOT, Figure, figure, ratios
from devhost import azurite

SECTION = "accept"
CLIENTS = (1, 8, 32)
FLOOR = "bare SDK"
HTTP = "gpulaunch, HTTP functions"
WHOLE = "gpulaunch, everything in one process"
PEERS = ("SkyPilot 0.14.1", "dstack 0.22.5")


Loader = Callable[[int, float], Load]


def measure(folder: Path, *, rounds: int, seconds: float) -> list[Figure]:
    """All contenders in turn, `rounds` times, each at every number of clients.

    The floor and our HTTP functions sleep while others are measured. What works on the launches it has accepted, a
    peer or ours with everything in one process, is started anew for every turn: what it has not worked off by then is
    nobody's burden, its own included.
    """
    seen: dict[tuple[str, int], list[Load]] = defaultdict(list)
    with ExitStack() as stack:
        contenders = _start(folder, stack)
        for number in range(rounds):
            # neither of two neighbours is always the first
            names = list(contenders) if number % 2 == 0 else list(reversed(contenders))
            for name in names:
                with contenders[name](number) as load:
                    load(2, 1.0)  # first requests import and connect
                    for clients in CLIENTS:
                        seen[name, clients].append(load(clients, seconds))
    return _figures(seen)


def _start(folder: Path, stack: ExitStack) -> dict[str, Callable[[int], AbstractContextManager[Loader]]]:
    """What makes each contender ready for one turn, the number of which it is given."""
    storage = azurite.start(folder / "azurite")
    stack.callback(storage.stop)
    floor = _floor(ours.environment(storage), stack)
    server, address = ours.start("http", ours.environment(storage), folder, background=False)
    stack.enter_context(server)
    server.pause()
    made: dict[str, Callable[[int], AbstractContextManager[Loader]]] = {
        FLOOR: lambda _: nullcontext(floor),
        HTTP: partial(_awake, server, address),
        WHOLE: partial(_whole, folder),
    }
    for name, start in zip(PEERS, (start_skypilot, start_dstack), strict=True):
        made[name] = partial(_peer, start, folder / name.partition(" ")[0])
    return made


@contextmanager
def _awake(server: Server, address: str, _: int) -> Generator[Loader]:
    server.resume()
    try:
        yield _ours(address)
    finally:
        server.pause()


@contextmanager
def _whole(folder: Path, number: int) -> Generator[Loader]:
    storage = azurite.start(folder / f"azurite-{number}")
    try:
        server, address = ours.start(f"whole-{number}", ours.environment(storage), folder)
        with server:
            yield _ours(address)
    finally:
        storage.stop()


def _ours(address: str) -> Loader:
    return _http(lambda: ours.launch_call(address), 202)


@contextmanager
def _peer(start: Callable[[Path], Peer], folder: Path, number: int) -> Generator[Loader]:
    place = folder / str(number)
    place.mkdir(parents=True)
    peer = start(place)
    with peer.server:
        yield _http(peer.launch, peer.accepted)


def _http(make: Callable[[], Call], accepted: int) -> Loader:
    return lambda clients, seconds: drive(make, clients, seconds, accepted)


def _floor(env: dict[str, str], stack: ExitStack) -> Loader:
    process = stack.enter_context(
        subprocess.Popen(  # noqa: S603 - our own command
            [sys.executable, "-m", "bench.floor", env["AzureWebJobsStorage"], json.dumps(ours.SEED)],
            env=env, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
    )  # fmt: skip
    stack.callback(process.terminate)
    assert process.stdin is not None and process.stdout is not None  # noqa: S101 - both are pipes
    sent, said = process.stdin, process.stdout

    def load(clients: int, seconds: float) -> Load:
        sent.write(f"{clients} {seconds}\n")
        sent.flush()
        answer = cast("dict[str, object]", json.loads(said.readline()))
        return Load(cast("list[float]", answer["seconds"]), cast("float", answer["per_second"]))

    return load


def _figures(seen: dict[tuple[str, int], list[Load]]) -> list[Figure]:
    found: list[Figure] = []
    medians = {key: [statistics.median(one.seconds) * 1000 for one in loads] for key, loads in seen.items()}
    rates = {key: [one.per_second for one in loads] for key, loads in seen.items()}
    for name, clients in seen:
        found.append(figure(SECTION, f"{name}: latency, {clients} clients", medians[name, clients], "ms"))
        found.append(figure(SECTION, f"{name}: throughput, {clients} clients", rates[name, clients], "per s"))
    for clients in CLIENTS:
        what = f"gpulaunch (HTTP functions) / bare SDK: latency, {clients} clients"
        found.append(figure(SECTION, what, ratios(medians[HTTP, clients], medians[FLOOR, clients]), "x", target=1.5))
        what = f"bare SDK / gpulaunch (HTTP functions): throughput, {clients} clients"
        found.append(figure(SECTION, what, ratios(rates[FLOOR, clients], rates[HTTP, clients]), "x", target=1.5))
    for mine in (HTTP, WHOLE):
        best = [min(pair) for pair in zip(*(medians[peer, 1] for peer in PEERS), strict=True)]
        what = f"{mine} / better peer: latency, 1 client"
        found.append(figure(SECTION, what, ratios(medians[mine, 1], best), "x", target=1.0))
        for clients in CLIENTS[1:]:
            best = [max(pair) for pair in zip(*(rates[peer, clients] for peer in PEERS), strict=True)]
            what = f"{mine} / better peer: throughput, {clients} clients"
            found.append(figure(SECTION, what, ratios(rates[mine, clients], best), "x", target=5.0, better="higher"))
    return found
