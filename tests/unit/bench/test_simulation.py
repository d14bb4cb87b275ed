"""The simulation of scalers: outcomes computed by hand, and nothing lost, served twice or paid for unseen."""

from collections.abc import Callable, Iterator
from itertools import pairwise, repeat

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.scaler.nodes import SLOTS, Node
from bench.scaler.policies import Load, Wish
from bench.scaler.simulation import TAIL_SECONDS, Outcome, simulate
from bench.scaler.traces import Trace


class Scripted:
    """So many nodes from each time on, decided every ten seconds; `looks` has (time, called, held)."""

    def __init__(self, *nodes: tuple[float, int], nudge: float | None = None, at_zero: bool = False) -> None:
        self.interval = 10.0
        self.wakes_at_zero, self.nudge_interval = at_zero, nudge
        self.nodes = nodes
        self.looks: list[tuple[float, bool, int]] = []
        self.seen: list[tuple[float, ...]] = []

    def look(self, load: Load, *, called: bool) -> Wish | None:
        self.looks.append((load.now, called, load.held))
        self.seen.append((load.now, load.arrivals(30), load.completions(30), load.running))
        return Wish([count for since, count in self.nodes if since <= load.now][-1])


def played(at: list[float], policy: Scripted, work: float = 300.0, start: float = 100.0) -> Outcome:
    """Requests of ten seconds each on a node that is not crowded."""
    return simulate(Trace("made", at, [work] * len(at)), policy, repeat(start))


class TestNode:
    def test_ten_should_run_at_full_speed_and_twenty_would_take_twice_as_long(self) -> None:
        for count, seconds in ((1, 10.0), (10, 10.0), (15, 15.0)):
            node = Node(0.0, 0.0)
            for request in range(count):
                node.serve(request, 300.0, 0.0)
            assert node.next_end == pytest.approx(seconds)

    def test_one_that_joins_should_slow_down_the_others_from_then_on_only(self) -> None:
        node = Node(0.0, 0.0)
        for request in range(10):
            node.serve(request, 300.0, 0.0)
        for request in range(10, 15):
            node.serve(request, 300.0, 5.0)  # half is done, the rest runs at 20 a second
        assert node.next_end == pytest.approx(5.0 + 150 / 20)
        assert node.finish(node.next_end) < 10


class TestWaiting:
    def test_the_first_request_should_wait_for_the_start_and_the_next_for_none(self) -> None:
        found = played([7.0, 120.0], Scripted((0, 0), (10, 1)))
        assert found.waits == pytest.approx([103.0, 0.0])

    def test_a_request_beyond_the_slots_should_wait_for_one_that_ends(self) -> None:
        found = played([200.0] * (SLOTS + 1), Scripted((0, 1)))
        assert found.waits[:SLOTS] == [0.0] * SLOTS
        assert found.waits[SLOTS] == pytest.approx(16.0)  # 16 share what makes ten fast

    def test_a_request_that_finds_no_node_should_be_able_to_call_for_a_look(self) -> None:
        assert played([7.0], Scripted((0, 0), (7, 1), at_zero=True)).waits == pytest.approx([100.0])

    def test_one_that_no_node_takes_should_have_waited_until_the_end(self) -> None:
        found = played([7.0], Scripted((0, 0)))
        assert (found.waits, found.served) == ([TAIL_SECONDS], [0])


class TestNudges:
    def test_they_should_come_at_once_then_every_ten_seconds_while_requests_are_held(self) -> None:
        policy = Scripted((0, 0), (3, 1), nudge=10.0)
        played([3.0, 3.5, 4.0], policy, start=25.0)
        assert [at for at, called, _ in policy.looks if called] == pytest.approx([3.0, 13.0, 23.0])

    def test_none_should_come_while_no_request_is_held(self) -> None:
        policy = Scripted((0, 1), nudge=10.0)
        played([200.0, 201.0], policy)
        assert not [at for at, called, _ in policy.looks if called]

    @pytest.mark.parametrize(("again", "called"), [(203.0, [200.0]), (209.0, [200.0, 210.0]), (211.0, [200.0, 211.0])])
    def test_a_second_queue_soon_after_the_first_should_wait_for_its_turn(
        self, again: float, called: list[float]
    ) -> None:
        policy = Scripted((0, 1), nudge=10.0)
        # Each burst is over after two times 1.6 s: the last one waits for one of the first sixteen.
        played([*[200.0] * (SLOTS + 1), *[again] * (SLOTS + 1)], policy, work=30.0)
        assert [at for at, one, _ in policy.looks if one] == pytest.approx(called)


class TestPaying:
    def test_a_node_should_be_paid_for_from_its_start_until_its_last_request_has_ended(self) -> None:
        found = played([125.0], Scripted((0, 1), (130, 0)))
        assert found.node_hours == pytest.approx(135 / 3600)

    def test_a_start_that_is_given_up_should_be_paid_for_until_then(self) -> None:
        found = played([1.0], Scripted((0, 2), (50, 1), (100, 1)))
        assert found.node_hours * 3600 == pytest.approx(50 + 1.0 + TAIL_SECONDS)

    def test_a_node_that_drains_should_be_taken_back_before_another_is_started(self) -> None:
        found = played([125.0], Scripted((0, 1), (130, 0), (134, 1)), work=900.0)
        assert (found.starts, found.node_hours * 3600) == (1, pytest.approx(125 + TAIL_SECONDS))


class TestFigures:
    def test_windows_should_count_what_came_and_ended_in_them(self) -> None:
        policy = Scripted((0, 1))
        played([101.0, 102.0, 115.0], policy)
        seen = {at: tuple(figures) for at, *figures in policy.seen}
        assert seen[110.0] == (2, 0, 2)
        assert seen[120.0] == (3, 2, 1)
        assert seen[130.0] == (3, 3, 0)
        assert seen[140.0] == (1, 3, 0)


@st.composite
def scripts(draw: st.DrawFn) -> tuple[list[float], list[tuple[float, int]]]:
    at = sorted(draw(st.lists(st.floats(0, 600), min_size=1, max_size=80)))
    nodes = [(0.0, draw(st.integers(0, 3)))]
    nodes += [
        (float(since), draw(st.integers(0, 3))) for since in sorted(draw(st.sets(st.integers(1, 700), max_size=8)))
    ]
    return at, [*nodes, (900.0, 1)]


@given(scripts(), st.floats(1, 400))
def test_every_request_should_be_served_once_and_every_node_paid_for(
    script: tuple[list[float], list[tuple[float, int]]], start: float
) -> None:
    at, nodes = script
    found = played(at, Scripted(*nodes), start=start)
    assert found.served == [1] * len(at)
    assert all(seconds >= 0 for seconds in found.waits)
    end = at[-1] + TAIL_SECONDS
    steps = [*found.nodes, (end, 0)]
    assert found.node_hours * 3600 == pytest.approx(
        sum(count * (until - since) for (since, count), (until, _) in pairwise(steps))
    )


def test_the_same_draws_should_give_the_same_outcome_and_others_another() -> None:
    def drawn(first: float) -> Callable[[], Iterator[float]]:
        return lambda: iter([first, 150.0, 60.0])

    def outcome(starts: Callable[[], Iterator[float]]) -> Outcome:
        trace = Trace("made", [5.0, 6.0, 300.0], [300.0] * 3)
        return simulate(trace, Scripted((0, 0), (10, 2)), starts())

    assert outcome(drawn(100.0)) == outcome(drawn(100.0))
    assert outcome(drawn(100.0)) != outcome(drawn(101.0))


def test_percentiles_should_lie_between_neighbours() -> None:
    found = Outcome(waits=[4.0, 1.0, 3.0, 2.0], served=[1] * 4, node_hours=0.0, starts=0, nodes=[])
    assert [found.percentile(of_100) for of_100 in (0, 50, 95, 100)] == pytest.approx([1.0, 2.5, 3.85, 4.0])
