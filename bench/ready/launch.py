"""The tiny model: a launch until it is ready, against a bare `sky launch` of the same task until it is healthy.

Nodes call the app, as they do where it is deployed; where they can't, it asks them, every four seconds in these phases.
"""

from __future__ import annotations

import json
import os
import statistics
import time
from collections import defaultdict

from bench.results import Figure, figure, ratios
from tests.e2e.stack.app import App
from tests.e2e.stack.assembly import Stack
from tests.e2e.stack.bare import bare_launch
from tests.e2e.stack.processes import run, wait_until

SECTION = "ready"
READY_SECONDS = 300
"""A launch takes 20 s, vLLM 26 s on two idle cores; the rest is for a busy machine."""
GONE_SECONDS = 180
BARE = ("sky launch", "job start and vLLM until healthy")
"""The stages of a bare launch that its user waits for."""


def warm_up(stack: Stack) -> None:
    """What only a first launch meets: SkyPilot's imports and its probe of Slurm, and vLLM's files on the disk."""
    task = stack.folder / "warm.yaml"
    task.write_text(json.dumps({"name": "warm", "resources": {"infra": stack.infra}, "run": "true"}))
    stack.sky.cli("launch", "--yes", "--detach-run", "--cluster", "warm", str(task), seconds=300)
    stack.sky.cli("down", "--yes", "warm", seconds=180)
    run([stack.vllm.executable, "--version"], env={**os.environ, **stack.vllm.variables()}, seconds=180)
    nothing_left(stack)


def nothing_left(stack: Stack) -> None:
    """Wait until Slurm's node is idle again."""
    wait_until(lambda: not stack.slurm.squeue(), seconds=60, what="an empty squeue")


def measure(stack: Stack, *, rounds: int) -> list[Figure]:
    """Both in alternation, who goes first changing. Raises StackError when a launch does not become ready."""
    load = os.getloadavg()[0]
    app = App(stack)
    app.start({"GPULAUNCH_PUBLIC_URL": app.url})
    ours: list[float] = []
    bare: list[float] = []
    phases: dict[str, list[float]] = defaultdict(list)
    try:
        for number in range(rounds):
            for mine in (False, True) if number % 2 == 0 else (True, False):
                if mine:
                    seconds, spent = _launch(stack, app)
                    ours.append(seconds)
                    for phase, one in spent.items():
                        phases[phase].append(one)
                else:
                    times = bare_launch(stack)
                    bare.append(sum(times[stage] for stage in BARE))
    finally:
        app.stop()
    way = ", ".join(f"{phase} {statistics.median(spent):.1f}" for phase, spent in phases.items() if max(spent) >= 0.1)
    note = f"the tiny model; load average {load:.1f} to {os.getloadavg()[0]:.1f}"
    return [
        figure(SECTION, "tiny model: launch until ready", ours, "s", note=f"{note}; phases: {way}"),
        figure(SECTION, "tiny model: bare sky launch until healthy", bare, "s", note=note),
        figure(SECTION, "tiny model: ours / bare", ratios(ours, bare), "x", target=1.05, note=note),
    ]


def _launch(stack: Stack, app: App) -> tuple[float, dict[str, float]]:
    """Seconds from the request until ready, as its user sees it, and those of each phase until then."""
    began = time.monotonic()
    instance_id = app.launch()
    app.wait(instance_id, "ready", seconds=READY_SECONDS)
    seconds = time.monotonic() - began
    spent = app.durations(instance_id)
    app.end(instance_id)
    app.wait(instance_id, "terminated", seconds=GONE_SECONDS)
    nothing_left(stack)
    return seconds, spent
