"""Accepting a launch: against the bare storage writes, and against the peers on the same two cores."""

import json
import statistics
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from bench import ours
from bench.load import Call, Load, drive
from bench.peers import start_dstack, start_skypilot
from bench.processes import Server
from bench.results import ROOT, Figure, figure, ratios
from devhost import azurite

SECTION = "accept"
CLIENTS = (1, 8, 32)
FLOOR = "bare SDK"
HTTP = "gpulaunch, HTTP functions"
WHOLE = "gpulaunch, everything in one process"
PEERS = ("SkyPilot 0.14.1", "dstack 0.22.5")


@dataclass(frozen=True)
class Contender:
    """Something that accepts launches, or stands for it."""

    load: Callable[[int, float], Load]
    server: Server | None
    """Put to sleep while others are measured; None: it uses no time of its own."""


def measure(folder: Path, *, rounds: int, seconds: float) -> list[Figure]:
    """All contenders in turn, `rounds` times, for every number of clients."""
    seen: dict[tuple[str, int], list[Load]] = defaultdict(list)
    with ExitStack() as stack:
        contenders = _start(folder, stack)
        for contender in contenders.values():
            contender.load(2, 1.0)  # first requests import and connect
            _pause(contender)
        for number in range(rounds):
            for clients in CLIENTS:
                names = list(contenders)
                # neither of two neighbours is always the first
                for name in names if number % 2 == 0 else reversed(names):
                    contender = contenders[name]
                    if contender.server is not None:
                        contender.server.resume()
                    seen[name, clients].append(contender.load(clients, seconds))
                    _pause(contender)
    return list(_figures(seen))


def _pause(contender: Contender) -> None:
    if contender.server is not None:
        contender.server.pause()


def _start(folder: Path, stack: ExitStack) -> dict[str, Contender]:
    storage = azurite.start(folder / "azurite")
    stack.callback(storage.stop)
    env = ours.environment(storage)
    contenders = {FLOOR: Contender(_floor(env, stack), None)}
    for name, background in ((HTTP, False), (WHOLE, True)):
        # Partitions of their own, so that one does not do the other's work; queues are shared, so the one without
        # background functions goes first and what it leaves in the queue is nothing that the other knows.
        workspace = {"GPULAUNCH_WORKSPACE": "whole" if background else "http"}
        own = azurite.start(folder / f"azurite-{workspace['GPULAUNCH_WORKSPACE']}") if background else storage
        if background:
            stack.callback(own.stop)
        given = ours.environment(own, **workspace)
        server, address = ours.start(workspace["GPULAUNCH_WORKSPACE"], given, folder, background=background)
        stack.enter_context(server)
        contenders[name] = Contender(_http(lambda address=address: ours.launch_call(address), 202), server)
    for name, start in zip(PEERS, (start_skypilot, start_dstack), strict=True):
        peer = start(folder)
        stack.enter_context(peer.server)
        contenders[name] = Contender(_http(peer.launch, peer.accepted), peer.server)
    return contenders


def _http(make: Callable[[], Call], accepted: int) -> Callable[[int, float], Load]:
    return lambda clients, seconds: drive(make, clients, seconds, accepted)


def _floor(env: dict[str, str], stack: ExitStack) -> Callable[[int, float], Load]:
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
