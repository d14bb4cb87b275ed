"""The simulation: a hundred seeds with every test run, two thousand with `make simulate`; each can be replayed."""

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pytest

from tests.simulation.reached import REACHED
from tests.simulation.seeds import play_all
from tests.simulation.simulator import Outcome, play

FEW, MANY, CHUNK = 100, 2000, 50
ROOT = Path(__file__).parents[2]


def _all_well(outcomes: Iterable[Outcome]) -> None:
    bad = [outcome for outcome in outcomes if outcome.violations]
    assert not bad, "\n".join(f"make simulate SEED={outcome.seed}: {outcome.violations[0]}" for outcome in bad)


@pytest.mark.parametrize("first", range(1, FEW + 1, CHUNK))
def test_nothing_should_be_lost_or_left_running(first: int) -> None:
    _all_well(play(seed) for seed in range(first, first + CHUNK))


@pytest.mark.simulation
@pytest.mark.timeout(1800)
def test_two_thousand_seeds_should_be_well_and_come_to_everything_that_can_happen() -> None:
    outcomes = list(play_all(range(1, MANY + 1), jobs=2))
    _all_well(outcomes)
    times = Counter(name for outcome in outcomes for name in outcome.reached)
    assert [name for name in REACHED if not times[name]] == []


def test_a_seed_should_decide_everything() -> None:
    seeds = range(1, 11)
    once = [play(seed, detailed=True) for seed in seeds]
    again = [play(seed, detailed=True) for seed in seeds]
    assert [(one.digest, one.trace, one.details) for one in once] == [
        (one.digest, one.trace, one.details) for one in again
    ]
    assert len({one.digest for one in once}) == len(seeds)
    assert sum(len(one.trace) for one in once) > 500


@pytest.mark.parametrize("hash_seed", ["1", "2"])
def test_a_seed_should_decide_everything_in_another_process_too(hash_seed: str) -> None:
    seeds = (3, 7, 19)
    code = f"from tests.simulation.simulator import play; print(*(play(seed).digest for seed in {seeds}))"
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, check=True, capture_output=True, text=True
    )
    assert done.stdout.split() == [play(seed).digest for seed in seeds]


def test_a_seed_should_come_out_the_same_however_many_processes_share_the_seeds() -> None:
    outcomes = list(play_all(range(1, 25), jobs=2))
    assert [one.seed for one in outcomes] == list(range(1, 25))
    assert outcomes == list(play_all(range(1, 25)))


def test_processes_should_have_the_planted_bug_that_is_asked_for() -> None:
    outcomes = play_all(range(1, 51), jobs=2, mutation="ended_before_the_node_is_gone")
    assert any(outcome.violations for outcome in outcomes)
    outcomes.close()
