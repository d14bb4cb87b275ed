"""The pictures of the documentation are small, well-formed, and show every scaler and trace."""

from xml.etree import ElementTree

from bench.scaler import plots
from bench.scaler.comparison import PEERS, PRESETS, Result
from bench.scaler.simulation import Outcome
from bench.scaler.traces import Trace

TRACES = ("steps", "spikes", "a <b> & c")
LARGEST = 60_000
"""Bytes; they are kept in the repository."""


def texts(picture: str) -> list[str]:
    root = ElementTree.fromstring(picture)  # noqa: S314 - made here
    return ["".join(one.itertext()) for one in root.iter("{http://www.w3.org/2000/svg}text")]


def test_every_trace_should_have_a_panel_with_every_scaler() -> None:
    results = {
        (trace, name): Result(trace=trace, scaler=name, node_hours=[place + 1.0], p95=[10.0 * place], p99=[0.0])
        for trace in TRACES
        for place, name in enumerate((*PEERS, *PRESETS))
    }
    picture = plots.points(results)
    shown = texts(picture)
    assert set(TRACES) <= set(shown)
    for letter in plots.LETTERS.values():
        assert shown.count(letter) == len(TRACES) + 1  # and in the legend
    assert picture.count("<circle") == len(PRESETS) * len(TRACES) + 1
    assert len(picture) < LARGEST


def test_the_nodes_of_two_scalers_should_be_drawn_below_the_requests() -> None:
    trace = Trace("made", [float(at) for at in range(0, 7200, 2)], [300.0] * 3600)
    steps = [(10.0, 2), (3000.0, 12), (7000.0, 0)]
    found = Outcome(waits=[], served=[], node_hours=0.0, starts=0, nodes=steps)
    picture = plots.nodes(trace, {"KEDA": found, "balanced": found})
    assert {"KEDA", "balanced", "10", "requests per second (highest 0.5)"} <= set(texts(picture))
    assert len(picture) < LARGEST
