"""Traces are the same for the same seed, and are what their names say."""

import random
from itertools import pairwise
from pathlib import Path
from statistics import median

import pytest

from bench.scaler import recorded, traces
from bench.scaler.traces import HOUR


@pytest.fixture(scope="module")
def made() -> dict[str, traces.Trace]:
    return {one.name: one for one in traces.made(1)}


def count(trace: traces.Trace, begins: float, ends: float) -> int:
    return sum(begins <= at < ends for at in trace.at)


def test_a_seed_should_draw_the_same_traces_and_another_others(made: dict[str, traces.Trace]) -> None:
    assert [one.at for one in traces.made(1)] == [one.at for one in made.values()]
    assert traces.made(2)[0].at != made["steps"].at


def test_times_should_ascend_and_each_request_should_have_work(made: dict[str, traces.Trace]) -> None:
    for trace in made.values():
        assert all(one <= other for one, other in pairwise(trace.at))
        assert len(trace.work) == len(trace.at)
        assert min(trace.work) > 0


def test_rates_should_be_those_of_the_shapes(made: dict[str, traces.Trace]) -> None:
    assert count(made["steps"], 3000, 6000) / 3000 == pytest.approx(6.0, rel=0.05)
    assert count(made["steps"], 9000, 11_400) == 0
    assert count(made["spikes"], 2550, 2700) / 150 == pytest.approx(10.0, rel=0.1)
    assert count(made["daily"], 12.5 * HOUR, 13.5 * HOUR) > 20 * count(made["daily"], 2 * HOUR, 3 * HOUR)
    assert 20 <= len(made["sparse"].at) <= 20 * 60


def test_lengths_should_be_those_of_conversations() -> None:
    draw = random.Random(1)
    work = [traces.work_of(draw) for _ in range(5000)]
    assert median(work) == pytest.approx(140 + 900 / 20, rel=0.2)


def test_azures_rows_should_become_times_from_a_minute_on_and_work(tmp_path: Path) -> None:
    path = tmp_path / "azure.csv"
    path.write_text(
        "TIMESTAMP,ContextTokens,GeneratedTokens\n"
        "2023-11-16 18:59:59.5000000,200,40\n2023-11-16 19:00:01.7500000,20,9\n",
        "utf-8",
    )
    found = recorded.azure("azure", path)
    assert found.at == pytest.approx([60.0, 62.25])
    assert found.work == [50.0, 10.0]


def test_servegens_clients_should_come_in_their_windows_as_often_as_asked_for(tmp_path: Path) -> None:
    day = 24 * HOUR
    laws = {"a": "Gamma,0.5,2", "b": "Weibull,0.8,1"}
    for name, law in laws.items():
        rows = [f"{day + window * 600},{1 + window},1,{law}" for window in range(3)]
        (tmp_path / f"{name}-trace.csv").write_text("\n".join(["0,5,1," + law, "600,0,0,,0,0", *rows]) + "\n", "utf-8")
    found = recorded.servegen(tmp_path, 1, day=1, hours=0.5)
    assert len(found.at) == pytest.approx(recorded.MEAN_RATE * 1800, rel=0.1)
    assert count(found, 1200, 1800) / count(found, 0, 600) == pytest.approx(3.0, rel=0.2)
    assert found.at == recorded.servegen(tmp_path, 1, day=1, hours=0.5).at
