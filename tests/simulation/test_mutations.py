"""Planted bugs: a simulation that finds none of them would prove nothing."""

from collections.abc import Sequence
from contextlib import closing

import pytest

from tests.simulation.mutations_of_kinds import MUTATIONS, ONLY
from tests.simulation.seeds import ALL_MUTATIONS, planted, play_all
from tests.simulation.simulator import Outcome

WITHIN = 2000


def find(name: str, without: Sequence[str] = ()) -> Outcome | None:
    with closing(play_all(range(1, WITHIN + 1), mutation=name, without=without)) as outcomes:
        return next((outcome for outcome in outcomes if outcome.violations), None)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("name", sorted(MUTATIONS))
def test_a_planted_bug_should_be_found(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    found = find(name)
    assert found is not None, f"{name} was not found in {WITHIN} seeds"
    with capsys.disabled():
        print(f"\n{name}: seed {found.seed}, {found.violations[0]}")


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(("name", "kind"), sorted(ONLY.items()))
def test_a_planted_bug_should_be_found_by_its_kind_of_fault_alone(name: str, kind: str) -> None:
    assert find(name, without=[kind]) is None


@pytest.mark.parametrize("name", sorted(ALL_MUTATIONS))
def test_what_a_planted_bug_changes_should_be_there(name: str) -> None:
    with planted(name):
        pass


@pytest.mark.parametrize("name", ["ended_before_the_node_is_gone", "failover_without_release"])
def test_a_coarse_planted_bug_should_be_found_at_once(name: str) -> None:
    found = find(name)
    assert found is not None
    assert found.seed <= 100
