"""Two independent simulations of the same scalers agree on how long each single request waits.

The other one is not part of the project: `SCALER_REFERENCE` names the folder with its `fleet_sim.py`.
"""

import importlib.util
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bench.scaler.nodes import REQUEST_SPEED
from bench.scaler.peers import Dstack, Keda, KubeAi, SkyServe
from bench.scaler.policies import Policy
from bench.scaler.simulation import simulate
from bench.scaler.traces import Trace
from tests.unit.bench.formula import CapacityPlan

FOLDER = os.environ.get("SCALER_REFERENCE")
pytestmark = pytest.mark.skipif(FOLDER is None, reason="SCALER_REFERENCE names no folder with another simulation")
SEED = 1


class Recorder:
    """numpy as the reference sees it; notes the waits of all requests, of which it returns percentiles only."""

    def __init__(self, numpy: Any) -> None:
        self._numpy = numpy
        self.waits: list[float] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._numpy, name)

    def percentile(self, values: Any, of_100: float) -> Any:
        self.waits = [float(one) for one in values]
        return self._numpy.percentile(values, of_100)


@pytest.fixture(scope="module")
def reference() -> Any:
    assert FOLDER is not None
    path = Path(FOLDER) / "fleet_sim.py"
    spec = importlib.util.spec_from_file_location("fleet_sim", path)
    assert spec is not None and spec.loader is not None, f"{path} cannot be loaded"
    module = importlib.util.module_from_spec(spec)
    writes, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        spec.loader.exec_module(module)
    finally:
        sys.dont_write_bytecode = writes
    return module


def spikes(at: float) -> float:
    """Requests per second."""
    return 0.8 + (9.2 if at % 2700 > 2550 else 0.0)


@pytest.fixture(scope="module")
def trace(reference: Any) -> Trace:
    """The reference's own spikes, 18,526 requests in four hours."""
    numpy = reference.np
    draw = numpy.random.default_rng(7)
    at = reference.poisson(spikes, 14_400, draw, 10.0)
    work = reference.lengths(len(at), draw)
    return Trace("spikes", [float(one) for one in at], [float(one) for one in work])


def starts(numpy: Any) -> Iterator[float]:
    draw = numpy.random.default_rng(SEED)
    while True:
        yield float(draw.uniform(180, 300))


# Without Knative, whose mean is over the values that there are, as in its own code: there it is over a full minute.
SCALERS: dict[str, tuple[Callable[[Any], Any], Callable[[float], Policy]]] = {
    "capacity plan": (lambda sim: sim.Ours(), lambda seconds: CapacityPlan(seconds, 240.0)),
    "KEDA": (lambda sim: sim.Keda(), lambda _: Keda()),
    "KubeAI": (lambda sim: sim.KubeAI(), lambda _: KubeAi()),
    "SkyServe": (lambda sim: sim.Sky(), SkyServe),
    "SkyServe, tuned": (lambda sim: sim.Sky(up_s=60, down_s=300), lambda seconds: SkyServe(seconds, 60.0, 300.0)),
    "dstack": (lambda sim: sim.Dstack(), Dstack),
}


@pytest.mark.parametrize("name", SCALERS)
def test_every_request_should_wait_as_long_as_in_another_simulation(
    name: str, reference: Any, trace: Trace, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs, ours = SCALERS[name]
    numpy = reference.np
    recorder = Recorder(numpy)
    monkeypatch.setattr(reference, "np", recorder)
    expected = reference.simulate(numpy.array(trace.at), numpy.array(trace.work), theirs(reference), seed=SEED)
    found = simulate(trace, ours(trace.mean_work / REQUEST_SPEED), starts(numpy))
    late = [seconds for seconds in recorder.waits if seconds > 1]
    assert len(late) > 1000, "a trace without waiting proves nothing"
    # One that is never served waits until the end, which is the last event there and half an hour here.
    pairs = zip(found.waits, recorder.waits, found.served, strict=True)
    assert [(here, there) for here, there, served in pairs if served and abs(here - there) > 1e-6] == []
    assert found.node_hours == pytest.approx(expected["node_h"], rel=1e-3)
