"""What a gateway tells of an endpoint's load: counts of windows that slide, a mean, and durations that can be used."""

from collections.abc import Mapping

import pytest

from gateway.load import Load
from gateway.snapshot import Endpoint


class _Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_arrivals_should_be_counted_in_windows_that_slide() -> None:
    clock = _Clock()
    load = Load(clock)
    for _ in range(3):
        load.arrived("ep")
    clock.now += 45
    load.arrived("ep")
    assert load.arrivals("ep") == {30: 1, 60: 4, 120: 4, 240: 4}
    clock.now += 60
    assert load.arrivals("ep") == {30: 0, 60: 0, 120: 4, 240: 4}
    clock.now += 140
    assert load.arrivals("ep") == {30: 0, 60: 0, 120: 0, 240: 1}
    assert load.arrivals("other") == {30: 0, 60: 0, 120: 0, 240: 0}


def test_what_runs_should_be_a_mean_of_the_last_minute() -> None:
    clock = _Clock()
    load = Load(clock)
    assert load.running_mean("ep") == 0.0
    for running in (4, 8, 0):
        load.sample("ep", running)
        clock.now += 20
    assert load.running_mean("ep") == 4.0
    load.sample("ep", 1)
    assert load.running_mean("ep") == 3.0, "the first sample is a minute old"


def test_durations_on_crowded_nodes_should_not_count_and_the_latest_should_weigh_a_fiftieth() -> None:
    load = Load(_Clock())
    assert load.timed("ep") == (0, None)
    load.served("ep", 10.0, outstanding=7, target=7)
    load.served("ep", 99.0, outstanding=8, target=7)
    assert load.timed("ep") == (1, 10.0)
    load.served("ep", 60.0, outstanding=1, target=7)
    assert load.timed("ep") == (2, 11.0)


@pytest.mark.parametrize(("known", "left"), [({}, 0), ({"chat": "ep"}, 1), ({"chat": "ep-of-another"}, 0)])
def test_endpoints_that_are_gone_should_be_forgotten(known: Mapping[str, str], left: int) -> None:
    load = Load(_Clock())
    load.arrived("ep")
    made = {
        name: Endpoint(name=name, model="m", replicas=1, starting=0, landing=1.0, nodes=(), keys=(), endpoint_id=one)
        for name, one in known.items()
    }
    load.forget_others(made)
    assert load.arrivals("ep")[30] == left
