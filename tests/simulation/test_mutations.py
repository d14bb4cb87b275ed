"""Planted bugs: a simulation that finds none of them would prove nothing."""

import pytest

from tests.simulation.broken_promises import MUTATIONS
from tests.simulation.simulator import Outcome, play

WITHIN = 2000


def find(name: str) -> Outcome | None:
    with pytest.MonkeyPatch.context() as patch:
        MUTATIONS[name](patch)
        return next((outcome for outcome in map(play, range(1, WITHIN + 1)) if outcome.violations), None)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("name", sorted(MUTATIONS))
def test_a_planted_bug_should_be_found(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    found = find(name)
    assert found is not None, f"{name} was not found in {WITHIN} seeds"
    with capsys.disabled():
        print(f"\n{name}: seed {found.seed}, {found.violations[0]}")


@pytest.mark.parametrize("name", ["ended_before_the_node_is_gone", "no_adoption", "failover_without_release"])
def test_a_coarse_planted_bug_should_be_found_at_once(name: str) -> None:
    found = find(name)
    assert found is not None
    assert found.seed <= 50
