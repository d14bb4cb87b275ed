"""All scalers on all traces, and whether the program's presets keep what is promised of them."""

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from bench.scaler import recorded, traces
from bench.scaler.nodes import REQUEST_SPEED
from bench.scaler.peers import Dstack, Keda, Knative, KubeAi, SkyServe
from bench.scaler.policies import Policy
from bench.scaler.program import Program
from bench.scaler.simulation import Outcome, simulate
from bench.scaler.traces import Trace

START_SECONDS = (180.0, 300.0)
"""Between these a start takes any time alike: a node of a cloud, its driver and image there, weights of 16 GB."""
PRESETS = ("thrifty", "balanced", "quick")
FRESH = ", every 10 s"
"""Of a preset's name: decided so often and at figures of that moment, as no program with heartbeats can."""

Make = Callable[[float], Policy]
"""A scaler for requests that take so many seconds on an idle node, which some peers' operators must know."""
PEERS: Mapping[str, Make] = {
    "KEDA + HPA": lambda _: Keda(),
    "Knative": lambda _: Knative(),
    "Knative, 300 s delay": lambda _: Knative(300.0),
    "KubeAI": lambda _: KubeAi(),
    "SkyServe": SkyServe,
    "SkyServe, 60/300 s": lambda seconds: SkyServe(seconds, 60.0, 300.0),
    "dstack": Dstack,
}
KEDA = "KEDA + HPA"


def _program(preset: str, *, fresh: bool = False) -> Make:
    return lambda _: Program(preset, fresh=fresh)


OURS: Mapping[str, Make] = {preset: _program(preset) for preset in PRESETS}
OURS_FRESH: Mapping[str, Make] = {preset + FRESH: _program(preset, fresh=True) for preset in PRESETS}


@dataclass(frozen=True, kw_only=True)
class Result:
    """A scaler on a trace, once for each seed."""

    trace: str
    scaler: str
    node_hours: Sequence[float]
    p95: Sequence[float]
    """Of the seconds that requests waited."""
    p99: Sequence[float]

    @property
    def point(self) -> tuple[float, float]:
        """Node-hours and seconds, medians of the seeds."""
        return median(self.node_hours), median(self.p95)


Results = Mapping[tuple[str, str], Result]
"""By trace and scaler."""


def drawn(seed: int, folder: Path | None, *, hours: float = 24.0) -> list[Trace]:
    """The traces of a seed: the made ones, and the recorded ones if there is a folder with them.

    ServeGen's day is another one for each seed. Raises OSError if the folder cannot be read.
    """
    found = traces.made(seed)
    if folder is not None:
        found.append(recorded.azure("azure_conv", folder / "azure2023_conv.csv"))
        found.append(recorded.azure("azure_code", folder / "azure2023_code.csv"))
        found.append(recorded.servegen(folder / "servegen", seed, day=1 + seed % 12, hours=hours))
    return found


def outcome(trace: Trace, make: Make, seed: int) -> Outcome:
    return simulate(trace, make(trace.mean_work / REQUEST_SPEED), start_seconds(seed))


def start_seconds(seed: int) -> Iterator[float]:
    draw = random.Random(seed)  # noqa: S311 - repeatable on purpose
    while True:
        yield draw.uniform(*START_SECONDS)


def compared(
    seeds: Sequence[int], scalers: Mapping[str, Make], folder: Path | None, *, longest: int | None = None
) -> Results:
    """Every scaler on every trace for every seed; `longest`: traces of more requests are left out."""
    found: dict[tuple[str, str], list[Outcome]] = {}
    for seed in seeds:
        for trace in drawn(seed, folder):
            if longest is not None and len(trace.at) > longest:
                continue
            for name, make in scalers.items():
                found.setdefault((trace.name, name), []).append(outcome(trace, make, seed))
    return {
        (trace, name): Result(
            trace=trace,
            scaler=name,
            node_hours=[one.node_hours for one in outcomes],
            p95=[one.percentile(95) for one in outcomes],
            p99=[one.percentile(99) for one in outcomes],
        )
        for (trace, name), outcomes in found.items()
    }


def names(results: Results) -> list[str]:
    """The traces, in the order in which they were simulated."""
    return list(dict.fromkeys(trace for trace, _ in results))


def dominating(results: Results) -> list[tuple[str, str]]:
    """(trace, peer) where a peer needs fewer node-hours and waits less than each of the presets."""

    def beats(peer: Result, preset: Result) -> bool:
        (hours, seconds), (our_hours, our_seconds) = peer.point, preset.point
        return hours <= our_hours and seconds <= our_seconds and (hours, seconds) != (our_hours, our_seconds)

    return [
        (trace, peer)
        for trace in names(results)
        for peer in PEERS
        if all(beats(results[trace, peer], results[trace, preset]) for preset in PRESETS)
    ]


def node_hours(results: Results, scaler: str) -> float:
    """Over all traces."""
    return sum(results[trace, scaler].point[0] for trace in names(results))


def shorter(results: Results, scaler: str, than: str) -> list[str]:
    """Traces on which the 95th percentile of waiting is shorter."""
    return [one for one in names(results) if results[one, scaler].point[1] < results[one, than].point[1]]


def no_longer(results: Results, scaler: str, than: str) -> list[str]:
    return [one for one in names(results) if results[one, scaler].point[1] <= results[one, than].point[1]]
