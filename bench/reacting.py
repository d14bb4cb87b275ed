"""Reaction on Azurite: from DELETE to the provider's teardown call, and from a node's end to the recovery's begin."""

import json
import time
import urllib.request
from contextlib import ExitStack
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from bench import ours
from bench.processes import BenchError
from bench.results import Figure, figure
from devhost import azurite

SECTION = "react"
SPEED = "20"
"""Simulated seconds in one: a launch is ready after 4."""
SWEEP_SECONDS = 30.0
READY_SECONDS = 60.0


def measure(folder: Path, *, deletions: int, evictions: int) -> list[Figure]:
    """Instances that are deleted one after the other, and some whose nodes are evicted while nobody looks."""
    with ExitStack() as stack:
        storage = azurite.start(folder / "azurite")
        stack.callback(storage.stop)
        server, address = ours.start("app", ours.environment(storage, GPULAUNCH_SIMULATION_SPEED=SPEED), folder)
        stack.enter_context(server)
        app = _App(address)
        spent = [_deletion(app) for _ in range(deletions)]
        noticed = _evictions(app, evictions)
    note = "simulated nodes; the teardown call is the provider's, in the queue's function"
    return [
        figure(SECTION, "DELETE until the provider was told", spent, "s", target=1.0, note=note),
        figure(SECTION, "a node's eviction until recovery began", noticed, "s", target=SWEEP_SECONDS),
    ]


class _App:
    def __init__(self, address: str) -> None:
        self._address = address

    def call(self, method: str, path: str, body: object = None) -> Any:
        request = urllib.request.Request(  # noqa: S310 - our own app
            self._address + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"X-Admin-Token": ours.TOKEN, "Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310 - our own address
            return json.load(answer)

    def launch(self, **labels: str) -> str:
        return str(self.call("POST", "/api/instances/launch", {**ours.SEED, "labels": labels})["instance_id"])

    def events(self, instance_id: str) -> list[Any]:
        return list(self.call("GET", f"/api/instances/{instance_id}/events")["events"])

    def wait(self, instance_id: str, *phases: str, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while self.call("GET", f"/api/instances/{instance_id}")["phase"] not in phases:
            if time.monotonic() > deadline:
                raise BenchError(f"{instance_id} was not {phases} after {seconds:g} s")
            time.sleep(0.1)


def _deletion(app: _App) -> float:
    """Seconds from the call until the event that nothing is left, which comes of the provider's answer."""
    instance_id = app.launch()
    app.wait(instance_id, "ready", seconds=READY_SECONDS)
    app.call("DELETE", f"/api/instances/{instance_id}")
    app.wait(instance_id, "terminated", seconds=READY_SECONDS)
    events = app.events(instance_id)
    asked = next(event for event in events if event["type"] == "termination")
    gone = next(event for event in events if event["type"] == "attempt_gone")
    return (_at(gone) - _at(asked)).total_seconds()


def _evictions(app: _App, number: int) -> list[float]:
    """Seconds from each eviction, spread over a sweep's time, until its recovery began."""
    after: dict[str, float] = {}
    for one in range(number):
        # simulated seconds after it is ready
        seconds = 10.0 + SWEEP_SECONDS * one / number
        after[app.launch(**{"simulate.evict-after": str(round(seconds * float(SPEED)))})] = seconds
    noticed: list[float] = []
    for instance_id, seconds in after.items():
        deadline = time.monotonic() + 4 * SWEEP_SECONDS
        while True:
            events = app.events(instance_id)
            lost = [event for event in events if event["type"] == "attempt_failed"]
            if lost:
                break
            if time.monotonic() > deadline:
                raise BenchError(f"the eviction of {instance_id} was not noticed")
            time.sleep(1)
        started = next(event for event in events if event["type"] == "attempt_started")
        evicted = _at(started) + timedelta(seconds=80 / float(SPEED) + seconds)
        noticed.append((_at(lost[0]) - evicted).total_seconds())
    return noticed


def _at(event: dict[str, Any]) -> datetime:
    return datetime.fromisoformat(event["at"])
