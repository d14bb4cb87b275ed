"""Many seeds, in one process or several: what becomes of a seed does not depend on it."""

import multiprocessing
from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

import pytest

from tests.simulation.endpoints.mutations import ENDPOINT_MUTATIONS
from tests.simulation.mutations_of_kinds import MUTATIONS
from tests.simulation.simulator import Outcome, play

ALL_MUTATIONS = MUTATIONS | ENDPOINT_MUTATIONS
_AT_ONCE = 8
"""Seeds handed to a process at a time: a second of work."""


def play_all(
    seeds: Iterable[int],
    jobs: int = 1,
    mutation: str | None = None,
    without: Sequence[str] = (),
    *,
    endpoints: bool = False,
) -> Generator[Outcome]:
    """Run seeds in so many processes; outcomes come in the order of the seeds, without traces.

    `mutation` is the name of a planted bug, `without` those of rates that are to be zero. Closing the generator ends
    the processes.
    """
    summary = partial(_summary, without=without, endpoints=endpoints)
    if jobs == 1:
        with planted(mutation):
            yield from map(summary, seeds)
        return
    # Spawned processes share no state with this one, and start the same way on every system.
    pool = multiprocessing.get_context("spawn").Pool(jobs, _plant, (mutation,))
    with pool:
        yield from pool.imap(summary, seeds, _AT_ONCE)


@contextmanager
def planted(mutation: str | None) -> Generator[None]:
    """The program with a planted bug, or as it is."""
    with pytest.MonkeyPatch.context() as patch:
        if mutation is not None:
            ALL_MUTATIONS[mutation](patch)
        yield


def _plant(mutation: str | None) -> None:
    if mutation is not None:
        ALL_MUTATIONS[mutation](pytest.MonkeyPatch())


def _summary(seed: int, without: Sequence[str], *, endpoints: bool) -> Outcome:
    return replace(play(seed, without=without, endpoints=endpoints), trace=[], details=[])
