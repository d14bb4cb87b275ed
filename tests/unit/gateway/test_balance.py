"""Which node gets a request, and that every place is given back once, whatever becomes of the request."""

import random

import pytest

from gateway.balance import ERRORS, FIRST_PAUSE, LONGEST_PAUSE, OLD_SECONDS, WITHIN, Balancer, NodeLease
from gateway.snapshot import Node


class Seconds:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def node(number: int, attempt: int = 1, **given: object) -> Node:
    fields: dict[str, object] = {"base": "http://10.0.0.1:8000", "key": "k", "model": "m", "slots": 4}
    return Node(instance_id=f"inst-{number}", attempt=attempt, **(fields | given))  # type: ignore[arg-type]


def lease(balancer: Balancer, *nodes: Node, excluded: tuple[Node, ...] = ()) -> NodeLease:
    found = balancer.lease(nodes, [one.name for one in excluded])
    assert found is not None
    return found


@pytest.fixture
def clock() -> Seconds:
    return Seconds()


@pytest.fixture
def balancer(clock: Seconds) -> Balancer:
    return Balancer(clock)


def test_the_node_with_the_fewest_requests_should_get_the_next(balancer: Balancer) -> None:
    first, second = node(1), node(2)
    lease(balancer, first)
    lease(balancer, first)
    assert [lease(balancer, first, second).node for _ in range(2)] == [second, second]


def test_what_other_gateways_have_on_a_node_should_count_too(balancer: Balancer) -> None:
    first, second = node(1), node(2)
    balancer.learn({"inst-1": 2, "inst-9": 7}, gateways=2)
    assert [lease(balancer, first, second).node for _ in range(3)] == [second, second, first]


def test_a_node_that_other_gateways_have_filled_should_still_take_this_ones_share(balancer: Balancer) -> None:
    only = node(1)
    balancer.learn({"inst-1": 4}, gateways=3)
    assert balancer.free([only]) == 2, "four slots among three, rounded up"
    lease(balancer, only)
    lease(balancer, only)
    assert balancer.lease([only]) is None


@pytest.mark.parametrize(("others", "room"), [(0, 4), (1, 3), (2, 2), (3, 2)])
def test_what_others_leave_free_should_be_taken_beyond_the_share(balancer: Balancer, others: int, room: int) -> None:
    balancer.learn({"inst-1": others}, gateways=2)
    assert balancer.free([node(1)]) == room


def test_what_others_reported_long_ago_should_not_be_believed(balancer: Balancer, clock: Seconds) -> None:
    balancer.learn({"inst-1": 4}, gateways=2)
    clock.now = OLD_SECONDS
    assert balancer.free([node(1)]) == 2
    clock.now += 0.1
    assert balancer.free([node(1)]) == 4


def test_whoever_waits_should_hear_of_what_others_have_left(balancer: Balancer) -> None:
    woken: list[int] = []
    balancer.on_release = lambda: woken.append(balancer.free([node(1)]))
    balancer.learn({"inst-1": 4}, gateways=2)
    balancer.learn({}, gateways=1)
    assert woken == [2, 4]


def test_ties_should_be_taken_in_turn(balancer: Balancer) -> None:
    nodes = [node(number) for number in range(3)]
    got: list[Node] = []
    for _ in range(6):
        one = lease(balancer, *nodes)
        got.append(one.node)
        one.release()
    assert got == nodes * 2


def test_no_node_should_get_more_than_its_slots(balancer: Balancer) -> None:
    only = node(1)
    held = [lease(balancer, only) for _ in range(4)]
    assert balancer.lease([only]) is None
    assert balancer.free([only]) == 0
    held[0].release()
    assert balancer.lease([only]) is not None


def test_draining_and_excluded_nodes_should_get_none(balancer: Balancer) -> None:
    draining, failed, good = node(1, draining=True), node(2), node(3)
    assert lease(balancer, draining, failed, good, excluded=(failed,)).node == good
    assert balancer.lease([draining, failed], [failed.name]) is None


def test_a_second_release_should_give_nothing_back(balancer: Balancer) -> None:
    only = node(1)
    one, _ = lease(balancer, only), lease(balancer, only)
    one.release()
    one.release()
    assert balancer.outstanding(only) == 1


def test_another_attempt_at_the_same_address_should_start_at_zero(balancer: Balancer) -> None:
    lease(balancer, node(1, attempt=1))
    assert balancer.outstanding(node(1, attempt=2)) == 0


def test_a_node_that_cannot_be_reached_should_rest_twice_as_long_each_time(balancer: Balancer, clock: Seconds) -> None:
    only, pause = node(1), FIRST_PAUSE
    for _ in range(8):
        balancer.failed(only, connection=True)
        clock.now += pause - 0.1
        assert balancer.lease([only]) is None
        clock.now += 0.2
        lease(balancer, only).release()
        pause = min(2 * pause, LONGEST_PAUSE)
    balancer.succeeded(only)
    balancer.failed(only, connection=True)
    clock.now += FIRST_PAUSE
    assert balancer.lease([only]) is not None


def test_a_few_errors_should_pause_a_node_and_rare_ones_not(balancer: Balancer, clock: Seconds) -> None:
    often, rarely = node(1), node(2)
    for _ in range(ERRORS):
        balancer.failed(often, connection=False)
    assert balancer.free([often, rarely]) == rarely.slots
    for _ in range(2 * ERRORS):
        balancer.failed(rarely, connection=False)
        clock.now += WITHIN
        balancer.succeeded(often)
    assert balancer.free([often, rarely]) == often.slots + rarely.slots


def test_requests_that_only_get_errors_should_not_close_an_endpoint(balancer: Balancer, clock: Seconds) -> None:
    """Whoever has one key of an endpoint could pause all its nodes for the others."""
    first, second = node(1), node(2)
    for one in (first, second):
        for _ in range(ERRORS):
            balancer.failed(one, connection=False)
    assert balancer.free([first, second]) == 8
    assert {lease(balancer, first, second).node for _ in range(2)} == {first, second}
    clock.now = FIRST_PAUSE
    balancer.failed(first, connection=True)
    assert [lease(balancer, first, second).node for _ in range(3)] == [second] * 3


def test_a_node_that_gets_errors_should_be_left_alone_while_others_are_there_though_full(balancer: Balancer) -> None:
    first, second = node(1), node(2, slots=1)
    for _ in range(ERRORS):
        balancer.failed(first, connection=False)
    lease(balancer, first, second)
    assert balancer.lease([first, second]) is None
    assert balancer.free([first, second]) == 0


def test_nodes_that_cannot_be_reached_should_get_none_though_all_are_so(balancer: Balancer) -> None:
    first = node(1)
    balancer.failed(first, connection=True)
    assert balancer.lease([first]) is None
    assert balancer.free([first]) == 0


def test_a_node_that_got_errors_should_get_none_once_it_cannot_be_reached(balancer: Balancer) -> None:
    for _ in range(3):
        balancer.failed(node(1), connection=False)
    assert balancer.lease([node(1)]) is not None
    balancer.failed(node(1), connection=True)
    assert balancer.lease([node(1)]) is None


def test_nodes_that_no_longer_exist_should_be_forgotten_and_their_requests_not(balancer: Balancer) -> None:
    gone = node(1)
    held = lease(balancer, gone)
    balancer.failed(gone, connection=True)
    balancer.forget_others([])
    assert balancer.outstanding(gone) == 1
    held.release()
    balancer.forget_others([])
    assert balancer.in_flight == 0


@pytest.mark.parametrize("seed", range(20))
def test_after_any_interleaving_all_counters_should_be_zero(seed: int, balancer: Balancer, clock: Seconds) -> None:
    dice = random.Random(seed)
    held: list[NodeLease] = []
    for _ in range(500):
        nodes = [node(dice.randrange(4), dice.randrange(1, 3), draining=dice.random() < 0.2) for _ in range(3)]
        what = dice.random()
        if what < 0.5:
            found = balancer.lease(nodes)
            held += [found] if found else []
        elif what < 0.9 and held:
            one = held.pop(dice.randrange(len(held)))
            if dice.random() < 0.5:
                balancer.failed(one.node, connection=dice.random() < 0.5)
            for _ in range(dice.randrange(1, 3)):
                one.release()
        else:
            balancer.forget_others([one.name for one in nodes])
            clock.now += dice.random() * 30
        assert balancer.in_flight == len(held)
    for one in held:
        one.release()
    assert balancer.in_flight == 0
