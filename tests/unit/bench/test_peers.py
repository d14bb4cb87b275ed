"""Other scalers decide as their documentation says: each with a load that moves it and one that does not."""

import pytest

from bench.scaler.peers import Dstack, Keda, Knative, KubeAi, SkyServe
from bench.scaler.policies import Policy
from tests.unit.bench.loads import StillLoad


def nodes(policy: Policy, load: StillLoad, *, called: bool = False) -> int:
    wish = policy.look(load, called=called)
    assert wish is not None
    return wish.nodes


def over(policy: Policy, load: StillLoad, seconds: float) -> int:
    """What is asked for last while the load stays for so long; nodes that are asked for are there at once."""
    asked, end = load.total, load.now + seconds
    while load.now < end:
        asked = nodes(policy, load)
        load.ready = asked
        load.now += policy.interval
    return asked


class TestKeda:
    @pytest.mark.parametrize(("running", "expected"), [(33, 3), (36, 3), (37, 4), (30, 3), (66, 6), (110, 7)])
    def test_load_should_be_divided_by_the_target_with_a_tolerance_and_a_limit(
        self, running: int, expected: int
    ) -> None:
        assert nodes(Keda(), StillLoad(now=60, running=running, ready=3)) == expected

    def test_what_is_held_should_count(self) -> None:
        assert nodes(Keda(), StillLoad(now=60, running=11, held=44, ready=3)) == 5

    @pytest.mark.parametrize(("now", "expected"), [(15.0, 0), (30.0, 1)])
    def test_from_zero_it_should_wait_for_its_poll(self, now: float, expected: int) -> None:
        assert nodes(Keda(), StillLoad(now=now, held=500)) == expected

    @pytest.mark.parametrize(("seconds", "expected"), [(300.0, 6), (330.0, 2)])
    def test_fewer_should_be_asked_for_after_five_minutes(self, seconds: float, expected: int) -> None:
        policy, load = Keda(), StillLoad(now=60, running=66, ready=6)
        nodes(policy, load)
        load.running, load.now = 22, load.now + policy.interval
        assert over(policy, load, seconds) == expected


class TestKnative:
    def test_the_mean_of_a_minute_should_be_divided_by_the_target(self) -> None:
        assert over(Knative(), StillLoad(running=33, ready=3), 120) == 3

    def test_twice_as_much_as_is_ready_should_be_panic_in_which_it_never_falls(self) -> None:
        policy, load = Knative(), StillLoad(held=110, ready=3)
        assert nodes(policy, load) == 10
        load.now, load.held, load.ready = 2.0, 0, 10
        assert nodes(policy, load) == 10
        load.now = 90.0
        assert nodes(policy, load) == 5  # at most halved

    def test_it_should_keep_one_for_a_grace_before_zero(self) -> None:
        policy, load = Knative(), StillLoad(ready=1)
        assert (over(policy, load, 30), over(policy, load, 2)) == (1, 0)

    def test_a_delay_should_put_off_fewer(self) -> None:
        policy, load = Knative(300.0), StillLoad(running=33, ready=3)
        over(policy, load, 120)
        load.running = 11
        assert (over(policy, load, 300), over(policy, load, 100)) == (3, 1)


class TestKubeAi:
    def test_the_mean_of_ten_minutes_should_be_divided_by_the_target(self) -> None:
        policy, load = KubeAi(), StillLoad(running=33, ready=1)
        assert (over(policy, load, 200), over(policy, load, 400)) == (1, 3)

    def test_fewer_should_be_asked_for_at_the_fourth_look(self) -> None:
        policy, load = KubeAi(), StillLoad(ready=2)
        assert [nodes(policy, load) for _ in range(4)] == [2, 2, 2, 0]

    def test_a_request_without_a_node_should_start_one(self) -> None:
        assert nodes(KubeAi(), StillLoad(held=1), called=True) == 1


class TestSkyServe:
    def test_more_and_fewer_should_be_asked_for_when_called_for_long_enough(self) -> None:
        policy, load = SkyServe(11.0), StillLoad(came=60)
        assert nodes(policy, load) == 1  # a node is good for one a second
        load.came = 180
        assert (over(policy, load, 280), over(policy, load, 20)) == (1, 3)
        load.came = 60
        assert (over(policy, load, 1180), over(policy, load, 20)) == (3, 1)

    def test_a_queue_should_move_nothing(self) -> None:
        assert over(SkyServe(11.0), StillLoad(came=60, held=1000), 600) == 1


class TestDstack:
    def test_it_should_count_what_ends_and_wait_after_each_change(self) -> None:
        policy, load = Dstack(11.0), StillLoad(came=60)
        assert nodes(policy, load) == 1
        load.ready, load.came, load.ended = 1, 600, 180
        load.now = 10.0
        assert (over(policy, load, 290), over(policy, load, 10)) == (1, 3)
        load.ended = 60
        assert (over(policy, load, 590), over(policy, load, 20)) == (3, 1)
