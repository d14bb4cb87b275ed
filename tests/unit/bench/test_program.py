"""The program's scaler in the simulation sees what it would see of gateways that report every ten seconds."""

from bench.scaler.policies import Wish
from bench.scaler.program import Program
from tests.unit.bench.loads import StillLoad


def looked(policy: Program, load: StillLoad, *, called: bool = False) -> int | None:
    wish = policy.look(load, called=called)
    return None if wish is None else wish.nodes


def test_a_sweep_should_see_the_report_before_it_and_not_the_load_of_now() -> None:
    policy = Program("balanced")
    load = StillLoad(ready=1)
    assert [looked(policy, load), looked(policy, load)] == [None, None]
    load.running, load.running_mean = 33, 33.0
    assert looked(policy, load) == 0
    assert [looked(policy, load), looked(policy, load), looked(policy, load)] == [None, None, 3]


def test_a_nudge_should_see_the_load_of_now() -> None:
    policy = Program("balanced")
    assert looked(policy, StillLoad(held=1), called=True) == 1
    assert (policy.nudge_interval, policy.wakes_at_zero) == (10.0, False)


def test_looks_every_ten_seconds_should_see_the_load_of_now() -> None:
    policy = Program("balanced", fresh=True)
    assert looked(policy, StillLoad(running=33, running_mean=33.0, ready=1)) == 3


def test_the_expected_start_should_follow_the_starts_there_were() -> None:
    """A start of 240 s is long overdue after 500 s, one of 590 s is not."""

    def wish(*starts: float) -> Wish | None:
        load = StillLoad(held=100, start_ages=[500.0], starts=list(starts))
        return Program("balanced").look(load, called=True)

    assert wish() == Wish(4, 0)
    assert wish(*[590.0] * 10) == Wish(1, 0)
