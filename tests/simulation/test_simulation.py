"""The simulation: two hundred seeds with every test run, two thousand with `make simulate`; each can be replayed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.simulation.world import play

FEW, MANY, CHUNK = 200, 2000, 50
ROOT = Path(__file__).parents[2]


def _run(first: int, count: int) -> None:
    bad = [outcome for outcome in map(play, range(first, first + count)) if outcome.violations]
    assert not bad, "\n".join(f"make simulate SEED={outcome.seed}: {outcome.violations[0]}" for outcome in bad)


@pytest.mark.parametrize("first", range(1, FEW + 1, CHUNK))
def test_nothing_should_be_lost_or_left_running(first: int) -> None:
    _run(first, CHUNK)


@pytest.mark.simulation
@pytest.mark.parametrize("first", range(1, MANY + 1, CHUNK))
def test_nothing_should_be_lost_or_left_running_in_two_thousand_seeds(first: int) -> None:
    _run(first, CHUNK)


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
    code = f"from tests.simulation.world import play; print(*(play(seed).digest for seed in {seeds}))"
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, check=True, capture_output=True, text=True
    )
    assert done.stdout.split() == [play(seed).digest for seed in seeds]
