"""Scalers simulated over traces, and what the program's own decides in how long."""

import os
from collections.abc import Sequence
from pathlib import Path

from bench.results import ROOT, Figure, figure
from bench.scaler import plots
from bench.scaler.comparison import (
    FRESH,
    KEDA,
    OURS,
    OURS_FRESH,
    PEERS,
    PRESETS,
    Results,
    compared,
    dominating,
    drawn,
    names,
    no_longer,
    node_hours,
    outcome,
    shorter,
)
from bench.scaler.deciding import seconds_for

SECTION = "scaler"
TRACES = "SCALER_TRACES"
"""Names the folder with the recorded traces; without it only the made ones are simulated."""
ALL_TRACES = 7
IMAGES = ROOT / "docs" / "images"
SHOWN = "steps"
"""The trace whose nodes are drawn."""
ENDPOINTS = 1000


def measure(*, seeds: Sequence[int], rounds: int, longest: int | None = None) -> list[Figure]:
    """Simulate, and draw the pictures if all traces are there; `longest`: leave out traces of more requests.

    Raises OSError if the recorded traces cannot be read.
    """
    folder = os.environ.get(TRACES)
    results = compared(
        seeds, {**PEERS, **OURS, **OURS_FRESH}, None if folder is None else Path(folder), longest=longest
    )
    if len(names(results)) == ALL_TRACES:
        _draw(results, seeds[0])
    deciding = figure(
        SECTION,
        f"a decision for each of {ENDPOINTS:,} endpoints",
        [seconds_for(ENDPOINTS) for _ in range(rounds)],
        "s",
        target=1.0,
        note="figures put together from the reports of two gateways",
    )
    return [*_points(results), *_promises(results), deciding]


def _draw(results: Results, seed: int) -> None:
    (IMAGES / "scaler-points.svg").write_text(plots.points(results), "utf-8")
    trace = next(one for one in drawn(seed, None) if one.name == SHOWN)
    outcomes = {
        name: outcome(trace, make, seed) for name, make in {**PEERS, **OURS}.items() if name in (KEDA, "balanced")
    }
    (IMAGES / "scaler-nodes.svg").write_text(plots.nodes(trace, outcomes), "utf-8")


def _points(results: Results) -> list[Figure]:
    found: list[Figure] = []
    for (trace, scaler), one in results.items():
        found.append(figure(SECTION, f"{trace}: {scaler}", one.node_hours, "node-hours"))
        found.append(figure(SECTION, f"{trace}: {scaler}, 95 % wait at most", one.p95, "s"))
    return found


def _promises(results: Results) -> list[Figure]:
    """Held over all seven traces; over fewer they are told without their targets."""
    whole = len(names(results)) == ALL_TRACES
    peers = dominating(results)
    hours = {preset: node_hours(results, preset) / node_hours(results, KEDA) for preset in PRESETS}
    ticks = {preset: node_hours(results, preset) / node_hours(results, preset + FRESH) for preset in PRESETS}
    note = f"of {len(names(results))} traces"
    return [
        figure(
            SECTION,
            "peers cheaper and quicker than all presets",
            [len(peers)],
            "",
            target=0,
            note=", ".join(f"{peer} on {trace}" for trace, peer in peers),
        ),
        *(
            figure(
                SECTION,
                f"{preset}: node-hours / KEDA's",
                [ratio],
                "",
                target=0.95 if whole and preset == "balanced" else None,
                note=note,
            )
            for preset, ratio in hours.items()
        ),
        figure(
            SECTION,
            "balanced: traces on which 95 % wait shorter than with KEDA",
            [len(shorter(results, "balanced", KEDA))],
            "",
            target=3 if whole else None,
            better="higher",
            note=note,
        ),
        figure(
            SECTION,
            "quick: traces on which 95 % wait no longer than with KEDA",
            [len(no_longer(results, "quick", KEDA))],
            "",
            target=5 if whole else None,
            better="higher",
            note=note,
        ),
        *(figure(SECTION, f"{preset}: node-hours / with looks every 10 s", [one], "") for preset, one in ticks.items()),
    ]
