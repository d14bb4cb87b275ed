"""The model of docs/scale.md: what it says follows from its counts and limits."""

from dataclasses import replace

import pytest

from bench.scale import SIMULATED, Costs, Given, bounds, looks, real_launch
from shared.lifecycle.timeouts import Timeouts


def test_looks_should_come_less_often_the_longer_a_phase_lasts() -> None:
    counts = [looks(seconds, Timeouts()) for seconds in (0, 3, 180, 1800)]
    assert counts[:2] == [0, 1]
    assert counts[2] > 180 / 15
    assert counts[3] - counts[2] == pytest.approx((1800 - 180) / 15, abs=2)


def test_a_real_launch_should_take_more_than_a_simulated_one_by_its_looks_and_its_node_s_words() -> None:
    launch = real_launch()
    more = launch.sends - SIMULATED.sends + launch.calls
    assert more == (launch.table_requests - SIMULATED.table_requests) / 2 > 100
    quick = real_launch(fetching=60)
    assert (quick.sends, quick.calls) == (launch.sends, launch.calls - 60)


def test_the_first_limit_should_be_skypilot_s_workers_and_then_storage() -> None:
    found = bounds(real_launch())
    assert found[0].what.startswith("SkyPilot")
    assert found[0].per_minute == pytest.approx(2 / 3)
    assert all((one.per_minute or 1e9) > 100 for one in found[1:])
    nodes = {one.what: one.nodes for one in found if one.nodes is not None}
    assert min(nodes, key=lambda what: nodes[what]) == "one partition of Table Storage"


def test_more_workers_should_move_their_limit_alone() -> None:
    more = {one.what: one for one in bounds(real_launch(), replace(Given(), sky_long_workers=4))}
    for one in bounds(real_launch()):
        factor = 2 if one.what.startswith("SkyPilot") else 1
        if one.per_minute is not None:
            assert more[one.what].per_minute == pytest.approx(factor * one.per_minute)


def test_costs_should_grow_with_what_is_taken() -> None:
    costs = Costs()
    assert sum(costs.launches(real_launch())) > sum(costs.launches(SIMULATED)) > 0
    assert costs.node_month(1)[0] > costs.node_month(1000)[0]


def test_an_idle_month_should_be_free_but_for_its_storage() -> None:
    storage, executions, after_grants = Costs().idle_month()
    assert 0 < storage < 0.05
    assert executions > 1
    assert after_grants == 0.0
