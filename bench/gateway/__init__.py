"""The gateway against what one would put in its place, all in front of the same two nodes, in turns.

The machine's cores are shared by clients, nodes and contender, so the rates that are seen are a floor. What one core
carries follows from the processor time that a contender takes for a request or a chunk.
"""

import statistics
from collections import defaultdict
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from bench.gateway import contenders
from bench.gateway.contenders import Contender
from bench.gateway.load import CHUNKS, Target, drive, stream
from bench.processes import BenchError
from bench.results import Figure, figure, ratios

SECTION = "gateway"
CLIENTS, STREAMS, OPEN_STREAMS = 32, 64, 1000
OURS, OURS_TLS = "gpulaunch", "gpulaunch, TLS to nodes"
FLOOR = "the node itself"


@dataclass
class Seen:
    """Of one contender, a value for each round."""

    latency: list[float] = field(default_factory=list[float])
    """Milliseconds, median of one client's requests."""
    rate: list[float] = field(default_factory=list[float])
    """Answers a second that many clients got."""
    per_core: list[float] = field(default_factory=list[float])
    """Answers a second by its processor time."""
    chunks_per_core: list[float] = field(default_factory=list[float])
    first: list[float] = field(default_factory=list[float])
    """Milliseconds until a stream's first chunk, median of streams opened together."""


def measure(folder: Path, *, rounds: int, seconds: float) -> list[Figure]:
    """All contenders in turn, `rounds` times; those that are not measured sleep."""
    with ExitStack() as stack:
        backends = contenders.start_backends(folder, stack)
        ours = contenders.start_gateway(folder, stack, backends)
        found = [
            contenders.node_itself(backends),
            *ours,
            contenders.start_nginx(folder, stack, backends),
            contenders.start_router(folder, stack, backends),
            contenders.start_skyserve(folder, stack, backends),
            contenders.start_litellm(folder, stack, backends),
        ]
        for one in found:
            _wake(one)  # one server may be two contenders
            _warm_up(one)
            _sleep(one)
        seen: dict[str, Seen] = defaultdict(Seen)
        for number in range(rounds):
            # neither of two neighbours is always the first
            for one in found if number % 2 == 0 else reversed(found):
                _wake(one)
                try:
                    _measure(one, seconds, seen[one.name])
                except BenchError as error:
                    raise BenchError(f"{one.name}: {error}") from error
                _sleep(one)
        memory = _memory(ours[1])
    return [
        *_figures(seen),
        figure(SECTION, f"{OURS_TLS}: memory, {OPEN_STREAMS} open streams", [memory], "MiB", target=150),
    ]


def _wake(one: Contender) -> None:
    if one.server is not None:
        one.server.resume()


def _sleep(one: Contender) -> None:
    if one.server is not None:
        one.server.pause()


def _warm_up(one: Contender) -> None:
    """The first requests import and connect."""
    drive(one.target, CLIENTS, 1.0)
    stream(one.target, STREAMS, 10)


def _measure(one: Contender, seconds: float, seen: Seen) -> None:
    alone = drive(one.target, 1, seconds)
    seen.latency.append(statistics.median(alone.seconds) * 1000)
    before = _processor(one)
    many = drive(one.target, CLIENTS, seconds)
    seen.rate.append(many.per_second)
    between = _processor(one)
    streamed = stream(one.target, STREAMS)
    after = _processor(one)
    seen.first.append(streamed.first * 1000)
    if one.server is not None:
        seen.per_core.append(len(many.seconds) / (between - before))
        # A stream's own beginning is the price of a request.
        seen.chunks_per_core.append(streamed.chunks / (after - between))


def _processor(one: Contender) -> float:
    return 0.0 if one.server is None else one.server.processor_seconds()


def _memory(one: Contender) -> float:
    """MiB of the gateway while that many streams are open, one chunk a second each."""
    if one.server is None:
        raise BenchError("the node itself has no gateway")
    one.server.resume()
    target: Target = one.target
    resident: list[float] = []

    def look() -> None:
        assert one.server is not None  # noqa: S101 - see above
        resident.append(one.server.resident_mib())

    stream(target, OPEN_STREAMS, 10, pace=1.0, meanwhile=look)
    return max(resident)


def _figures(seen: dict[str, Seen]) -> list[Figure]:
    found: list[Figure] = []
    for name, one in seen.items():
        found.append(figure(SECTION, f"{name}: latency, 1 client", one.latency, "ms"))
        found.append(figure(SECTION, f"{name}: first chunk, {STREAMS} streams", one.first, "ms"))
        found.append(figure(SECTION, f"{name}: {CLIENTS} clients on this machine", one.rate, "per s"))
        if name == FLOOR:
            continue
        ours = name in (OURS, OURS_TLS)
        requests, chunks = (5000.0, 25_000.0) if ours else (None, None)
        what = f"{name}: requests of one core"
        found.append(figure(SECTION, what, one.per_core, "per s", target=requests, better="higher"))
        what = f"{name}: chunks of one core, {STREAMS} streams of {CHUNKS}"
        found.append(figure(SECTION, what, one.chunks_per_core, "per s", target=chunks, better="higher"))
    for name in (OURS, OURS_TLS):
        added = [mine - node for mine, node in zip(seen[name].latency, seen[FLOOR].latency, strict=True)]
        found.append(figure(SECTION, f"{name}: latency added to the node's own", added, "ms", target=0.5))
    mine = seen[OURS]
    for name, theirs in seen.items():
        if name in (OURS, OURS_TLS, FLOOR):
            continue
        is_router = name.startswith("vllm-router")
        what = f"gpulaunch / {name}: latency, 1 client"
        values = ratios(mine.latency, theirs.latency)
        found.append(figure(SECTION, what, values, "x", target=1.5 if is_router else None))
        is_proxy = name.startswith(("SkyServe", "litellm"))
        for what, own, other in (
            ("requests of one core", mine.per_core, theirs.per_core),
            (f"{CLIENTS} clients on this machine", mine.rate, theirs.rate),
            ("chunks of one core", mine.chunks_per_core, theirs.chunks_per_core),
        ):
            target = 10.0 if is_proxy and what.startswith("requests") else None
            values = ratios(own, other)
            found.append(figure(SECTION, f"gpulaunch / {name}: {what}", values, "x", target=target, better="higher"))
    what = "TLS to nodes / without: "
    tls = seen[OURS_TLS]
    found.append(figure(SECTION, f"{what}latency, 1 client", ratios(tls.latency, mine.latency), "x"))
    found.append(
        figure(SECTION, f"{what}requests of one core", ratios(tls.per_core, mine.per_core), "x", better="higher")
    )
    found.append(
        figure(
            SECTION,
            f"{what}chunks of one core",
            ratios(tls.chunks_per_core, mine.chunks_per_core),
            "x",
            better="higher",
        )
    )
    return found
