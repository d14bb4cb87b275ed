"""Seeds with endpoints: a few with every test run, a hundred with `make simulate-ci`, and their planted bugs."""

from collections import Counter
from collections.abc import Iterable
from contextlib import closing

import pytest

from tests.simulation.endpoints.mutations import ENDPOINT_MUTATIONS
from tests.simulation.reached import REACHED_WITH_ENDPOINTS
from tests.simulation.seeds import play_all
from tests.simulation.simulator import Outcome, play

FEW, MANY, WITHIN = 4, 100, 2000


def _all_well(outcomes: Iterable[Outcome]) -> None:
    bad = [outcome for outcome in outcomes if outcome.violations]
    assert not bad, "\n".join(
        f"make simulate ENDPOINTS=1 SEED={outcome.seed}: {outcome.violations[0]}" for outcome in bad
    )


def _find(name: str) -> Outcome | None:
    with closing(play_all(range(1, WITHIN + 1), mutation=name, endpoints=True)) as outcomes:
        return next((outcome for outcome in outcomes if outcome.violations), None)


def test_requests_and_replicas_should_come_to_their_end() -> None:
    _all_well(play(seed, endpoints=True) for seed in range(1, FEW + 1))


@pytest.mark.simulation
@pytest.mark.timeout(1800)
def test_a_hundred_seeds_should_be_well_and_come_to_everything_that_can_happen() -> None:
    outcomes = list(play_all(range(1, MANY + 1), jobs=2, endpoints=True))
    _all_well(outcomes)
    times = Counter(name for outcome in outcomes for name in outcome.reached)
    assert [name for name in REACHED_WITH_ENDPOINTS if not times[name]] == []


def test_a_seed_should_decide_everything() -> None:
    once, again = (play(3, detailed=True, endpoints=True) for _ in range(2))
    assert (once.digest, once.trace, once.details) == (again.digest, again.trace, again.details)
    assert play(3).digest != once.digest


def test_a_coarse_planted_bug_should_be_found_at_once() -> None:
    found = _find("endpoints_are_removed_before_their_replicas")
    assert found is not None
    assert found.seed <= 20


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("name", sorted(ENDPOINT_MUTATIONS))
def test_a_planted_bug_should_be_found(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    found = _find(name)
    assert found is not None, f"{name} was not found in {WITHIN} seeds"
    with capsys.disabled():
        print(f"\n{name}: seed {found.seed}, {found.violations[0]}")
